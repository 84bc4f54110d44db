"""Verification against resolution, from any `.bin`: the daily signal for low quality, which needs no licence.

Every grade of `eval.degrade` is measured twice on the same pairs: `both`, where both images are degraded, and `cross`,
where only the second one is, as a camera's picture against a passport's. One embedding of each degraded image serves
both. The grade `112px` is the set as it is; `both@112px` is the accuracy that `eval.verification` gives.

Shapes: n pairs, of 2n images; G grades, the original first.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from eval import degrade
from eval.bins import PairBin
from eval.confidence import interval, mean_replicates
from eval.features import Features, expect, labelled_digest, unit
from eval.hardest import hardest_pairs
from eval.protocol import Result
from eval.quality import error_vs_discard, norm_rises, pair_quality, pauc
from eval.roc import strict_thresholds
from eval.verification import BinImages, check_folds, verified

ORIGINAL = f"{degrade.SIDE}px"
RESOLUTIONS = ("8px", "12px", "16px", "20px", "28px")
OTHERS = ("jpeg10", "jpeg5", "blur2", "blur4", "noise20", "noise40")
FOLDS = 10


class GradedImages:
    """The chosen images of a `.bin` at each grade: grade after grade, in each the images in their order.

    Args:
        source: the images as they are.
        chosen: (m,) indices of images; an image keeps its index, and with it its noise, whatever else is chosen.
        grades: names, as `eval.degrade.grade` takes them.
    """

    def __init__(self, source: BinImages, chosen: np.ndarray, grades: Sequence[str]):
        self._source, self._chosen, self._grade_names = source, chosen, tuple(grades)
        self.names = [f"{index}@{name}" for name in grades for index in chosen.tolist()]
        self._grades = [degrade.grade(name) for name in grades]

    def __len__(self) -> int:
        return len(self._grades) * len(self._chosen)

    def read(self, start: int, end: int) -> np.ndarray:
        """(end - start, 112, 112, 3) uint8 RGB.

        Raises:
            BinError: an image cannot be decoded.
        """
        images = np.empty((end - start, degrade.SIDE, degrade.SIDE, 3), np.uint8)
        for row, at in enumerate(range(start, end)):
            grade, place = divmod(at, len(self._chosen))
            index = int(self._chosen[place])
            images[row] = self._grades[grade](self._source.read(index, index + 1)[0], index)
        return images

    def digest(self) -> str:
        """Of the encoded images, of which are chosen, and of what is done to them."""
        parts = (self._source.digest(), self._chosen.tolist(), self._grade_names, degrade.VERSION)
        return hashlib.sha256(repr(parts).encode()).hexdigest()


class CrossResolution:
    """The protocol on one `.bin`.

    Args:
        pair_bin: the set.
        name: of the target, as `cross_resolution` or `cross_resolution:agedb_30`.
        grades: names of grades besides the original, as `eval.degrade.grade` takes them.
        pairs: how many are used, a multiple of the folds; None: all. Each fold gives as many, its first matched and
            its first mismatched ones in the proportion that it has. (Not the first pairs: those of LFW's folds are
            all matched.)

    Raises:
        BinError: fewer pairs than folds, an image that is none or is cut.
        ValueError: an unknown or repeated grade, `pairs` that the folds cannot give.
    """

    version = 1

    def __init__(
        self,
        pair_bin: PairBin,
        name: str = "cross_resolution",
        grades: Sequence[str] = RESOLUTIONS + OTHERS,
        pairs: int | None = None,
    ):
        check_folds(pair_bin, FOLDS)
        if len(set(grades) | {ORIGINAL}) <= len(grades):
            raise ValueError(f"grades {', '.join(grades)}: expected each one once, and {ORIGINAL} not among them")
        self.name, self.grades = name, (ORIGINAL, *grades)
        kept = np.arange(len(pair_bin.issame)) if pairs is None else _first_pairs(pair_bin.issame, pairs)
        self.issame = pair_bin.issame[kept]
        images = np.stack([2 * kept, 2 * kept + 1], axis=1).ravel()
        self.images = GradedImages(BinImages(pair_bin), images, self.grades)

    def score(self, features: Features) -> Result:
        """Metrics `both@GRADE` and `cross@GRADE` (10-fold accuracies) and `norm@GRADE` (mean norm of the images).

        `mean_both` and `mean_cross` are the means over the resolutions below the original's. The headline has the
        resolutions and these, with bootstrap intervals over pairs. Evidence: `issame`; for each accuracy, as
        `cross@8px`, `dist/NAME` and `right/NAME` (n,); `replicates/mean_both`; `z/GRADE` (2n,).

        Raises:
            ValueError: features that are not finite.
        """
        expect(features, len(self.images), self.name)
        h, z = (array.reshape(len(self.grades), 2 * len(self.issame), -1) for array in features)
        original = unit(h[0])
        metrics: dict[str, float] = {"xnorm": float(z[0].mean(dtype=np.float64)), "pairs": len(self.issame)}
        evidence = {"issame": self.issame}
        for row, grade in enumerate(self.grades):
            u = unit(h[row])
            firsts = {f"both@{grade}": u[0::2]} | ({f"cross@{grade}": original[0::2]} if row else {})
            for name, first in firsts.items():
                dist, accuracy, _, right = verified(first, u[1::2], self.issame, FOLDS)
                metrics[name] = float(accuracy.mean())
                evidence |= {f"dist/{name}": dist.astype(np.float32), f"right/{name}": right}
            metrics[f"norm@{grade}"] = float(z[row].mean(dtype=np.float64))
            evidence[f"z/{grade}"] = z[row, :, 0]
        evidence |= self._hardest(evidence)
        return self._result(metrics, evidence)

    def digest(self) -> str:
        """Of the images, of what is done to them, and of which pairs are matched."""
        return labelled_digest(self.images, self.issame)

    def _result(self, metrics: dict[str, float], evidence: dict[str, np.ndarray]) -> Result:
        """With means over resolutions, intervals, and the warning of the norm."""
        resolutions = [grade for grade in self.grades if grade.endswith("px")]
        headline = [f"both@{ORIGINAL}"]
        intervals = {}
        for kind in ("both", "cross") if len(resolutions) > 1 else ():
            names, mean = [f"{kind}@{grade}" for grade in resolutions[1:]], f"mean_{kind}"
            metrics[mean] = float(np.mean([metrics[name] for name in names]))
            share = np.mean([evidence[f"right/{name}"] for name in names], axis=0)  # of resolutions, for each pair
            evidence[f"replicates/{mean}"] = mean_replicates(share)
            intervals[mean] = interval(evidence[f"replicates/{mean}"])
            headline += [*names, mean]
        for name in headline:
            if name not in intervals:
                intervals[name] = interval(mean_replicates(evidence[f"right/{name}"]))
        if len(self.grades) > 1 and 0 < self.issame.sum() < len(self.issame):
            metrics["pauc"], evidence["discarded"], evidence["fnmr"] = self._discard(evidence)
        note = norm_rises([(int(grade[:-2]), metrics[f"norm@{grade}"]) for grade in resolutions])
        return Result(metrics, tuple(headline), intervals, evidence, (note,) if note else ())

    def _hardest(self, evidence: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Pairs of which one image has the lowest resolution, or as they are."""
        sides = [int(grade[:-2]) for grade in self.grades if grade.endswith("px")]
        row, images = self.grades.index(f"{min(sides)}px"), np.arange(2 * len(self.issame)).reshape(-1, 2)
        dist = evidence[f"dist/{'cross' if row else 'both'}@{min(sides)}px"]
        return hardest_pairs(dist, self.issame, images[:, 0], row * images.size + images[:, 1])

    def _discard(self, evidence: dict[str, np.ndarray]) -> tuple[float, np.ndarray, np.ndarray]:
        """pAUC and curve of error versus discard over the pairs of all grades together, one image degraded: sharp
        pairs alone leave hardly an error that a quality could foresee. Quality is the lower norm, FAR 1e-2.
        """
        score = np.concatenate([-evidence[f"dist/cross@{grade}"] for grade in self.grades[1:]])
        first = evidence[f"z/{ORIGINAL}"][0::2]
        quality = np.concatenate([pair_quality(first, evidence[f"z/{grade}"][1::2]) for grade in self.grades[1:]])
        issame = np.tile(self.issame, len(self.grades) - 1)
        (threshold,) = strict_thresholds(score[~issame], [1e-2])
        curve = error_vs_discard(score[issame], quality[issame], threshold)
        return pauc(curve), curve.discard, curve.fnmr


def by_resolution(metrics: dict[str, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Side in pixels, rising, and the accuracies of both and of one at it, as `eval.plots.plot_resolution` takes them.

    Args:
        metrics: of this protocol, as results.json has them.
    """
    sides = sorted(int(name[5:-2]) for name in metrics if name.startswith("both@") and name.endswith("px"))
    both = [metrics[f"both@{side}px"] for side in sides]
    cross = [metrics.get(f"cross@{side}px", same) for side, same in zip(sides, both, strict=True)]  # one is both at 112
    return np.array(sides), np.array(both), np.array(cross)


def _first_pairs(issame: np.ndarray, pairs: int) -> np.ndarray:
    """(pairs,) indices, in order; of each fold as many, matched and mismatched in the fold's own proportion."""
    each, rest = divmod(pairs, FOLDS)
    folds = np.array_split(np.arange(len(issame)), FOLDS)
    if rest or not 1 <= each <= len(folds[-1]):
        raise ValueError(
            f"pairs={pairs}: expected a multiple of {FOLDS} from {FOLDS} to {FOLDS * len(folds[-1])}, "
            "so that each fold gives as many"
        )
    kept = []
    for fold in folds:
        matched, mismatched = fold[issame[fold]], fold[~issame[fold]]
        count = round(each * len(matched) / len(fold))
        kept += [matched[:count], mismatched[: each - count]]
    return np.sort(np.concatenate(kept))
