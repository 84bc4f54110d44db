"""What the pictures of `eval.plots` share: checked curves, figures, looks, axes, and the legend below them.

Nothing of matplotlib's global state is used or changed: plots may be drawn in a training run, in threads and without a
display. Curves differ in colour, dashes and marker: colours alone are not told apart by everyone.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from utils.files import replacing

Curve = tuple[np.ndarray, np.ndarray]
DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)))
MARKERS = "osD^vP"
MANY = 30  # points from which on a curve needs no markers
REFERENCE: dict[str, Any] = {"color": "grey", "linewidth": 1}


def checked(curves: Mapping[str, tuple[np.ndarray, ...]], needed: str = "a point") -> dict[str, tuple]:
    """Curves as tuples of arrays.

    Raises:
        ValueError: no curve, an empty one, arrays of different lengths, numbers that are not finite.
    """
    if not curves:
        raise ValueError("nothing to plot: expected one curve or more")
    curves = {name: tuple(np.asarray(array) for array in arrays) for name, arrays in curves.items()}
    for name, arrays in curves.items():
        shapes = ", ".join(str(array.shape) for array in arrays)
        if not arrays[0].size:
            raise ValueError(f"curve {name!r} is empty: expected {needed} or more")
        if any(array.shape[:1] != arrays[0].shape or not array.size for array in arrays):
            raise ValueError(f"curve {name!r} has arrays of shapes {shapes}: expected as many points in each")
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError(f"curve {name!r} holds NaN or infinity: expected finite numbers")
    return curves


def new_figure(title: str, x: str, y: str, panels: Sequence[str] = ("",)) -> tuple[Figure, list[Axes]]:
    """A figure of 1,200 x 750 pixels with a panel for each title in `panels`, side by side, on one scale."""
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    row = list(figure.subplots(1, len(panels), squeeze=False, sharey=True)[0])
    figure.suptitle(textwrap.fill(title, 80))
    for axes, panel in zip(row, panels, strict=True):
        axes.set_title(panel, fontsize="medium")
        axes.set_xlabel(x)
        axes.grid(True, color="0.9")
        axes.set_axisbelow(True)
    row[0].set_ylabel(y)
    return figure, row


def draw(axes: Axes, curves: Mapping[str, Curve], palette: str = "Dark2", drawstyle: str = "default") -> list[Line2D]:
    """A line for each curve, its points marked where they are few; `palette` and `drawstyle` are matplotlib's."""
    lines = []
    for row, (name, (x, y)) in enumerate(curves.items()):
        marker = MARKERS[row % len(MARKERS)] if len(x) < MANY else None
        look = _look(row, palette)
        lines += axes.plot(x, y, label=name, marker=marker, markersize=5, linewidth=2, drawstyle=drawstyle, **look)
    return lines


def draw_histograms(axes: Axes, samples: Mapping[str, np.ndarray]) -> None:
    """Outlines of the share of each sample in 40 common bins."""
    low, high = min(x.min() for x in samples.values()), max(x.max() for x in samples.values())
    edges = np.linspace(low, high, 41) if high > low else np.linspace(low - 0.5, high + 0.5, 41)
    for row, (name, x) in enumerate(samples.items()):
        look = _look(row, "Dark2")
        share = np.histogram(x, edges)[0] / len(x)
        if len(samples) == 2:
            axes.stairs(share, edges, fill=True, alpha=0.15, color=look["color"])
        axes.stairs(share, edges, label=name, linewidth=1.5, **look)
    axes.set_ylim(bottom=0)
    percent(axes.yaxis)


def _look(row: int, palette: str) -> dict:
    return {"color": matplotlib.colormaps[palette](row % 8), "linestyle": DASHES[row % len(DASHES)]}


def percent(axis) -> None:
    axis.set_major_formatter(lambda rate, _: f"{100 * rate:.5g} %")


def rates(axes: Axes, values: Sequence[np.ndarray]) -> None:
    """A vertical axis from below the lowest rate to 100 %, at least 5 points high."""
    height = max(1 - min(float(rate.min()) for rate in values), 0.05)
    axes.set_ylim(1 - 1.08 * height, 1 + 0.03 * height)
    percent(axes.yaxis)


def pixels(axes: Axes, values: Sequence[np.ndarray]) -> None:
    """A logarithmic axis that names the resolutions that were measured."""
    sides = np.unique(np.concatenate(values))
    axes.set_xscale("log")
    axes.set_xlim(sides[0] / 1.15, sides[-1] * 1.15)
    axes.xaxis.set_major_locator(FixedLocator(sides.tolist()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda side, _: f"{side:g}")


def save(figure: Figure, path: Path | str) -> None:
    """Write the PNG; the legend, which is the first panel's, stands below the axes, where it covers nothing."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    columns = max(1, min(3, 110 // (10 + max(map(len, labels)))))
    figure.legend(handles, labels, loc="outside lower center", fontsize="small", ncols=columns)
    with replacing(Path(path)) as beside:
        figure.savefig(beside, format="png")
