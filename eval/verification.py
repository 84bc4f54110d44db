"""1:1 verification on `.bin` sets (LFW, CFP-FP, AgeDB-30, CALFW, CPLFW ...)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eval.bins import BinError, PairBin
from eval.embed import Embed, fit, flip_fusion
from eval.metrics import fold_accuracies, tar_at_far
from utils import jpeg, parallel

CHUNK = 512  # images decoded at a time: 19 MB


def verify(embed: Embed, pair_bin: PairBin, flip: bool = True, folds: int = 10) -> dict[str, float]:
    """InsightFace's verification numbers of one set; with several ranks each embeds its share of the images.

    Args:
        embed: (n, 112, 112, 3) uint8 RGB -> unit features u (n, D) and norms z (n,).
        flip: add the features of the mirrored images.

    Returns:
        `accuracy` and `accuracy_std` over folds, `tar@far=1e-3` (folds' mean): fractions; `threshold` (squared
        distance, folds' mean), `xnorm` (mean norm), `pairs`. A set of matched or of mismatched pairs only has no
        `tar@far=1e-3`.

    Raises:
        BinError: an image cannot be decoded.
        ValueError: fewer pairs than folds, features that are not finite.
    """
    u, z = _features(embed, pair_bin, flip)
    dist = np.square(u[0::2].astype(np.float64) - u[1::2]).sum(axis=1)
    accuracy, threshold = fold_accuracies(dist, pair_bin.issame, folds)
    result = {
        "accuracy": float(accuracy.mean()),
        "accuracy_std": float(accuracy.std()),
        "threshold": float(threshold.mean()),
        "xnorm": float(z.mean(dtype=np.float64)),
        "pairs": len(dist),
    }
    if 0 < pair_bin.issame.sum() < len(dist):
        result["tar@far=1e-3"] = tar_at_far(dist, pair_bin.issame, 1e-3, folds)[0]
    return result


def find_bins(root: Path | str, targets: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """Where the verification sets are.

    Args:
        root: the folder that holds them.
        targets: names (`lfw` is `root/lfw.bin`) or paths of `.bin` files (from `root` or from the current folder).

    Returns:
        name -> path of those that are there, and the targets that are not.

    Raises:
        ValueError: two targets have one name.
    """
    found: dict[str, Path] = {}
    missing = []
    for target in targets:
        is_path = target.endswith(".bin")
        candidates = [Path(root) / target, Path(target)] if is_path else [Path(root) / f"{target}.bin"]
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            missing.append(target)
        elif path.stem in found:
            raise ValueError(
                f"two verification sets are named {path.stem!r}: {found[path.stem]} and {path}; rename one"
            )
        else:
            found[path.stem] = path
    return found, missing


def check_bin(pair_bin: PairBin, folds: int = 10) -> PairBin:
    """Find what `verify` would stumble over, without decoding: before a training, not after its first epoch.

    Raises:
        BinError: fewer pairs than folds, or an image that is none or is cut.
    """
    if len(pair_bin.issame) < folds:
        raise BinError(
            f"{pair_bin.name}.bin has {len(pair_bin.issame)} pairs: expected at least one for each of {folds} folds"
        )
    for index, image in enumerate(pair_bin.jpegs):
        try:
            jpeg.check(image)
        except jpeg.ImageError as error:
            raise _unusable(pair_bin, index, error) from None
    return pair_bin


def _unusable(pair_bin: PairBin, index: int, error: Exception) -> BinError:
    return BinError(
        f"{pair_bin.name}.bin: image {index} of {len(pair_bin.jpegs)} cannot be used ({error}); "
        "write the set again from whole images"
    )


def _features(embed: Embed, pair_bin: PairBin, flip: bool) -> tuple[np.ndarray, np.ndarray]:
    """u (2n, D) and z (2n,) of all images, alike on every rank."""
    first, end = parallel.share(len(pair_bin.jpegs), parallel.rank(), parallel.world_size())
    parts = []
    for start in range(first, end, CHUNK):
        images = _decoded(pair_bin, start, min(start + CHUNK, end))
        u, z = flip_fusion(embed, images) if flip else embed(images)
        parts.append((u.numpy(), z.numpy()))
    u, z = zip(*(part for parts in parallel.objects(parts) for part in parts), strict=True)
    return np.concatenate(u), np.concatenate(z)


def _decoded(pair_bin: PairBin, start: int, end: int) -> np.ndarray:
    """(end - start, 112, 112, 3) uint8 RGB."""
    jpegs = pair_bin.jpegs[start:end]
    images = np.empty((len(jpegs), 112, 112, 3), np.uint8)
    for offset, encoded in enumerate(jpegs):
        try:
            images[offset] = fit(jpeg.decode(encoded))
        except jpeg.ImageError as error:
            raise _unusable(pair_bin, start + offset, error) from None
    return images
