"""1:1 verification on `.bin` sets (LFW, CFP-FP, AgeDB-30, CALFW, CPLFW ...)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eval.bins import BinError, PairBin
from eval.embed import Embed, fit, flip_fusion
from eval.metrics import fold_accuracies, tar_at_far
from utils.jpeg import ImageError, decode

CHUNK = 512  # images decoded at a time: 19 MB


def verify(embed: Embed, pair_bin: PairBin, flip: bool = True, folds: int = 10) -> dict[str, float]:
    """InsightFace's verification numbers of one set.

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
    features, norms = [], []
    for start in range(0, len(pair_bin.jpegs), CHUNK):
        images = _decoded(pair_bin, start)
        u, z = flip_fusion(embed, images) if flip else embed(images)
        features.append(u.numpy())
        norms.append(z.numpy())
    u = np.concatenate(features)
    dist = np.square(u[0::2].astype(np.float64) - u[1::2]).sum(axis=1)
    accuracy, threshold = fold_accuracies(dist, pair_bin.issame, folds)
    result = {
        "accuracy": float(accuracy.mean()),
        "accuracy_std": float(accuracy.std()),
        "threshold": float(threshold.mean()),
        "xnorm": float(np.concatenate(norms).mean(dtype=np.float64)),
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


def _decoded(pair_bin: PairBin, start: int) -> np.ndarray:
    """(n, 112, 112, 3) uint8 RGB: the images from `start` on, at most CHUNK."""
    jpegs = pair_bin.jpegs[start : start + CHUNK]
    images = np.empty((len(jpegs), 112, 112, 3), np.uint8)
    for offset, jpeg in enumerate(jpegs):
        try:
            images[offset] = fit(decode(jpeg))
        except ImageError as error:
            raise BinError(
                f"{pair_bin.name}.bin: image {start + offset} of {len(pair_bin.jpegs)} cannot be used ({error}); "
                "write the set again from whole images"
            ) from None
    return images
