"""How far apart query and key are in training, positive and negative pairs, for the queue of each run (Fig. 3b).

    python -m tools.figures difference work_dirs/proxy work_dirs/momentum --output difference.png

Each run is a folder whose metrics.jsonl has diag/positive_difference and diag/negative_difference: means of |q - key|
over pairs of unit features, from 0 (equal) to 2 (opposite). Long runs are shown as means of neighbouring lines.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np

from tools import recorded
from tools.figures import page
from utils.cli import Parser

KINDS = {"positive": ("-", "o"), "negative": ("--", "s")}  # dashes and marker
COLUMNS = tuple(f"diag/{kind}_difference" for kind in KINDS)
POINTS = 120  # of a curve, at most
MANY = 30  # points from which on a curve needs no markers


class Curves(NamedTuple):
    """What a run recorded: (m,) each, rising steps and |q - key|."""

    step: np.ndarray
    positive: np.ndarray
    negative: np.ndarray


def main(words: list[str]) -> None:
    """Write the figure."""
    options = _options(words)
    curves = {name: read_curves(run) for name, run in zip(_names(options), options.runs, strict=True)}
    figure = page.new_page("Feature difference of query and key in the contrast, by queue", 8, 5.4)
    axes = figure.subplots()
    lines, averaged = [], 1
    for row, (name, curve) in enumerate(curves.items()):
        step, positive, negative = averages(curve, POINTS)
        averaged = max(averaged, -(-len(curve.step) // POINTS))
        for kind, values in (("positive", positive), ("negative", negative)):
            dashes, marker = KINDS[kind]
            lines += axes.plot(
                step, values, dashes, label=f"{name}: {kind} pairs", color=matplotlib.colormaps["Dark2"](row % 8),
                marker=marker if len(step) < MANY else None, markersize=4, linewidth=2,
            )  # fmt: skip
    axes.set_xlabel("optimizer step")
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    axes.set_ylabel("mean |q - key| of unit features")
    axes.set_ylim(bottom=0)
    axes.grid(True, color="0.9")
    axes.set_axisbelow(True)
    caption = (
        "Positive pairs: each augmented image q and its original, by the network in training (momentum queue: by the "
        "momentum encoder). Negative pairs: q and the pool's rows of other identities. High and low quality alike. "
        "0: equal, 1.41: orthogonal, 2: opposite."
        + (f" Each point: mean of up to {averaged} recorded steps." if averaged > 1 else "")
    )
    page.write(figure, caption, options.output, lines)
    print(f"figure   {options.output}")


def read_curves(run: Path) -> Curves:
    """What a run's metrics.jsonl has of both differences; lines without them, or with null, are passed over.

    Raises:
        ValueError: no such file, a line that is none, or no line with them.
    """
    rows = [
        (values["step"], *(values[column] for column in COLUMNS))
        for values in recorded.metrics(run)
        if all(values.get(column) is not None for column in COLUMNS)
    ]
    if not rows:
        raise ValueError(
            f"{run}: metrics.jsonl has no line with {' and '.join(COLUMNS)}; a run with pool='proxy', 'momentum' or "
            "'batch' writes them every diagnose_every=100 steps"
        )
    return Curves(*np.array(rows, float).T)


def averages(curves: Curves, points: int) -> Curves:
    """At most `points` points: means over neighbouring lines, as many lines for each point."""
    step = -(-len(curves.step) // points)
    starts = np.arange(0, len(curves.step), step)
    counts = np.diff([*starts, len(curves.step)])
    return Curves(*(np.add.reduceat(values, starts) / counts for values in curves))


def _names(options: argparse.Namespace) -> list[str]:
    """Those that were given, else the pools; the runs' folders where that does not tell them apart."""
    names = options.names or [_pool(run) for run in options.runs]
    if len(names) != len(options.runs):
        raise ValueError(f"--names: {len(names)} for {len(options.runs)} runs; expected one for each")
    if len(set(names)) < len(names) and not options.names:
        names = [f"{name}, {run.resolve().name}" for name, run in zip(names, options.runs, strict=True)]
    if len(set(names)) < len(names):
        raise ValueError(f"two runs are called {max(names, key=names.count)!r}: --names gives each its own")
    return names


def _pool(run: Path) -> str:
    try:
        return f"{json.loads((run / 'config.json').read_text())['pool']} queue"
    except (OSError, ValueError, LookupError, TypeError):
        return run.resolve().name


def _options(words: list[str]) -> argparse.Namespace:
    parser = Parser("python -m tools.figures difference", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="of the runs; default: their queues")
    page.add_output(parser)
    options = parser.parse_args(words)
    page.check_output(options.output)
    return options
