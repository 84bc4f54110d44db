"""Numbers of 1:1 verification from pair distances; InsightFace's protocol, with each distance placed once.

A distance is the squared Euclidean one of two unit features, 0 to 4; a pair is accepted as one person where it is
*below* the threshold. InsightFace compares every distance with each of 400 (accuracy) or 4,000 (TAR at FAR)
thresholds in each fold. Here a distance is looked up once among the thresholds, and running sums of counts give every
fold's numbers, equal to the last bit. Folds are contiguous, as sklearn's `KFold(shuffle=False)` cuts them.

Shapes: n pairs, F folds, T thresholds.
"""

import numpy as np


def fold_accuracies(dist: np.ndarray, issame: np.ndarray, folds: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy of each fold at the threshold that is best on the other folds (the first one where several are).

    Args:
        dist: (n,) squared distances, 0 to 4.
        issame: (n,) bool, true where a pair shows one person.

    Returns:
        (F,) float64 accuracies in [0, 1] and (F,) thresholds out of 0, 0.01 ... 3.99.

    Raises:
        ValueError: other shapes, fewer pairs than folds, distances that are not numbers.
    """
    dist, issame = _checked(dist, issame)
    fold = fold_of(len(dist), folds)
    thresholds = np.arange(0, 4, 0.01)
    same = _accepted(dist[issame], fold[issame], thresholds, folds)
    different = _accepted(dist[~issame], fold[~issame], thresholds, folds)
    right = same + np.bincount(fold[~issame], minlength=folds)[:, None] - different
    best = np.argmax(right.sum(0) - right, axis=1)
    accuracy = right[np.arange(folds), best] / np.bincount(fold, minlength=folds)
    return accuracy, thresholds[best]


def tar_at_far(
    dist: np.ndarray, issame: np.ndarray, far_target: float = 1e-3, folds: int = 10
) -> tuple[float, float, float]:
    """True accept rate at a false accept rate; each fold at the threshold that the other folds give (`calculate_val`).

    The threshold out of 0, 0.001 ... 3.999 is interpolated linearly at `far_target` where the other folds' rate rises
    at each step. Where it has flat stretches (always, on real sets: there InsightFace's interpolation fails) it is the
    largest one whose rate is at most `far_target`. A rate that never reaches the target gives the threshold 0, as
    there. Folds without matched (mismatched) pairs are left out of the TAR (FAR).

    Returns:
        mean TAR, its standard deviation over folds, mean FAR on the folds held out; fractions.

    Raises:
        ValueError: as `fold_accuracies`; no matched or no mismatched pairs; `far_target` outside (0, 1).
    """
    dist, issame = _checked(dist, issame)
    fold = fold_of(len(dist), folds)
    _check_rates(issame, far_target)
    grid = np.arange(0, 4, 0.001)
    count = np.bincount(fold[~issame], minlength=folds)
    different = _accepted(dist[~issame], fold[~issame], grid, folds)
    far = (different.sum(0) - different) / np.maximum(count.sum() - count, 1)[:, None]
    threshold = np.array([_threshold_at(row, grid, far_target) for row in far])
    accepted = dist < threshold[fold]
    tar = [accepted[issame & (fold == f)].mean() for f in np.unique(fold[issame])]
    far_out = [accepted[~issame & (fold == f)].mean() for f in np.unique(fold[~issame])]
    return float(np.mean(tar)), float(np.std(tar)), float(np.mean(far_out))


def _checked(dist: np.ndarray, issame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 distances and bool flags."""
    dist, issame = np.asarray(dist, dtype=np.float64), np.asarray(issame)
    if dist.ndim != 1 or dist.shape != issame.shape or issame.dtype != bool:
        raise ValueError(f"distances {dist.shape} and flags {issame.shape} {issame.dtype}: expected (n,) and (n,) bool")
    bad = int(np.count_nonzero(~np.isfinite(dist)))
    if bad:
        raise ValueError(f"{bad} of {len(dist)} distances are not finite numbers: the features hold NaN or infinity")
    return dist, issame


def fold_of(n: int, folds: int) -> np.ndarray:
    """(n,) fold of each pair; the first n % F folds are longer by one."""
    if not 2 <= folds <= n:
        raise ValueError(
            f"{n} pairs cannot be cut into {folds} folds: expected 2 folds or more, a pair or more in each"
        )
    return np.repeat(np.arange(folds), [len(part) for part in np.array_split(np.arange(n), folds)])


def _check_rates(issame: np.ndarray, far_target: float) -> None:
    if issame.all() or not issame.any():
        kind = "mismatched" if issame.all() else "matched"
        raise ValueError(f"none of {len(issame)} pairs is {kind}: TAR@FAR needs matched and mismatched pairs")
    if not 0 < far_target < 1:
        raise ValueError(f"far_target={far_target}: expected a fraction between 0 and 1, as 1e-3")


def _accepted(dist: np.ndarray, fold: np.ndarray, thresholds: np.ndarray, folds: int) -> np.ndarray:
    """(F, T) counts of each fold's distances below each threshold."""
    first = np.searchsorted(thresholds, dist, side="right")  # the first threshold above the distance; T: none is
    width = len(thresholds) + 1
    counts = np.bincount(fold * width + first, minlength=folds * width).reshape(folds, width)
    return counts[:, :-1].cumsum(axis=1)


def _threshold_at(far: np.ndarray, thresholds: np.ndarray, target: float) -> float:
    """Threshold at which the rising rate `far` (T,) meets `target`; 0 where it never does."""
    if far[-1] < target:
        return 0.0
    if (np.diff(far) > 0).all():
        return float(np.interp(target, far, thresholds))
    return float(thresholds[np.searchsorted(far, target, side="right") - 1])
