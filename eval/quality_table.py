"""The quality of every image as a CSV file, for a spreadsheet, a filter or another program."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.files import replacing


def write_quality_csv(path: Path | str, names: Sequence[str], z: np.ndarray, indicator: np.ndarray) -> None:
    """A line `index,image,norm,indicator` for each image, under a header of these words; whole or not at all.

    Numbers have nine digits, which give a float32 back to the last bit.

    Args:
        names: of n images, as the target's list has them; not UTF-8 where the list is not.
        z: (n,) feature norms.
        indicator: (n,) quality indicators, -1 (low) to 1 (high).

    Raises:
        ValueError: lengths that differ, numbers that are not finite.
        OSError: the file cannot be written.
    """
    z, indicator = np.asarray(z), np.asarray(indicator)
    if not z.shape == indicator.shape == (len(names),):
        raise ValueError(
            f"{path}: {len(names)} names, norms {z.shape} and indicators {indicator.shape}: expected one for each image"
        )
    bad = np.flatnonzero(~(np.isfinite(z) & np.isfinite(indicator)))
    if len(bad):
        first = bad[0]
        raise ValueError(f"{path}: image {first} ({names[first]}) has norm {z[first]}, indicator {indicator[first]}")
    with (
        replacing(Path(path)) as beside,
        beside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["index", "image", "norm", "indicator"])
        for index, name in enumerate(names):
            writer.writerow([index, name, f"{z[index]:.9g}", f"{indicator[index]:.9g}"])
