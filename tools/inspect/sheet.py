"""A contact sheet: rows of faces and their views, each in a frame with a caption, pixel for pixel."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from utils.files import replacing

GREY, RED, GREEN, INK, PALE = "#9aa0a6", "#d03030", "#2e8b57", "#202124", "#5f6368"
MARGIN, GAP, FRAME, CAPTION, HEAD, TITLE, NAMES = 20, 14, 4, 20, 26, 42, 132  # pixels
DPI = 100


class Tile(NamedTuple):
    """One view: `image` (S, S, 3) uint8 RGB, the colour of its frame, a caption in that colour, a pale note."""

    image: np.ndarray
    colour: str = GREY
    caption: str = ""
    note: str = ""


class Row(NamedTuple):
    """One face: its name in two lines, and its tiles."""

    name: str
    detail: str
    tiles: list[Tile]


def size(rows: int, columns: int, side: int) -> tuple[int, int]:
    """Width and height in pixels of a sheet whose tiles are side x side."""
    cell = side + 2 * FRAME
    width = 2 * MARGIN + NAMES + columns * (cell + GAP) + GAP  # one more gap between the first column and the others
    return width, 2 * MARGIN + TITLE + HEAD + rows * (cell + CAPTION + GAP)


def write(path: Path, title: str, detail: str, heads: list[str], rows: list[Row]) -> None:
    """Draw the rows under `heads`, one for each column; the first column stands a little apart.

    Raises:
        OSError: the file cannot be written.
    """
    side = len(rows[0].tiles[0].image)
    width, height = size(len(rows), len(heads), side)
    figure = Figure((width / DPI, height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    pixels = np.full((height, width, 3), 255, np.uint8)

    def text(x: float, y: float, words: str, points: float, colour: str = INK, **more) -> None:
        more = {"va": "center", **more}
        figure.text(x / width, 1 - y / height, words, fontsize=points, color=colour, parse_math=False, **more)

    text(MARGIN, MARGIN + 6, title, 9.5, weight="bold")
    text(MARGIN, MARGIN + 23, detail, 8.5, PALE)
    for column, head in enumerate(heads):
        text(_left(column, side) + side / 2 + FRAME, MARGIN + TITLE + HEAD / 2 - 2, head, 8.5, ha="center")
    for number, row in enumerate(rows):
        top = MARGIN + TITLE + HEAD + number * (side + 2 * FRAME + CAPTION + GAP)
        text(MARGIN, top + side / 2 - 5, _short(row.name), 9, weight="bold")
        text(MARGIN, top + side / 2 + 11, _short(row.detail), 8, PALE)
        for column, tile in enumerate(row.tiles):
            left, outer = _left(column, side), side + 2 * FRAME
            pixels[top : top + outer, left : left + outer] = _rgb(tile.colour)
            pixels[top + FRAME : top + FRAME + side, left + FRAME : left + FRAME + side] = tile.image
            below = top + outer + CAPTION / 2 + 1
            text(left, below, tile.caption, 8.5, tile.colour, weight="bold")
            text(left + outer, below, tile.note, 7.5, PALE, ha="right")
    figure.figimage(pixels)
    with replacing(path) as beside:
        figure.savefig(beside, format="png", metadata={"Software": None})


def _left(column: int, side: int) -> int:
    return MARGIN + NAMES + column * (side + 2 * FRAME + GAP) + (GAP if column else 0)


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def _short(name: str, longest: int = 19) -> str:
    return name if len(name) <= longest else f"{name[: longest // 2 - 1]}…{name[-(longest - longest // 2) :]}"
