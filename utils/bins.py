"""Writing `.bin` verification sets in InsightFace's format; `eval.bins` reads them."""

import pickle
from pathlib import Path

from utils.files import replacing


def write_bin(path: Path, jpegs: list[bytes], issame: list[bool]) -> None:
    """Write a verification set that InsightFace's `pickle.load(file, encoding="bytes")` reads as (jpegs, issame).

    Protocol 4 stores bytes as bytes: such a file names no global, so nothing in it can run (protocol 2, as `lfw.bin`,
    writes each image as text and a call that encodes it).

    Args:
        path: the file; replaced as a whole.
        jpegs: 2n encoded images, pair i being images 2i and 2i + 1.
        issame: n flags, True where a pair shows one person.

    Raises:
        ValueError: not two images for each flag.
        OSError: the file cannot be written.
    """
    if len(jpegs) != 2 * len(issame):
        raise ValueError(f"{path}: {len(jpegs)} images for {len(issame)} pairs, expected {2 * len(issame)}")
    with replacing(path) as beside, beside.open("wb") as file:
        pickle.dump(([bytes(jpeg) for jpeg in jpegs], [bool(same) for same in issame]), file, protocol=4)
