"""What a result looks like: charts that can be read without the text around them.

Each function takes plain arrays by name of the curve, and `of`, what was measured, for the title. Rates come as
fractions and are shown in percent. All of them raise ValueError, in a line, where there is no curve, an empty one, one
whose arrays differ in length, or one with NaN or infinity.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from eval.figures import Axis, Chart, Curve, Series, checked, histograms, linear, logarithmic, percent, rates
from eval.identification import cmc


def plot_roc(of: str, curves: Mapping[str, Curve]) -> Chart:
    """True accept rate over false accept rate, the latter on a logarithmic axis: points at 0 are not shown.

    Args:
        curves: name -> FAR and TAR, (m,) each, in [0, 1].

    Raises:
        ValueError: as above, or no point of a curve is above FAR 0.
    """
    curves = {name: (far[far > 0], tar[far > 0]) for name, (far, tar) in checked(curves).items()}
    curves = checked(curves, "a point above FAR 0")
    ends = np.concatenate([far for far, _ in curves.values()])
    x = logarithmic("false accept rate (log)", ends.min() / 1.3, ends.max() * 1.3)
    return Chart(f"ROC: {of}", x, rates("true accept rate", [tar for _, tar in curves.values()]), _lines(curves))


def plot_cmc(of: str, ranks: Mapping[str, np.ndarray], largest: int = 20) -> Chart:
    """The share of probes whose match is among the first k of the gallery, k from 1 to `largest`.

    Args:
        ranks: name -> (probes,) int rank of each probe's match, 1 is best.
    """
    k = np.arange(1, largest + 1)
    columns = checked({name: (rank,) for name, rank in ranks.items()})
    curves = {name: (k, cmc(rank, largest)) for name, (rank,) in columns.items()}
    x = Axis("rank k", 0.5, largest + 0.5, [1, *range(5, largest + 1, 5)], lambda k: f"{k:g}")
    y = rates("probes whose match is in the first k", [share for _, share in curves.values()])
    return Chart(f"CMC: {of}", x, y, _lines(curves))


def plot_resolution(of: str, curves: Mapping[str, Curve]) -> Chart:
    """Verification accuracy over resolution.

    Args:
        curves: name -> side in pixels and accuracy, (m,) each.
    """
    curves = checked(curves)
    x = _pixels([sides for sides, _ in curves.values()])
    y = rates("accuracy", [*(accuracy for _, accuracy in curves.values()), np.array([0.5])])
    chance = Series("chance", np.array([x.low, x.high]), np.array([0.5, 0.5]), None)
    return Chart(f"Verification accuracy by resolution: {of}", x, y, (*_lines(curves), chance))


def plot_discard(of: str, curves: Mapping[str, Curve], limit: float = 0.3) -> Chart:
    """Error versus discard: false non-match rate of what is left when the lowest qualities are discarded.

    For each error without discard f there are two reference lines, those of the pAUC: f, where quality says nothing,
    and max(0, f - d), the theoretical best.

    Args:
        curves: name -> fraction discarded (m,), rising from 0, and FNMR (m,), which holds up to the next fraction.
        limit: fraction discarded at which the axis ends.
    """
    steps = {}
    for name, (discarded, fnmr) in checked(curves).items():
        shown = discarded < limit
        steps[name] = np.append(discarded[shown], limit), np.append(fnmr[shown], fnmr[shown][-1:])
    steps = checked(steps)
    series = list(_lines(steps, "steps"))
    for row, f in enumerate(sorted({float(fnmr[0]) for _, fnmr in steps.values()})):
        names = ("quality says nothing: flat; ideal: falling", "") if row == 0 else ("", "")
        series.append(Series(names[0], np.array([0, limit]), np.array([f, f]), None))
        series.append(Series(names[1], np.array([0, f, 1]), np.array([f, 0, 0]), None))
    top = max(float(fnmr.max()) for _, fnmr in steps.values()) or 1.0
    x = linear("discarded, lowest quality first", 0, limit, percent)
    y = linear("FNMR of the rest", -0.02 * top, 1.08 * top, percent)
    return Chart(f"Error versus discard: {of}", x, y, tuple(series))


def plot_norms(of: str, norms: Mapping[str, Curve]) -> Chart:
    """The feature norm over resolution: mean as a line, 5th to 95th percentile as a band.

    Args:
        norms: name -> side in pixels (m,) and norms (m, images).
    """
    norms = checked(norms)
    bands = {name: np.percentile(z, (5, 95), axis=1) for name, (_, z) in norms.items()}
    series = [
        Series(name, sides, z.mean(axis=1), row, band=tuple(bands[name]))
        for row, (name, (sides, z)) in enumerate(norms.items())
    ]
    ends = [*(band for band in bands.values()), *(one.y for one in series)]
    low, high = min(float(end.min()) for end in ends), max(float(end.max()) for end in ends)
    y = linear("norm z: mean, 5th to 95th percentile", low - 0.05 * (high - low), high + 0.05 * (high - low))
    return Chart(f"Feature norm by resolution: {of}", _pixels([sides for sides, _ in norms.values()]), y, tuple(series))


def plot_similarity(of: str, cosine: np.ndarray, issame: np.ndarray, threshold: float | None = None) -> Chart:
    """How the cosines of matched and of mismatched pairs are distributed, in common bins, and the threshold.

    Args:
        cosine: (n,) of unit features, -1 to 1.
        issame: (n,) bool.
    """
    ((cosine, issame),) = checked({"cosines": (cosine, issame)}).values()
    kinds = {"matched": cosine[issame], "mismatched": cosine[~issame]}
    samples = {f"{len(kind):,} {name} pairs": kind for name, kind in kinds.items() if len(kind)}
    chart = plot_histograms(f"Similarity of pairs: {of}", "cosine of the two features", samples)
    if threshold is None:
        return chart
    line = Series(f"threshold {threshold:.3f}", np.array([threshold] * 2), np.array([0, chart.y.high]), None)
    x = linear(chart.x.label, min(chart.x.low, threshold), max(chart.x.high, threshold))
    return chart._replace(x=x, series=(*chart.series, line))


def plot_histograms(title: str, x: str, samples: Mapping[str, np.ndarray]) -> Chart:
    """The share of each sample in 40 common bins.

    Args:
        samples: name -> (n,) values.
    """
    columns = checked({name: (values,) for name, values in samples.items()})
    series, low, high, top = histograms({name: values for name, (values,) in columns.items()})
    y = linear("share of that kind, 40 bins", 0, 1.05 * top, percent)
    return Chart(title, linear(x, low, high), y, tuple(series))


def _lines(curves: Mapping[str, Curve], shape: str = "line") -> tuple[Series, ...]:
    return tuple(Series(name, x, y, row, shape) for row, (name, (x, y)) in enumerate(curves.items()))


def _pixels(values: Sequence[np.ndarray]) -> Axis:
    """A logarithmic axis that names the resolutions that were measured."""
    sides = np.unique(np.concatenate(values))
    return logarithmic("side of the face image, pixels (log)", sides[0] / 1.15, sides[-1] * 1.15, sides.tolist())
