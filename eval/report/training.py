"""A run folder: its config, where it ran, and the curves of its training."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval.figures import Chart, Series, linear, number, percent
from utils import log_lines

LARGEST = 1e38  # about what float32 holds: a number beyond it is no training's
POINTS = 300  # of a curve; beyond them neighbours are averaged
# title, vertical axis, names in metrics.jsonl, how to read it
CURVES: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("Classification", "loss", ("loss_classification",), "Falling and then level is as it should be."),
    ("Contrast", "loss before its weight", ("loss_contrastive",), "Rises as more images count as low quality."),
    ("Learning rate", "learning rate", ("lr",), "As the schedule of the config has it."),
    ("Samples of high and pairs of low quality", "share", ("hq_samples", "lq_pairs"),
     "Classified samples, and pairs that are contrasted."),
    ("Feature norms", "norm", ("norm_mean", "norm_std"), "Running mean and deviation, of which quality is made."),
    ("Gradient", "norm before clipping", ("grad_norm",), "Of what is above clip_grad_norm the direction counts alone."),
    ("Speed", "images per second", ("samples_per_s",), "Of all processes together."),
    ("Cosines with keys", "cosine", ("diag/positive_cosine", "diag/negative_cosine"),
     "The positive keys should stand well above the negative ones."),
    ("Gradients of both losses", "norm", ("diag/grad_norm_classification", "diag/grad_norm_contrastive"),
     "One far below the other has no say."),
    ("Age of the queue", "steps", ("diag/queue_age_mean", "diag/queue_age_max"), "Old keys are stale."),
)  # fmt: skip
HISTOGRAMS = (
    ("Feature norms of the last batch looked at", "norm z", ("z_original", "z_augmented")),
    ("Quality indicators of the last batch looked at", "indicator", ("z_hat_original", "z_hat_augmented")),
)


class Run(NamedTuple):
    """`config`: config.json. `lines`: of metrics.jsonl. `histograms`: the last line of diagnostics.jsonl. `facts`:
    where it ran, as its newest checkpoint has it.
    """

    config: dict[str, object]
    lines: list[dict]
    histograms: dict
    facts: dict[str, object]


def open_run(folder: Path) -> Run:
    """What can be read of a run folder; the rest is empty."""
    states = sorted((folder / "checkpoints").glob("step_*[0-9]/state.json"))
    state = _json(states[-1]) if states else {}
    lines, _ = log_lines.until(folder / "metrics.jsonl", 2**63, log_lines.read_metrics)
    shapes, _ = log_lines.until(folder / "diagnostics.jsonl", 2**63, log_lines.read_histograms)
    facts = {name: state[name] for name in ("code", "torch", "machine") if name in state}
    last = shapes[-1][1] if shapes else {}
    return Run(_json(folder / "config.json"), [values for _, values in lines], last, facts)


def _json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    except (OSError, ValueError):
        return {}


def charts(run: Run) -> list[tuple[Chart, str]]:
    """The curves that the run has, each with how to read it."""
    found = []
    for title, y, names, how in CURVES:
        format = percent if y == "share" else number
        found.append((_chart(title, y, _columns(run.lines, names), format), how))
    results = sorted({name for line in run.lines for name in line if log_lines.is_result(name)})
    for target in dict.fromkeys(name.split("/")[1] for name in results):
        chosen = [name for name in results if name.split("/")[1] == target and _is_rate(name)]
        columns = {name: column for name, column in _columns(run.lines, chosen[:6]).items() if len(column[0]) > 1}
        found.append((_chart(f"Evaluations: {target}", "rate", columns, percent), "While it trained."))
    for title, x, names in HISTOGRAMS:
        shapes = {name: run.histograms[name] for name in names if _is_histogram(run.histograms.get(name))}
        found.append((_histogram(title, x, shapes), "A large shift to the left is what the augmentation does."))
    return [(chart, how) for chart, how in found if chart is not None]


def _is_rate(name: str) -> bool:
    """A metric that a training is watched by, of the many."""
    metric = name.split("/")[-1]
    heads = ("accuracy", "tar@far", "rank1", "mean_", "map")
    return metric in ("clean", "d1", "d2", "d3", "average") or (metric.startswith(heads) and metric[8:9] != "_")


def _columns(lines: Sequence[dict], names: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> steps and values; what is not finite is left out, many points become means of neighbours."""
    found = {}
    for name in names:
        points = [(line["step"], line[name]) for line in lines if isinstance(line.get(name), int | float)]
        points = [point for point in points if _drawable(*point)]
        if points:
            parts = np.array_split(np.array(points, float), min(len(points), POINTS))
            found[name] = tuple(np.array([part.mean(axis=0) for part in parts]).T)
    return found


def _drawable(*numbers: float) -> bool:
    return all(abs(number) < LARGEST for number in numbers)  # not so for NaN


def _is_histogram(shape: dict | None) -> bool:
    return shape is not None and _drawable(shape["least"], shape["most"], *shape["counts"])


def _chart(title: str, y: str, columns: dict, format: Callable[[float], str]) -> Chart | None:
    if not columns:
        return None
    values = np.concatenate([column for _, column in columns.values()])
    steps = np.concatenate([steps for steps, _ in columns.values()])
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low)
    shown = {name.removeprefix("diag/").replace("_", " ").split("/")[-1]: column for name, column in columns.items()}
    series = [Series(name, x, v, row) for row, (name, (x, v)) in enumerate(shown.items())]
    x = linear("step", float(steps.min()), float(steps.max()))
    return Chart(title, x, linear(y, low - margin, high + margin, format), tuple(series))


def _histogram(title: str, x: str, shapes: dict[str, dict]) -> Chart | None:
    series, top = [], 0.0
    for row, (name, shape) in enumerate(shapes.items()):
        counts = np.array(shape["counts"], float)
        share = counts / max(counts.sum(), 1)
        edges = np.linspace(shape["least"], shape["most"], len(counts) + 1)
        series.append(
            Series(name.removeprefix("z_").removeprefix("hat_"), edges, np.append(share, share[-1]), row, "bars")
        )
        top = max(top, float(share.max()))
    if not series:
        return None
    low, high = min(float(s.x[0]) for s in series), max(float(s.x[-1]) for s in series)
    return Chart(title, linear(x, low, high), linear("share, 40 bins", 0, 1.05 * top, percent), tuple(series))
