"""The charts of a target: whatever its evidence holds is drawn."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from eval import plots
from eval.cross_resolution import by_resolution
from eval.figures import Chart
from eval.protocol import Result, file_stem
from eval.svg import standalone
from utils.files import replacing


def draw(folder: Path, name: str, result: Result) -> list[Path]:
    """Write `<name>_roc.svg` and the like into a folder; returns the files."""
    files = []
    folder.mkdir(parents=True, exist_ok=True)
    for kind, make in charts(name, {name: result}):
        files.append(folder / f"{file_stem(name)}_{kind}.svg")
        with replacing(files[-1]) as beside:
            beside.write_text(standalone(make()), encoding="utf-8", errors="backslashreplace")
    return files


def charts(of: str, results: Mapping[str, Result]) -> Iterator[tuple[str, Callable[[], Chart]]]:
    """The kind of each chart that there is evidence for, and what makes it.

    Several models share charts of curves; histograms are the first one's.

    Args:
        of: the target.
        results: name of the model, or of the target where there is one model -> its result.
    """
    model, first = next(iter(results.items()))
    its = of if len(results) == 1 else f"{of}, {model}"
    having = {key: {n: r for n, r in results.items() if key in r.evidence} for key in ("far", "discarded", "rank")}
    if any(np.any(result.evidence["far"] > 0) for result in having["far"].values()):
        yield "roc", lambda: plots.plot_roc(of, _curves(having["far"], "far", "tar"))
    if having["rank"]:
        yield "cmc", lambda: plots.plot_cmc(of, _ranks(having["rank"]))
    if graded := {name: result for name, result in results.items() if len(_sides(result)) > 1}:
        yield "accuracy", lambda: plots.plot_resolution(of, _accuracies(graded))
        yield "norm", lambda: plots.plot_norms(of, {name: _norms(result) for name, result in graded.items()})
    if having["discarded"]:
        yield "discard", lambda: plots.plot_discard(of, _curves(having["discarded"], "discarded", "fnmr"))
    if "dist" in first.evidence:
        yield "similarity", lambda: _pairs(its, first)
    for level in [key.removeprefix("matched/") for key in first.evidence if key.startswith("matched/")]:
        yield f"similarity_{level}", partial(_probes, its, first, level)


def _curves(results: Mapping[str, Result], x: str, y: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {name: (result.evidence[x], result.evidence[y]) for name, result in results.items()}


def _ranks(results: Mapping[str, Result]) -> dict[str, np.ndarray]:
    """A curve for each distance of SCface and surveillance, one for others."""
    found = []
    for model, result in results.items():
        evidence = result.evidence
        if "distance" not in evidence:
            found.append(("", model, evidence["rank"]))
            continue
        for d in np.unique(evidence["distance"]):
            level = f"d{d}" if d else "clean"
            name = f"{level}, {model}" if len(results) > 1 else level
            found.append((level, name, evidence["rank"][evidence["distance"] == d]))
    return {name: rank for _, name, rank in sorted(found, key=lambda item: item[0])}


def _accuracies(results: Mapping[str, Result]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    found = {}
    for name, result in results.items():
        sides, both, cross = by_resolution(result.metrics)
        model = f", {name}" if len(results) > 1 else ""
        found[f"both images degraded{model}"] = sides, both
        found[f"one of the two degraded{model}"] = sides, cross
    return found


def _sides(result: Result) -> list[int]:
    return sorted(int(key[2:-2]) for key in result.evidence if key.startswith("z/") and key.endswith("px"))


def _norms(result: Result) -> tuple[np.ndarray, np.ndarray]:
    sides = _sides(result)
    return np.array(sides), np.stack([result.evidence[f"z/{side}px"] for side in sides])


def _pairs(of: str, result: Result) -> Chart:
    cosine, threshold = 1 - result.evidence["dist"] / 2, result.metrics.get("threshold")
    return plots.plot_similarity(
        of, cosine, result.evidence["issame"], None if threshold is None else 1 - threshold / 2
    )


def _probes(of: str, result: Result, level: str) -> Chart:
    samples = {
        "with the own gallery image": result.evidence[f"matched/{level}"],
        "with the most similar other one": result.evidence[f"unmatched/{level}"],
    }
    return plots.plot_histograms(f"Similarity of probes at {level}: {of}", "cosine of the two features", samples)
