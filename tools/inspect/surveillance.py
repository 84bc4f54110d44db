"""A sheet of what the target `surveillance` searches: each probe as it is and at its three distances.

    python -m tools.inspect surveillance FACES --output surveillance.png

Each row is a probe: its identity's gallery image, then the probe itself, at d3, d2 and d1. Below a picture: pixels of
the face on the sensor; defocus (sigma) or motion (length), in pixels of the 112.
"""

import argparse
from pathlib import Path

import numpy as np

from eval import camera
from eval.surveillance import LEVELS, Surveillance
from recognition.data.sources import open_source
from tools.inspect import sheet
from utils.cli import Parser

COLUMNS = ("clean", "d3", "d2", "d1")


def main(words: list[str]) -> None:
    """Write the sheet."""
    options = _options(words)
    target = Surveillance(open_source(options.data), f"surveillance:{options.data.stem}")
    probes = np.flatnonzero(target.level == LEVELS["clean"])
    chosen = np.unique(np.linspace(0, len(probes) - 1, options.faces).astype(int))
    rows = [_row(target, int(place)) for place in chosen]
    detail = "pixels on the sensor; defocus (sigma) or motion (length), in pixels of the picture"
    sheet.write(options.output, target.name, detail, ["gallery", *COLUMNS], rows)
    print(f"sheet    {options.output}")


def _options(words: list[str]) -> argparse.Namespace:
    parser = Parser("python -m tools.inspect surveillance", __doc__)
    parser.add_argument("data", type=Path, help="records, or a folder of one folder per identity, as rec=")
    parser.add_argument("--faces", type=int, default=8, help="rows, evenly spaced in the set; default: 8")
    parser.add_argument("--output", type=Path, default=Path("surveillance.png"), help="default: surveillance.png")
    options = parser.parse_args(words)
    if options.faces < 1:
        raise ValueError(f"--faces {options.faces}: expected at least 1")
    if options.output.suffix != ".png" or not options.output.parent.is_dir():
        raise ValueError(f"--output {options.output}: expected a name that ends in .png, in a folder that is there")
    return options


def _row(target: Surveillance, place: int) -> sheet.Row:
    """`place`: of the probe among the probes of a level."""
    places = [int(np.flatnonzero(target.level == LEVELS[name])[place]) for name in COLUMNS]
    identity, index = target.identity[places[0]], target.images.names[places[0]].partition("@")[0]
    (mate,) = np.flatnonzero((target.identity == identity) & target.is_gallery)
    tiles = [sheet.Tile(target.images.read(at, at + 1)[0]) for at in (int(mate), *places)]
    for column, name in enumerate(COLUMNS[1:], 2):
        how = camera.shot(int(index), LEVELS[name])
        blur = f"defocus {how.sigma:.1f}" if how.sigma is not None else f"motion {how.length:.1f}"
        tiles[column] = tiles[column]._replace(caption=f"{how.side} px", note=blur)
    return sheet.Row(f"identity {identity}", f"image {index}", tiles)
