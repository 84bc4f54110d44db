"""The baseline of verification: what InsightFace's `verification.py` and `eval_ijbc.py` compute, in the way they do it.

Every threshold of every fold is compared with every pair, in double precision: 400 thresholds for the accuracy, 4,000
for TAR at FAR. The IJB table is read off sklearn's curve of all pairs, a pass over its points for each FAR.
"""

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import interp1d
from sklearn.metrics import auc, roc_curve
from sklearn.model_selection import KFold


def verification(
    first: np.ndarray, second: np.ndarray, issame: np.ndarray, folds: int = 10
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Fold accuracies, and TAR, its deviation and FAR at 1e-3, of the unit features of both sides of n pairs.

    The distances are computed by each of the two, as there.

    Args:
        first, second: (n, D) float64 unit features.
        issame: (n,) bool.
    """
    accuracies = fold_accuracies(_distances(first, second), issame, folds)
    return accuracies, tar_at_far(_distances(first, second), issame, folds=folds)


def fold_accuracies(dist: np.ndarray, issame: np.ndarray, folds: int = 10) -> np.ndarray:
    """(F,) float64; rates of the held-out fold at all thresholds included, as there."""
    thresholds = np.arange(0, 4, 0.01)
    tprs, fprs = np.zeros((2, folds, len(thresholds)))
    accuracy = np.zeros(folds)
    for fold, (train, test) in enumerate(KFold(n_splits=folds, shuffle=False).split(dist)):
        on_train = np.zeros(len(thresholds))
        for i, threshold in enumerate(thresholds):
            on_train[i] = _rates(threshold, dist[train], issame[train])[2]
        best = np.argmax(on_train)
        for i, threshold in enumerate(thresholds):
            tprs[fold, i], fprs[fold, i], _ = _rates(threshold, dist[test], issame[test])
        accuracy[fold] = _rates(thresholds[best], dist[test], issame[test])[2]
    return accuracy


def tar_at_far(
    dist: np.ndarray, issame: np.ndarray, far_target: float = 1e-3, folds: int = 10
) -> tuple[float, float, float]:
    """TAR, its deviation over folds, FAR.

    There SciPy interpolates the threshold, which refuses rates that occur twice, as they do on every real set: the
    script ends with SciPy's error, a set without a result. To have a number here, the largest threshold whose rate is
    at most the target stands in for it.
    """
    thresholds = np.arange(0, 4, 0.001)
    tar, far = np.zeros(folds), np.zeros(folds)
    for fold, (train, test) in enumerate(KFold(n_splits=folds, shuffle=False).split(dist)):
        on_train = np.zeros(len(thresholds))
        for i, threshold in enumerate(thresholds):
            on_train[i] = _accepted(threshold, dist[train], issame[train])[1]
        chosen = 0.0
        if on_train.max() >= far_target:
            try:
                chosen = interp1d(on_train, thresholds, kind="slinear")(far_target)
            except ValueError:
                chosen = thresholds[on_train <= far_target][-1]
        tar[fold], far[fold] = _accepted(chosen, dist[test], issame[test])
    return float(tar.mean()), float(tar.std()), float(far.mean())


def ijb_table(label: np.ndarray, score: np.ndarray, fars: Sequence[float]) -> tuple[list[float], list[float], float]:
    """TAR and FAR of the point nearest to each FAR, and the area under the curve.

    Args:
        label: (n,) int, 1 for genuine pairs.
        score: (n,) float64.
    """
    fpr, tpr, _ = roc_curve(label, score)
    area = auc(fpr, tpr)
    fpr, tpr = np.flipud(fpr), np.flipud(tpr)
    nearest = [min(list(zip(abs(fpr - far), range(len(fpr)), strict=True)))[1] for far in fars]
    return [float(tpr[i]) for i in nearest], [float(fpr[i]) for i in nearest], float(area)


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.sum(np.square(np.subtract(first, second)), 1)


def _rates(threshold: float, dist: np.ndarray, issame: np.ndarray) -> tuple[float, float, float]:
    """TPR, FPR, accuracy."""
    accepted = np.less(dist, threshold)
    tp = np.sum(np.logical_and(accepted, issame))
    fp = np.sum(np.logical_and(accepted, np.logical_not(issame)))
    tn = np.sum(np.logical_and(np.logical_not(accepted), np.logical_not(issame)))
    fn = np.sum(np.logical_and(np.logical_not(accepted), issame))
    tpr = 0 if tp + fn == 0 else float(tp) / float(tp + fn)
    fpr = 0 if fp + tn == 0 else float(fp) / float(fp + tn)
    return tpr, fpr, float(tp + tn) / dist.size


def _accepted(threshold: float, dist: np.ndarray, issame: np.ndarray) -> tuple[float, float]:
    """TAR and FAR."""
    accepted = np.less(dist, threshold)
    true = np.sum(np.logical_and(accepted, issame))
    false = np.sum(np.logical_and(accepted, np.logical_not(issame)))
    return float(true) / float(np.sum(issame)), float(false) / float(np.sum(np.logical_not(issame)))
