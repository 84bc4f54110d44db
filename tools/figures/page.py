"""What the figures share: a title, a caption that says how to read it, and a file whose suffix is its format."""

import argparse
import textwrap
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from utils.files import replacing

FORMATS = (".png", ".svg", ".pdf")
GREY = "0.35"
_LINE = 0.19  # inches of a line of the caption


def add_output(parser: argparse.ArgumentParser) -> None:
    """The option `--output`, by default the name of the figure."""
    default = Path(parser.prog.split()[-1] + ".png")
    parser.add_argument(
        "--output", type=Path, default=default, help=f"file that ends in {', '.join(FORMATS)}; default: {default}"
    )


def check_output(path: Path) -> None:
    """Refuse, before anything is computed, what could not be written.

    Raises:
        ValueError: another suffix, or a folder that is not there.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"--output {path}: expected a name that ends in {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise ValueError(f"--output {path}: folder {path.parent} is not there; make it first")


def new_page(title: str, width: float, height: float) -> Figure:
    """An empty figure, width x height in inches."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    figure.suptitle(textwrap.fill(title, int(10 * width)))
    return figure


def write(figure: Figure, caption: str, path: Path, legend: list[Artist] | None = None) -> None:
    """Put the caption at the foot, the legend over it, and write the file, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(caption, int(15 * width))
    foot = (len(lines) * _LINE + 0.1) / height
    figure.text(0.5, foot / 2, "\n".join(lines), ha="center", va="center", fontsize="small", color=GREY)
    if legend:
        columns = 2 if len(legend) == 4 else 3
        figure.legend(
            handles=legend, loc="lower center", bbox_to_anchor=(0.5, foot), fontsize="small", ncols=columns
        ).set_in_layout(False)
        foot += (-(-len(legend) // columns) * _LINE + 0.2) / height
    figure.get_layout_engine().set(rect=(0, foot, 1, 1 - foot))
    with replacing(path) as beside:
        figure.savefig(beside, format=path.suffix[1:])
