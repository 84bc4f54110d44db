"""Pictures of results: PNGs of 1,200 x 750 pixels that can be read without the text around them.

Each function writes `path`. It takes plain arrays by name of the curve, and `of`, what was measured, for the title.
Rates come as fractions and are shown in percent. All of them raise ValueError, in a line, where there is no curve, an
empty one, one whose arrays differ in length, or one with NaN or infinity.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.ticker import FixedLocator

from eval.figures import REFERENCE, Curve, checked, draw, draw_histograms, new_figure, percent, pixels, rates, save

_PIXELS = "side of the face image, pixels (log)"


def plot_roc(path: Path | str, of: str, curves: Mapping[str, Curve]) -> None:
    """True accept rate over false accept rate, the latter on a logarithmic axis: points at 0 are not shown.

    Args:
        curves: name -> FAR and TAR, (m,) each, in [0, 1].

    Raises:
        ValueError: as above, or no point of a curve is above FAR 0.
    """
    curves = {name: (far[far > 0], tar[far > 0]) for name, (far, tar) in checked(curves).items()}
    curves = checked(curves, "a point above FAR 0")
    figure, (axes,) = new_figure(f"ROC: {of}", "false accept rate (log)", "true accept rate")
    draw(axes, curves, "Set2")  # the colours of InsightFace's IJB scripts, which menpo takes from there
    axes.set_xscale("log")
    ends = np.concatenate([far for far, _ in curves.values()])
    axes.set_xlim(ends.min() / 1.3, ends.max() * 1.3)
    rates(axes, [tar for _, tar in curves.values()])
    save(figure, path)


def plot_cmc(path: Path | str, of: str, ranks: Mapping[str, np.ndarray], largest: int = 20) -> None:
    """The share of probes whose match is among the first k of the gallery, k from 1 to `largest`.

    Args:
        ranks: name -> (probes,) rank of each probe's match, 1 is best.
    """
    k = np.arange(1, largest + 1)
    columns = checked({name: (rank,) for name, rank in ranks.items()})
    curves = {name: (k, (rank[:, None] <= k).mean(axis=0)) for name, (rank,) in columns.items()}
    figure, (axes,) = new_figure(f"CMC: {of}", "rank k", "probes whose match is among the first k")
    draw(axes, curves)
    axes.set_xlim(0.5, largest + 0.5)
    axes.xaxis.set_major_locator(FixedLocator([1, *range(5, largest + 1, 5)]))
    rates(axes, [share for _, share in curves.values()])
    save(figure, path)


def plot_resolution(path: Path | str, of: str, curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
    """Verification accuracy over resolution: with both images of a pair degraded on the left, with one on the right.

    Args:
        curves: name -> side in pixels, accuracy of both, accuracy of one, (m,) each.
    """
    curves = checked(curves)
    panels = ("both images at that resolution", "one image at it, the other as it is")
    figure, row = new_figure(f"Verification accuracy by resolution: {of}", _PIXELS, "accuracy", panels)
    for panel, axes in enumerate(row, 1):
        draw(axes, {name: (arrays[0], arrays[panel]) for name, arrays in curves.items()})
        axes.axhline(0.5, label="chance", linestyle=":", **REFERENCE)
        pixels(axes, [arrays[0] for arrays in curves.values()])
        rates(axes, [accuracy for arrays in curves.values() for accuracy in arrays[1:]] + [np.array([0.5])])
    save(figure, path)


def plot_discard(path: Path | str, of: str, curves: Mapping[str, Curve], limit: float = 0.3) -> None:
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
    figure, (axes,) = new_figure(f"Error versus discard: {of}", "discarded, lowest quality first", "FNMR of the rest")
    draw(axes, steps, drawstyle="steps-post")
    for row, f in enumerate(sorted({float(fnmr[0]) for _, fnmr in steps.values()})):
        labels = ("quality says nothing", "theoretical best") if row == 0 else (None, None)
        axes.axhline(f, label=labels[0], linestyle=":", **REFERENCE)
        axes.plot([0, f, 1], [f, 0, 0], label=labels[1], **REFERENCE)
    top = max(float(fnmr.max()) for _, fnmr in steps.values()) or 1.0
    axes.set_xlim(0, limit)
    axes.set_ylim(-0.02 * top, 1.08 * top)
    percent(axes.xaxis)
    percent(axes.yaxis)
    save(figure, path)


def plot_norms(path: Path | str, of: str, norms: Mapping[str, Curve]) -> None:
    """The feature norm over resolution: mean as a line, 5th to 95th percentile as a band.

    Args:
        norms: name -> side in pixels (m,) and norms (m, images).
    """
    norms = checked(norms)
    title = f"Feature norm by resolution: {of}"
    figure, (axes,) = new_figure(title, _PIXELS, "norm z: mean, 5th to 95th percentile")
    lines = draw(axes, {name: (sides, z.mean(axis=1)) for name, (sides, z) in norms.items()})
    for line, (sides, z) in zip(lines, norms.values(), strict=True):
        axes.fill_between(sides, *np.percentile(z, (5, 95), axis=1), color=line.get_color(), alpha=0.15, linewidth=0)
    pixels(axes, [sides for sides, _ in norms.values()])
    save(figure, path)


def plot_distances(
    path: Path | str, of: str, dist: np.ndarray, issame: np.ndarray, threshold: float | None = None
) -> None:
    """How the distances of matched and of mismatched pairs are distributed, in common bins, and the threshold.

    Args:
        dist: (n,) squared distances of unit features, 0 to 4.
        issame: (n,) bool.
    """
    ((dist, issame),) = checked({"distances": (dist, issame)}).values()
    kinds = {"matched": dist[issame], "mismatched": dist[~issame]}
    samples = {f"{len(kind):,} {name} pairs": kind for name, kind in kinds.items() if len(kind)}
    title, x = f"Distances of pairs: {of}", "squared distance of unit features"
    figure, (axes,) = new_figure(title, x, "share of that kind of pairs, 40 bins")
    draw_histograms(axes, samples)
    if threshold is not None:
        axes.axvline(threshold, color="black", linewidth=1.2, label=f"threshold {threshold:.3f}")
    save(figure, path)
