"""1:1 verification on `.bin` sets (LFW, CFP-FP, AgeDB-30, CALFW, CPLFW ...)."""

import hashlib

import numpy as np

from eval.bins import BinError, PairBin
from eval.embed import fit
from eval.features import Features, unit
from eval.metrics import fold_accuracies, tar_at_far
from eval.protocol import Result
from utils import jpeg


class BinImages:
    """The images of a `.bin`: kept encoded, decoded as they are asked for.

    Raises:
        BinError: an image is none or is cut.
    """

    def __init__(self, pair_bin: PairBin):
        self.pair_bin = pair_bin
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
        if len(pair_bin.issame) < folds:
            raise BinError(
                f"{pair_bin.name}.bin has {len(pair_bin.issame)} pairs: expected at least one for each of {folds} folds"
            )
        self.name, self.issame, self.folds = pair_bin.name, pair_bin.issame, folds
        self.images = BinImages(pair_bin)

    def score(self, features: Features) -> Result:
        """Metrics `accuracy` and `accuracy_std` over folds, `tar@far=1e-3` (folds' mean), `threshold` (squared
        distance, folds' mean), `xnorm` (mean norm), `pairs`. A set of matched or of mismatched pairs only has no
        `tar@far=1e-3`.
        """
        u = unit(features.h)
        dist = np.square(u[0::2] - u[1::2]).sum(axis=1)
        accuracy, threshold = fold_accuracies(dist, self.issame, self.folds)
        metrics = {
            "accuracy": float(accuracy.mean()),
            "accuracy_std": float(accuracy.std()),
            "threshold": float(threshold.mean()),
            "xnorm": float(features.z.mean(dtype=np.float64)),
            "pairs": len(dist),
        }
        if 0 < self.issame.sum() < len(dist):
            metrics["tar@far=1e-3"] = tar_at_far(dist, self.issame, 1e-3, self.folds)[0]
        headline = tuple(name for name in ("accuracy", "tar@far=1e-3") if name in metrics)
        return Result(metrics, headline, {}, {"dist": dist.astype(np.float32), "issame": self.issame})
