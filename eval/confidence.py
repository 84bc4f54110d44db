"""How sure a number is: standard error over folds, bootstrap intervals, p-values between two models.

A bootstrap draws the units of a set (pairs, identities, subjects, templates) with replacement, as many as there are,
and computes the metric anew: a *replicate*. What belongs to a unit moves with it, so faces of one person do not pass
for independent ones. Seed and units fix what is drawn, whatever the model: replicates of two models belong together
draw by draw, and are few enough to be kept beside a result for later comparisons.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 13 (percentile intervals) and 15;
Bolle, Ratha and Pankanti, Error analysis of pattern recognition systems - the subsets bootstrap (2004), for drawing
identities; Fogliato, Patil and Perona, Confidence intervals for error rates in 1:1 matching tasks (2023), for pairs
weighted by both sides (the vertex bootstrap). Percentile intervals have no width where nothing is wrong: with no error
in n independent trials, the rate can still be 3 / n.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import sparse, special  # not scipy.stats, which takes half a second to import

from eval.roc import allowed_accepts, checked_fars

DRAWS = 1000
BLOCK = 2**20  # draws times units that are drawn at a time


def standard_error(folds: np.ndarray) -> float:
    """Standard error of the mean over folds, with the unbiased deviation (LFW's report, UMass TR 07-49, section 4).

    Raises:
        ValueError: fewer than two folds.
    """
    folds = np.asarray(folds, np.float64)
    if folds.ndim != 1 or len(folds) < 2:
        raise ValueError(f"numbers of folds of shape {folds.shape}: a standard error needs two folds or more")
    return float(folds.std(ddof=1) / np.sqrt(len(folds)))


def mean_replicates(
    values: np.ndarray, unit: np.ndarray | None = None, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """Replicates of a mean: accuracy (`right` at the folds' thresholds, which stay), rank-1, mAP.

    Args:
        values: (n,) bool or float, one of each pair or probe.
        unit: (n,) any integers: which unit it belongs to, its identity as a rule; None: each is a unit of its own.

    Returns:
        (draws,) float64: sum over what was drawn divided by its number.

    Raises:
        ValueError: no values, values that are not finite, other shapes, units that are no integers.
    """
    values = np.asarray(values, np.float64)
    unit = np.arange(len(values)) if unit is None else np.asarray(unit)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"values of shape {values.shape}: expected (n,) finite numbers, one or more")
    _check_units(unit, values.shape)
    _, unit = np.unique(unit, return_inverse=True)  # a number that nothing has would give empty draws
    count, total = np.bincount(unit), np.bincount(unit, values)
    return np.concatenate([(w @ total) / (w @ count) for w in _weights(len(count), draws, seed)])


def tar_replicates(
    scores: np.ndarray,
    issame: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    fars: Sequence[float],
    draws: int = DRAWS,
    seed: int = 0,
) -> np.ndarray:
    """Replicates of the strict TAR at FAR, where both sides of a pair are drawn.

    A unit drawn w times stands for w units: a pair of two units weighs w[left] w[right], a genuine pair within one unit
    w. FAR and TAR are ratios of weights. Per draw only the highest impostor scores are looked at, a few times as many
    as the largest FAR accepts (leave 1e-1 out of the list where millions of pairs make it slow), and the genuine ones;
    the weight of all impostors is w' A w, A being the number of pairs of any two units.

    Args:
        scores: (n,) finite, higher = more alike.
        issame: (n,) bool.
        left, right: (n,) int, 0 to U - 1 without gaps: the units of the pair's sides: subjects as a rule; templates
            give narrower intervals that hold for these subjects only.
        fars: targets between 0 and 1.

    Returns:
        (draws, len(fars)) float64; NaN where a draw holds no genuine or no impostor pair.

    Raises:
        ValueError: other shapes, no genuine or no impostor pairs, an impostor pair within one unit, bad targets.
    """
    scores, issame, left, right = (np.asarray(array) for array in (scores, issame, left, right))
    targets = checked_fars(fars)
    _check_pairs(scores, issame, left, right)
    units = int(max(left.max(), right.max())) + 1
    weights = np.concatenate([w.astype(np.int32) for w in _weights(units, draws, seed)])
    return _tar_of_draws(scores, issame, left, right, targets, weights)


def interval(replicates: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of (draws,) replicates; undefined ones are left out.

    Raises:
        ValueError: all are undefined.
    """
    defined = replicates[~np.isnan(replicates)]
    if not len(defined):
        raise ValueError(f"none of {len(replicates)} bootstrap draws is defined: there are too few units")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def p_value(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p-value of the paired bootstrap for two models' difference in a metric.

    The 95 % percentile interval of the difference excludes 0 where this is below 5 %: twice the share of draws on the
    rarer side of 0, equal ones counted on both; one is added above and below, so that it is never 0 (Davison and
    Hinkley, Bootstrap Methods and their Application, 1997, section 4.2).

    Args:
        first, second: (draws,) replicates of one metric with the same units and seed.

    Raises:
        ValueError: different numbers of draws, no draw defined for both.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape:
        raise ValueError(f"{len(first)} and {len(second)} bootstrap draws: expected those of the same units and seed")
    difference = (first - second)[~np.isnan(first - second)]
    if not len(difference):
        raise ValueError(f"none of {len(first)} bootstrap draws is defined for both models: there are too few units")
    rarer = min(int((difference <= 0).sum()), int((difference >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(difference) + 1))


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """McNemar's exact test of two models on the same pairs or probes: two-sided p-value (McNemar, 1947; binomial).

    Only those count that one model has right and the other wrong; without any the p-value is 1.

    Args:
        first, second: (n,) bool, which ones each model has right.

    Raises:
        ValueError: other shapes or types.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.ndim != 1 or not first.dtype == second.dtype == bool:
        raise ValueError(f"{first.shape} {first.dtype} and {second.shape} {second.dtype}: expected (n,) bool twice")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    if only_first + only_second == 0:
        return 1.0
    rarer, both = min(only_first, only_second), only_first + only_second
    return min(1.0, 2 * float(special.bdtr(rarer, both, 0.5)))


def _weights(units: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks (b, units) of how often each unit was drawn."""
    generator = np.random.default_rng(seed)
    block = max(1, BLOCK // units)
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        drawn = generator.integers(0, units, (rows, units)) + np.arange(rows)[:, None] * units
        yield np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units)


def _impostor_weight(left: np.ndarray, right: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(draws,) int64: sum of w[left] w[right]; exact, as the sums are whole numbers below 2^53."""
    units = weights.shape[1]
    pairs = sparse.coo_matrix((np.ones(len(left), np.float32), (left, right)), (units, units)).tocsr()
    pairs = pairs.astype(np.float64)
    if pairs.nnz > 0.1 * units**2:  # subjects: few and in many pairs
        pairs = pairs.toarray()
    blocks = (block.astype(np.float64) for block in np.array_split(weights, max(1, weights.size // BLOCK)))
    return np.concatenate([((pairs @ w.T).T * w).sum(axis=1) for w in blocks]).astype(np.int64)


def _falling(
    scores: np.ndarray, which: np.ndarray, left: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores and units of some pairs, by falling score."""
    which = which[np.argsort(-scores[which], kind="stable")]
    return scores[which], left[which], right[which]


def _tar_of_draws(
    scores: np.ndarray,
    issame: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:
    """(draws, len(targets)) float64 TARs where each unit was drawn `weights` (draws, U) times; see `tar_replicates`."""
    total = _impostor_weight(left[~issame], right[~issame], weights)
    genuine = _falling(scores, np.flatnonzero(issame), left, right)
    allowed = np.stack([allowed_accepts(max(t, 1), targets) for t in total.tolist()])
    impostor = scores[~issame]
    size = int(2 * targets.max() * len(impostor)) + 1000
    while True:
        start = max(len(impostor) - size, 0)
        lowest = np.partition(impostor, start)[start]
        top = _falling(scores, np.flatnonzero(~issame & (scores >= lowest)), left, right)
        result = np.full((len(weights), len(targets)), np.nan)
        enough = all(_replicate(*row, genuine, top) for row in zip(weights, total, allowed, result, strict=True))
        if enough:
            return result
        size *= 4


def _replicate(w: np.ndarray, total: int, allowed: np.ndarray, tar: np.ndarray, genuine: tuple, top: tuple) -> bool:
    """Write one draw's TARs; false where the impostors at hand are too few to find its threshold."""
    scores, left, right = genuine
    accepted = np.cumsum(np.where(left == right, w[left], w[left] * w[right]))
    if not total or not accepted[-1]:
        return True
    impostor, left, right = top
    first = np.searchsorted(np.cumsum(w[left] * w[right]), allowed, side="right")  # the first that must be rejected
    if first.max() == len(impostor):
        return False
    above = np.searchsorted(-scores, -impostor[first], side="left")
    tar[:] = np.append(0, accepted)[above] / accepted[-1]
    return True


def _check_pairs(scores: np.ndarray, issame: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    if scores.ndim != 1 or issame.shape != scores.shape or issame.dtype != bool or not np.isfinite(scores).all():
        raise ValueError(
            f"scores {scores.shape} and flags {issame.shape} {issame.dtype}: expected (n,) finite and bool"
        )
    for unit in (left, right):
        _check_units(unit, scores.shape)
        if len(unit) and unit.min() < 0:
            raise ValueError(f"units from {unit.min()}: expected integers from 0")
    if issame.all() or not issame.any():
        raise ValueError(f"{issame.sum()} of {len(issame)} pairs are genuine: TAR@FAR needs genuine and impostor pairs")
    within = int(np.count_nonzero((left == right) & ~issame))
    if within:
        raise ValueError(f"{within} impostor pairs have one unit on both sides: expected units within one identity")


def _check_units(unit: np.ndarray, shape: tuple[int, ...]) -> None:
    if unit.shape != shape or unit.dtype.kind not in "iu":
        raise ValueError(f"units {unit.shape} {unit.dtype}: expected {shape} integers")
