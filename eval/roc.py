"""TAR at FAR, ROC points and AUC from the scores of pairs: InsightFace's IJB numbers, and strict ones.

A score is higher where two faces are more alike. FAR is the fraction of impostor pairs that are accepted, TAR that of
genuine pairs. Pairs are never put in order together: only values are sorted, genuine and impostor apart, and of the
impostors only the part that the largest FAR needs. float32 stays float32.

Extra memory: one copy of the impostor scores at a time and, in `insightface_tar`, up to 60 bytes for each impostor that
the largest FAR accepts. Scores that are given in rising order are not copied: sort once (`np.sort`) where several of
these functions are called.
"""

from collections.abc import Sequence

import numpy as np


def insightface_tar(genuine: np.ndarray, impostor: np.ndarray, fars: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """TAR and the FAR at which it stands, equal to the last bit to what InsightFace's `eval_ijbc.py` prints.

    There, sklearn's `roc_curve` gives the curve and the point whose FAR is *nearest* to each target is taken, the one
    of the higher FAR, then TAR, where two are as near. The FAR may lie above the target (`strict_tar` never does), and
    a pair is accepted from the threshold on, so ties of genuine and impostor pairs are accepted together.

    `roc_curve` has a point for each distinct score and (0, 0); of these it drops each one, first and last excepted,
    whose step from the point before equals the step to the next in both counts (`drop_intermediate`: the same from
    sklearn 0.21 to 1.9). Which points are left decides what is nearest.

    Args:
        genuine, impostor: (g,) and (n,) scores, any float type.
        fars: targets, fractions between 0 and 1.

    Returns:
        TAR and FAR at each target, float64 fractions.

    Raises:
        ValueError: no scores of one kind, scores that are not finite, another shape, a target outside (0, 1).
    """
    genuine, impostor, targets = (
        np.sort(checked_scores(genuine, "genuine scores")),
        checked_scores(impostor, "impostor scores"),
        checked_fars(fars),
    )
    n = len(impostor)
    size = int(1.1 * targets.max() * n) + 100
    while True:
        accepted, right = _corners(genuine, _top(impostor, size), n)
        far = accepted / n
        if far[-1] >= targets.max():
            break
        size *= 4  # a straight stretch of the curve: the next point left is further down
    above = np.searchsorted(far, targets)
    below = np.maximum(above - 1, 0)
    nearest = np.where(np.abs(far[above] - targets) <= np.abs(far[below] - targets), above, below)
    return right[nearest] / len(genuine), far[nearest]


def strict_tar(genuine: np.ndarray, impostor: np.ndarray, fars: Sequence[float]) -> np.ndarray:
    """Largest TAR whose FAR is at most each target: float64 fractions.

    A genuine pair that is as alike as the first impostor pair that must be rejected is rejected too.

    Args, Raises: as `insightface_tar`.
    """
    genuine = np.sort(checked_scores(genuine, "genuine scores"))
    rejected = np.searchsorted(genuine, strict_thresholds(impostor, fars), side="right")
    return (len(genuine) - rejected) / len(genuine)


def strict_thresholds(impostor: np.ndarray, fars: Sequence[float]) -> np.ndarray:
    """The scores that must be *exceeded* for a FAR of at most each target: that of the first impostor to be rejected.

    Args, Raises: as `insightface_tar`.
    """
    impostor, targets = checked_scores(impostor, "impostor scores"), checked_fars(fars)
    rank = len(impostor) - 1 - allowed_accepts(len(impostor), targets)
    return (impostor if _rises(impostor) else np.partition(impostor, np.unique(rank)))[rank]


def allowed_accepts(n: int, targets: np.ndarray) -> np.ndarray:
    """The most of `n` impostors, int64, that may be accepted: the largest k with k / n <= target."""
    allowed = np.floor(targets * n).astype(np.int64)
    allowed += (allowed + 1) / n <= targets  # the product is rounded: 0.29 * 100 is 28.999..., yet 29 / 100 is 0.29
    allowed -= allowed / n > targets
    return allowed


def roc_points(genuine: np.ndarray, impostor: np.ndarray, points: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Points of the ROC for a plot with logarithmic FAR.

    Args:
        genuine, impostor: as `insightface_tar`.
        points: how many FARs are asked for, from 1 / n to 1 in equal ratios.

    Returns:
        FAR and TAR, float64, both rising: the best TAR without a false accept, the best TAR at each FAR asked for, with
        the FAR that it really has, and (1, 1). Equal points come once.

    Raises:
        ValueError: as `insightface_tar`.
    """
    genuine, impostor = (
        _in_order(checked_scores(*part)) for part in ((genuine, "genuine scores"), (impostor, "impostor scores"))
    )
    n = len(impostor)
    allowed = np.unique(np.append(0, np.geomspace(1, n, points).round().astype(np.int64)))
    threshold = impostor[n - 1 - allowed[allowed < n]]
    accepted = np.append(n - np.searchsorted(impostor, threshold, side="right"), n)
    right = np.append(len(genuine) - np.searchsorted(genuine, threshold, side="right"), len(genuine))
    accepted, first = np.unique(accepted, return_index=True)
    return accepted / n, right[first] / len(genuine)


def auc(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """Area under the ROC: how often a genuine score is above an impostor one, ties one half (Mann-Whitney).

    Args, Raises: as `insightface_tar`.
    """
    genuine = checked_scores(genuine, "genuine scores")
    impostor = _in_order(checked_scores(impostor, "impostor scores"))
    twice = sum(int(np.searchsorted(impostor, genuine, side=side).sum()) for side in ("left", "right"))
    return twice / (2 * len(genuine) * len(impostor))


def fars_for(impostors: int) -> tuple[float, ...]:
    """The FARs that a verification set of so many impostor pairs reports, falling.

    1e-3 always, as InsightFace prints it, and each decade below at which ten false accepts are expected. With one the
    threshold would be a single pair's score: 37 % of sets of that size hold none, and the rate is known to a factor of
    several; with ten (one standard deviation: a third) two models can be told apart. IJB's own list, down to 1e-6 with
    8 or 15 expected, is the protocol's and stays as it is. A set of less than 1,000 impostor pairs can show no more
    than the TAR without a false accept at 1e-3.

    Raises:
        ValueError: no impostor pairs.
    """
    if impostors < 1:
        raise ValueError(f"{impostors} impostor pairs: a FAR needs one or more")
    return (1e-3, *(1 / 10**k for k in range(4, 19) if impostors >= 10 ** (k + 1)))


def far_name(far: float) -> str:
    """A FAR as metrics are named: "1e-4"."""
    return f"{far:.0e}".replace("e-0", "e-")


def _corners(genuine: np.ndarray, top: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of sklearn's `roc_curve` as counts of accepted impostor and genuine pairs, one of each impostor count.

    Of the points with one impostor count the last one survives if any does: where genuine scores lie between this
    impostor score and the next, the curve turns there.

    Args:
        genuine: (g,) rising.
        top: the highest of n impostor scores, falling; the curve is given as far as they tell it.
    """
    end = np.append(np.flatnonzero(top[1:] != top[:-1]) + 1, len(top))  # impostors accepted with each distinct score
    score = top[end - 1]
    at_least, above = (len(genuine) - np.searchsorted(genuine, score, side=side) for side in ("left", "right"))
    impostors, ties = np.diff(end, prepend=0), at_least - above
    right = np.append(above[1:], len(genuine))  # all genuine scores above the next impostor score
    keep = right > at_least
    keep[:-1] |= (impostors[:-1] != impostors[1:]) | (ties[:-1] != ties[1:])
    keep[0] |= above[0] == 0  # the first point of all
    keep[-1] = True
    if len(top) < n:  # of the last score there may be more, so that the one before cannot be judged either
        end, right, keep = end[:-2], right[:-2], keep[:-2]
    return np.append(0, end[keep]), np.append(above[0], right[keep])


def _top(scores: np.ndarray, size: int) -> np.ndarray:
    """The `size` highest scores, falling."""
    start = max(len(scores) - size, 0)
    top = scores[start:] if _rises(scores) else np.sort(np.partition(scores, start)[start:])
    return top[::-1]


def _in_order(scores: np.ndarray) -> np.ndarray:
    return scores if _rises(scores) else np.sort(scores)


def _rises(scores: np.ndarray) -> bool:
    if len(scores) > 1000 and not _rises(scores[:1000]):
        return False
    return bool((scores[1:] >= scores[:-1]).all())


def checked_scores(scores: np.ndarray, kind: str) -> np.ndarray:
    """(n,) floating-point numbers, one or more, all finite; ValueError otherwise, which names their `kind`."""
    scores = np.asarray(scores)
    if scores.ndim != 1 or not len(scores):
        raise ValueError(f"{kind} of shape {scores.shape}: expected (n,), one or more")
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float64)
    bad = len(scores) - int(np.count_nonzero(np.isfinite(scores)))
    if bad:
        raise ValueError(f"{bad} of {len(scores)} {kind} are not finite numbers: the features hold NaN or infinity")
    return scores


def checked_fars(fars: Sequence[float]) -> np.ndarray:
    """(k,) float64 targets between 0 and 1; ValueError otherwise."""
    targets = np.asarray(fars, np.float64)
    if targets.ndim != 1 or not len(targets) or not ((targets > 0) & (targets < 1)).all():
        raise ValueError(f"fars={fars}: expected fractions between 0 and 1, as (1e-3,)")
    return targets
