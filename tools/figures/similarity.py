"""Similarity of probes to the gallery, two models side by side, for each distance (Fig. 5).

    python -m tools.figures similarity work_dirs/qgface work_dirs/baseline --target scface --names QGFace Baseline

For each probe two cosines: to the gallery image of its own identity (matched), and to the most similar one of another
identity (unmatched). The difference of their means is what a search lives on; each title states by how many per cent
the first model's is larger. Both are kept by evaluations of `scface` and `surveillance:NAME`.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from eval.results import read_evidence, read_results
from tools.figures import page
from utils.cli import Parser

KINDS = ("matched", "unmatched")
COLOURS = ("#1b6ca8", "#d95f02")
BINS = 50
SHORT = 24  # letters of a name


class Similarities(NamedTuple):
    """Cosines of the probes at one distance: to their own gallery image, and to the most similar other one; (n,)."""

    matched: np.ndarray
    unmatched: np.ndarray

    def gap(self) -> float:
        """The difference of the means."""
        return float(self.matched.mean(dtype=np.float64) - self.unmatched.mean(dtype=np.float64))


def main(words: list[str]) -> None:
    """Write the figure; print the differences."""
    options = _options(words)
    ours, theirs = (_results_file(path) for path in (options.ours, options.baseline))
    target = _target(options.target, ours, theirs)
    names = options.names or [path.parent.resolve().name for path in (ours, theirs)]
    if names[0] == names[1]:
        raise ValueError(f"both models are called {names[0]!r}: --names gives each its own")
    models = dict(zip(names, (read_similarities(ours, target), read_similarities(theirs, target)), strict=True))
    distances = [distance for distance in models[names[0]] if distance in models[names[1]]]
    if not distances:
        raise ValueError(f"{target}: the two results have no distance in common")
    figure = page.new_page(f"Similarity of probes to the gallery, {target}: {names[0]} and {names[1]}",
                           max(7, 3.6 * len(distances)), 4.8)  # fmt: skip
    panels = figure.subplots(1, len(distances), squeeze=False, sharex=True, sharey=True)[0]
    edges = _edges([values for model in models.values() for distance in distances for values in model[distance]])
    for axes, distance in zip(panels, distances, strict=True):
        pair = {name: model[distance] for name, model in models.items()}
        gaps = [one.gap() for one in pair.values()]
        title = f"{distance}: {improvement(*gaps)}\ndifference {gaps[0]:.3f} against {gaps[1]:.3f}"
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel(f"cosine similarity, n = {len(pair[names[0]].matched):,}")
        legend = draw(axes, pair, edges)
        print(f"{distance:8} difference of means {gaps[0]:.4f}, baseline {gaps[1]:.4f}: {improvement(*gaps)}")
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel(f"share of the probes, {BINS} bins")
    caption = (
        "Filled: each probe and the gallery image of its identity. Outlined: each probe and the most similar gallery "
        "image of another identity. Vertical lines: means. Titles: how much larger the difference of the two means is "
        f"with {names[0]} than with {names[1]}, and both differences. n: probes."
    )
    page.write(figure, caption, options.output, legend)
    print(f"figure   {options.output}")


def improvement(ours: float, theirs: float) -> str:
    """How much larger a difference of means is; per cent of a baseline that is not above 0 would say nothing."""
    return f"{100 * (ours / theirs - 1):+.1f} %" if theirs > 0 else f"{ours - theirs:+.3f}"


def draw(axes: Axes, models: dict[str, Similarities], edges: np.ndarray) -> list[Artist]:
    """Histograms of one distance; returns what the legend names."""
    shown = []
    for (name, pair), colour in zip(models.items(), COLOURS, strict=True):
        for kind, values in zip(KINDS, pair, strict=True):
            share, matched = np.histogram(values, edges)[0] / len(values), kind == "matched"
            shown.append(
                axes.stairs(
                    share, edges, fill=matched, color=colour, alpha=0.45 if matched else 1, linewidth=1.5,
                    linestyle="-" if matched else "--", label=f"{_short(name)}: {kind}",
                )
            )  # fmt: skip
            axes.axvline(values.mean(), color=colour, linewidth=1, linestyle="-" if matched else "--")
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.5g} %")
    axes.grid(True, color="0.9")
    axes.set_axisbelow(True)
    return shown


def read_similarities(path: Path, target: str) -> dict[str, Similarities]:
    """What an evaluation kept, by distance, in the order of the names.

    Raises:
        ValueError: evidence that is missing, of different lengths, or not finite.
    """
    evidence = read_evidence(path, target)
    kept = {}
    for name in sorted(key.partition("/")[2] for key in evidence if key.startswith("matched/")):
        pair = Similarities(*(evidence.get(f"{kind}/{name}", np.empty(0)) for kind in KINDS))
        if pair.matched.ndim != 1 or pair.matched.shape != pair.unmatched.shape or not pair.matched.size:
            raise ValueError(
                f"{path}, {target}, {name}: {pair.matched.size} matched and {pair.unmatched.size} unmatched "
                "similarities; expected one of each for every probe"
            )
        if not all(np.isfinite(values).all() for values in pair):
            raise ValueError(f"{path}, {target}, {name}: a similarity is not finite")
        kept[name] = pair
    return kept


def _target(name: str | None, *paths: Path) -> str:
    """The target that both results have, of the same data and protocol, with similarities."""
    known = [read_results(path)["provenance"] for path in paths]
    both = [target for target in known[0] if target in known[1] and name in (None, target)]
    fit = [target for target in both if all(read_similarities(path, target) for path in paths)]
    if not fit:
        raise ValueError(
            f"{paths[0]} and {paths[1]} do not both have similarities of {name or 'a common target'}; evaluations of "
            "scface and surveillance:NAME keep them"
        )
    if len(fit) > 1:
        raise ValueError(f"{' and '.join(fit)} are in both results; --target names one of them")
    (name,) = fit
    for key, what in (("data_digest", "data"), ("protocol", "versions of the protocol")):
        if known[0][name].get(key) != known[1][name].get(key):
            raise ValueError(f"{name}: the two results are of different {what}; evaluate one of the models again")
    return name


def _results_file(path: Path) -> Path:
    return path / "results.json" if path.is_dir() else path


def _edges(samples: list[np.ndarray]) -> np.ndarray:
    low, high = min(values.min() for values in samples), max(values.max() for values in samples)
    return np.linspace(low, high, BINS + 1) if high > low else np.linspace(low - 0.5, low + 0.5, BINS + 1)


def _short(name: str) -> str:
    return name if len(name) <= SHORT else f"{name[: SHORT - 1]}…"


def _options(words: list[str]) -> argparse.Namespace:
    parser = Parser("python -m tools.figures similarity", __doc__)
    parser.add_argument("ours", type=Path, help="results.json, or the folder it is in")
    parser.add_argument("baseline", type=Path, help="likewise")
    parser.add_argument("--target", help="scface, surveillance:NAME; default: the only one that both have")
    parser.add_argument("--names", nargs=2, metavar="NAME", help="of the two models; default: their folders")
    page.add_output(parser)
    options = parser.parse_args(words)
    page.check_output(options.output)
    return options
