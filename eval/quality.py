"""What a feature norm is worth as a quality score: the indicator, error-versus-discard curves, norm against resolution.

Error versus discard (EDC; ISO/IEC 29794-1, from Grother and Tabassi, Performance of biometric quality measures, 2007,
where it is called error versus reject): genuine pairs are discarded by rising quality, and the FNMR of the rest at a
threshold that stays shows whether low quality foretold the errors. Conventions as in Schlett, Rathgeb, Tapia and
Busch, Considerations on the evaluation of biometric quality assessment algorithms, 2023: a pair is as good as the worse
of its images, pairs of equal quality go together, the curve is a step function.

A score is higher where two faces are more alike (a distance's negative). FNMR: fraction of genuine pairs rejected.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eval.roc import checked_scores


class Curve(NamedTuple):
    """Step function: from `discard[i]` on the FNMR is `fnmr[i]`, up to the next step."""

    discard: np.ndarray  # (s,) float64, fractions of the genuine pairs, rising from 0
    fnmr: np.ndarray  # (s,) float64


def indicator(z: np.ndarray, mean: float, std: float, c: float = 0.333) -> np.ndarray:
    """Quality indicator of feature norms (Eq. 1): clip(c (z - mean) / (std + 0.001), -1, 1).

    Args:
        z: (n,) norms; clipped to [0.001, 100] as in training.
        mean, std: of the norms, the training's running ones or those of the set.
        c: scale (AdaFace's h).

    Returns:
        (n,) float64 in [-1, 1].

    Raises:
        ValueError: norms that are not finite, a negative std.
    """
    z = np.asarray(z, np.float64)
    bad = int(np.count_nonzero(~np.isfinite(z)))
    if bad or not (np.isfinite(mean) and std >= 0):
        raise ValueError(f"{bad} of {z.size} norms not finite, mean {mean}, std {std}: expected finite ones, std >= 0")
    return np.clip(c * (np.clip(z, 0.001, 100) - mean) / (std + 0.001), -1, 1)


def pair_quality(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A pair is as good as the worse of its images: (n,) minimum of both."""
    return np.minimum(first, second)


def threshold_for_fnmr(genuine: np.ndarray, fnmr: float = 0.05) -> float:
    """The lowest score to be *exceeded* at which at least this fraction of all genuine pairs is rejected.

    The starting error may lie above `fnmr`: by less than one pair, or by all pairs that are tied there. For a starting
    FAR take `roc.strict_thresholds` of the impostors.

    Raises:
        ValueError: no scores, scores that are not finite, `fnmr` outside (0, 1).
    """
    genuine = np.sort(checked_scores(genuine, "genuine scores"))
    if not 0 < fnmr < 1:
        raise ValueError(f"fnmr={fnmr}: expected a fraction between 0 and 1, as 0.05")
    rejected = np.arange(1, len(genuine) + 1) / len(genuine)
    return float(genuine[np.searchsorted(rejected, fnmr)])


def error_vs_discard(genuine: np.ndarray, quality: np.ndarray, threshold: float) -> Curve:
    """FNMR of what is left as genuine pairs of the lowest quality are discarded.

    A pair is rejected unless its score exceeds the threshold. Pairs of equal quality are discarded all or none: a
    fraction that ends within such a group leaves the group in. So no order within ties can help, and a constant
    quality gives a flat line, which is what discarding at random gives on average.

    Args:
        genuine: (n,) scores of genuine pairs.
        quality: (n,) of the pairs, see `pair_quality`.
        threshold: see `threshold_for_fnmr` and `roc.strict_thresholds`.

    Returns:
        a step for each distinct quality; the last one keeps the pairs of the highest quality.

    Raises:
        ValueError: no pairs, other shapes, scores or qualities that are not finite.
    """
    genuine, quality = checked_scores(genuine, "genuine scores"), checked_scores(quality, "qualities")
    if genuine.shape != quality.shape:
        raise ValueError(f"{len(genuine)} genuine scores and {len(quality)} qualities: expected one for each pair")
    # in double, as the threshold may be one
    _, group = np.unique(quality, return_inverse=True)
    pairs = np.bincount(group)
    errors = np.bincount(group, genuine.astype(np.float64) <= threshold)
    left, wrong = pairs[::-1].cumsum()[::-1], errors[::-1].cumsum()[::-1]
    return Curve((len(genuine) - left) / len(genuine), wrong / left)


def pauc(curve: Curve, limit: float = 0.2) -> float:
    """Area under the curve up to a discard fraction, scaled: 0 is ideal, 1 is discarding at random.

    Ideal is the theoretical best of the literature: each discarded pair is an error, and the FNMR falls as
    max(0, e - x) from its start e. (Not reached entirely: the rest shrinks too, (e - x) / (1 - x) is what can be.)
    Random keeps e. Above 1 the quality is worse than chance.

    Args:
        curve: of `error_vs_discard`.
        limit: discard fraction; 0.2 or 0.3 are customary, more is steadier (Schlett et al.).

    Returns:
        (area - ideal area) / (random area - ideal area); 0 where nothing is wrong from the start.

    Raises:
        ValueError: limit outside (0, 1].
    """
    if not 0 < limit <= 1:
        raise ValueError(f"limit={limit}: expected a discard fraction above 0, up to 1")
    start = curve.fnmr[0]
    if start == 0:
        return 0.0
    edges = np.minimum(np.append(curve.discard, 1.0), limit)
    area = float(np.sum(curve.fnmr * np.diff(edges)))
    end = min(start, limit)  # the ideal line reaches 0, or the limit
    ideal = start * end - end**2 / 2
    return float((area - ideal) / (start * limit - ideal))


def norm_rises(norm_by_resolution: Sequence[tuple[float, float]]) -> str | None:
    """A warning where a sharper image does not get a longer feature: then the norm is no quality score.

    Args:
        norm_by_resolution: (pixels, mean norm) of the same faces, in any order.

    Returns:
        one line that names each step down or level; None where the norm rises at each step.

    Raises:
        ValueError: a resolution twice, norms that are not finite.
    """
    ordered = sorted(norm_by_resolution)
    if len({pixels for pixels, _ in ordered}) < len(ordered) or not np.isfinite([z for _, z in ordered]).all():
        raise ValueError(f"norms by resolution {ordered}: expected each resolution once and finite norms")
    steps = [
        f"{norm:.4g} at {pixels:g} px, {higher_norm:.4g} at {higher:g} px"
        for (pixels, norm), (higher, higher_norm) in zip(ordered, ordered[1:], strict=False)
        if not higher_norm > norm
    ]
    if not steps:
        return None
    return (
        f"the mean feature norm does not rise with the resolution: {'; '.join(steps)}; it is no measure of quality here"
    )
