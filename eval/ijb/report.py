"""What InsightFace's IJB scripts leave behind: the score file, the table and the drawing of the ROC."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from prettytable import PrettyTable

from eval.ijb.target import FARS
from eval.roc import auc, insightface_tar, roc_points
from utils.files import replacing

try:
    from menpo.visualize.viewmatplotlib import sample_colours_from_colourmap
except (ImportError, AssertionError):  # menpo 0.11 needs distutils: gone since Python 3.12, or setuptools takes offence

    def sample_colours_from_colourmap(n_colours: int, colour_map: str) -> list[tuple[float, float, float]]:
        """menpo's choice: n colours at equal steps from the map's beginning."""
        colours = matplotlib.colormaps[colour_map]
        return [colours(index / n_colours)[:3] for index in range(n_colours)]


class Curve(NamedTuple):
    """A method's row of the table, and its ROC."""

    tar: np.ndarray  # at FARS, by InsightFace's choice of points
    far_points: np.ndarray
    tar_points: np.ndarray
    auc: float


def curve(scores: np.ndarray, issame: np.ndarray) -> Curve:
    """What is shown of one method's (p,) scores."""
    genuine, impostor = scores[issame], np.sort(scores[~issame])
    tar, _ = insightface_tar(genuine, impostor, list(FARS.values()))
    return Curve(tar, *roc_points(genuine, impostor), auc(genuine, impostor))


def read_scores(path: Path, pairs: int) -> np.ndarray:
    """A score file: (pairs,) floating point numbers in the list's order.

    Raises:
        ValueError: no such array.
        OSError: it cannot be read.
    """
    try:
        scores = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no score file: {error}") from None
    if not isinstance(scores, np.ndarray) or scores.shape != (pairs,) or scores.dtype.kind != "f":
        given = f"{scores.shape} {scores.dtype}" if isinstance(scores, np.ndarray) else "an archive"
        raise ValueError(f"{path} holds {given}; expected ({pairs},), a score for each pair of the list")
    return scores


def write_scores(path: Path, scores: np.ndarray) -> None:
    """Write the score file as a whole or not at all."""
    with replacing(path) as beside, beside.open("wb") as file:
        np.save(file, scores)


def method_names(paths: list[Path]) -> list[str]:
    """InsightFace's name of a method is its file's; where several are alike their folders' names are added."""
    stems = [path.stem for path in paths]
    return [
        stem if stems.count(stem) == 1 else f"{stem}-{path.resolve().parent.name}"
        for stem, path in zip(stems, paths, strict=True)
    ]


def tar_table(curves: Mapping[str, Curve], target: str) -> str:
    """InsightFace's table: percent, a row for each method."""
    table = PrettyTable(["Methods", *(str(far) for far in FARS.values())])
    for method, shown in curves.items():
        table.add_row([f"{method}-{target}", *(f"{100 * tar:.2f}" for tar in shown.tar)])
    return table.get_string()


def draw_roc(path: Path, curves: Mapping[str, Curve]) -> None:
    """Draw the ROCs of all methods into `path` with the endings .pdf and .png, axes and colours as InsightFace's."""
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = sample_colours_from_colourmap(len(curves), "Set2")
    for (method, shown), colour in zip(curves.items(), colours, strict=True):
        label = f"[{method.split('-')[-1]} (AUC = {100 * shown.auc:.4f} %)]"
        axes.plot(shown.far_points, shown.tar_points, color=colour, lw=1, label=label)
    axes.set_xscale("log")
    axes.set(xlim=(1e-6, 0.1), ylim=(0.3, 1.0), xticks=list(FARS.values()), yticks=np.linspace(0.3, 1.0, 8))
    axes.grid(linestyle="--", linewidth=1)
    axes.set(xlabel="False Positive Rate", ylabel="True Positive Rate", title="ROC on IJB")
    axes.legend(loc="lower right")
    for ending in (".pdf", ".png"):
        with replacing(path.with_suffix(ending)) as beside:
            figure.savefig(beside, format=ending[1:])
