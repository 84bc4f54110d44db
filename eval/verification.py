"""1:1 verification on `.bin` sets (LFW, CFP-FP, AgeDB-30, CALFW, CPLFW ...)."""

import hashlib
from functools import cached_property

import numpy as np

from eval.bins import BinError, PairBin
from eval.confidence import interval, mean_replicates, standard_error
from eval.embed import fit
from eval.features import Features, expect, labelled_digest, unit
from eval.hardest import hardest_pairs
from eval.metrics import fold_accuracies, fold_of, tar_at_far
from eval.protocol import Result
from eval.quality import error_vs_discard, pair_quality, pauc, threshold_for_fnmr
from eval.roc import far_name, fars_for, roc_points, strict_tar
from utils import jpeg


class BinImages:
    """The images of a `.bin`: kept encoded, decoded as they are asked for.

    Raises:
        BinError: an image is none or is cut.
    """

    def __init__(self, pair_bin: PairBin):
        self.pair_bin = pair_bin
        self.names = [str(index) for index in range(len(pair_bin.jpegs))]
        for index, image in enumerate(pair_bin.jpegs):
            try:
                jpeg.check(image)
            except jpeg.ImageError as error:
                raise self._unusable(index, error) from None

    def __len__(self) -> int:
        return len(self.pair_bin.jpegs)

    def read(self, start: int, end: int) -> np.ndarray:
        """(end - start, 112, 112, 3) uint8 RGB.

        Raises:
            BinError: an image cannot be decoded.
        """
        jpegs = self.pair_bin.jpegs[start:end]
        images = np.empty((len(jpegs), 112, 112, 3), np.uint8)
        for offset, encoded in enumerate(jpegs):
            try:
                images[offset] = fit(jpeg.decode(encoded))
            except jpeg.ImageError as error:
                raise self._unusable(start + offset, error) from None
        return images

    def digest(self) -> str:
        """Of the encoded images and their order."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        """Asked for as the key of kept features and in the target's own digest."""
        sha = hashlib.sha256()
        for image in self.pair_bin.jpegs:
            sha.update(len(image).to_bytes(8, "little"))
            sha.update(image)
        return sha.hexdigest()

    def _unusable(self, index: int, error: Exception) -> BinError:
        return BinError(
            f"{self.pair_bin.name}.bin: image {index} of {len(self)} cannot be used ({error}); "
            "write the set again from whole images"
        )


class Verification:
    """InsightFace's verification protocol on one `.bin`.

    Raises:
        BinError: fewer pairs than folds, an image that is none or is cut.
    """

    version = 1

    def __init__(self, pair_bin: PairBin, folds: int = 10):
        check_folds(pair_bin, folds)
        self.name, self.issame, self.folds = pair_bin.name, pair_bin.issame, folds
        self.images = BinImages(pair_bin)

    def score(self, features: Features) -> Result:
        """Accuracies and rates as InsightFace computes them, on squared distances of unit features.

        Metrics: `accuracy`, `accuracy_std` over folds (as printed there) and `accuracy_se`, its standard error;
        `tar@far=1e-3` and lower decades where the set allows them (folds' mean), `strict_tar@far=1e-3` (no grid, no
        folds); `threshold` (folds' mean); `xnorm` (mean norm); `pairs`; `pauc`, of the error-versus-discard curve with
        the norm as quality. Those that need matched and mismatched pairs are left out where a set has but one kind.
        """
        expect(features, len(self.images), self.name)
        u = unit(features.h)
        dist, accuracy, threshold, right = verified(u[0::2], u[1::2], self.issame, self.folds)
        metrics = {
            "accuracy": float(accuracy.mean()),
            "accuracy_std": float(accuracy.std()),
            "accuracy_se": standard_error(accuracy),
            "threshold": float(threshold.mean()),
            "xnorm": float(features.z.mean(dtype=np.float64)),
            "pairs": len(dist),
        }
        evidence = {"dist": dist.astype(np.float32), "issame": self.issame, "right/accuracy": right}
        evidence |= hardest_pairs(dist, self.issame, *np.arange(2 * len(dist)).reshape(-1, 2).T)
        if 0 < self.issame.sum() < len(dist):
            metrics |= self._rates(dist)
            further, curves = self._curves(dist, features.z)
            metrics |= further
            evidence |= curves
        headline = ("accuracy", *(name for name in metrics if name.startswith("tar@")))
        return Result(metrics, headline, {"accuracy": interval(mean_replicates(right))}, evidence)

    def digest(self) -> str:
        """Of the images and of which pairs are matched."""
        return labelled_digest(self.images, self.issame)

    def _rates(self, dist: np.ndarray) -> dict[str, float]:
        rates = {}
        fars = fars_for(int((~self.issame).sum()))
        for far, strict in zip(fars, strict_tar(-dist[self.issame], -dist[~self.issame], fars), strict=True):
            rates[f"tar@far={far_name(far)}"] = tar_at_far(dist, self.issame, far, self.folds)[0]
            rates[f"strict_tar@far={far_name(far)}"] = float(strict)
        return rates

    def _curves(self, dist: np.ndarray, z: np.ndarray) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """ROC and error against discard; scores are distances with the sign changed."""
        genuine, impostor = -dist[self.issame], -dist[~self.issame]
        far, tar = roc_points(genuine, impostor)
        quality = pair_quality(z[0::2], z[1::2])[self.issame]
        curve = error_vs_discard(genuine, quality, threshold_for_fnmr(genuine))
        return {"pauc": pauc(curve)}, {"far": far, "tar": tar, "discarded": curve.discard, "fnmr": curve.fnmr}


def verified(
    first: np.ndarray, second: np.ndarray, issame: np.ndarray, folds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Unit features of both sides of n pairs (n, D) -> squared distances (n,) float64, accuracy and threshold of each
    fold (F,), and which pairs their fold's threshold decides rightly (n,) bool.
    """
    dist = np.square(first - second).sum(axis=1)
    accuracy, threshold = fold_accuracies(dist, issame, folds)
    return dist, accuracy, threshold, (dist < threshold[fold_of(len(dist), folds)]) == issame


def check_folds(pair_bin: PairBin, folds: int) -> None:
    """Raise BinError unless there is a pair for each fold."""
    if len(pair_bin.issame) < folds:
        raise BinError(
            f"{pair_bin.name}.bin has {len(pair_bin.issame)} pairs: expected at least one for each of {folds} folds"
        )
