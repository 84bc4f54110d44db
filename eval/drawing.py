"""The pictures of a target's result: whatever its evidence holds is drawn."""

from pathlib import Path

import numpy as np

from eval.cross_resolution import by_resolution
from eval.protocol import Result, file_stem


def draw(folder: Path, name: str, result: Result) -> list[Path]:
    """Write `<name>_roc.png` and the like into a folder; returns the files."""
    from eval import plots  # matplotlib takes a third of a second to import: not when a training starts

    metrics, evidence = result.metrics, result.evidence
    stem, files = file_stem(name), []
    folder.mkdir(parents=True, exist_ok=True)

    def file(kind: str) -> Path:
        files.append(folder / f"{stem}_{kind}.png")
        return files[-1]

    if "far" in evidence and (evidence["far"] > 0).any():
        plots.plot_roc(file("roc"), name, {name: (evidence["far"], evidence["tar"])})
    if "dist" in evidence:
        plots.plot_distances(file("distances"), name, evidence["dist"], evidence["issame"], metrics["threshold"])
    if "discarded" in evidence:
        plots.plot_discard(file("discard"), name, {name: (evidence["discarded"], evidence["fnmr"])})
    if "rank" in evidence:
        plots.plot_cmc(file("cmc"), name, _ranks(name, evidence))
    sides = [key for key in evidence if key.startswith("z/") and key.endswith("px")]
    if len(sides) > 1:
        plots.plot_resolution(file("accuracy"), name, {name: by_resolution(metrics)})
        sides.sort(key=lambda key: int(key[2:-2]))
        pixels, norms = np.array([int(key[2:-2]) for key in sides]), np.stack([evidence[key] for key in sides])
        plots.plot_norms(file("norm"), name, {name: (pixels, norms)})
    return files


def _ranks(name: str, evidence: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A curve for each distance of SCface and surveillance, one for others."""
    if "distance" not in evidence:
        return {name: evidence["rank"]}
    distance = evidence["distance"]
    return {f"d{d}" if d else "clean": evidence["rank"][distance == d] for d in np.unique(distance)}
