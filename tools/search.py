"""Search: the most similar faces of a gallery for each probe, exactly, also in a gallery larger than memory.

    python -m tools.search features probes                               both written by tools.encode
    python -m tools.search features photo.jpg --model model.pt           photos are encoded first
    python -m tools.search features probes --top 20 --output found.csv

GALLERY is a folder that tools.encode wrote, or a .npy array (n, D) made elsewhere. PROBE is likewise, or with --model a
photo, a folder or a list of photos. Similarities are cosines, ordered as float64 orders them. The gallery is read from
the disk block by block, once for some thousand probes.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from tools.encoding import add_model_options, find_photos, landmarks_of, open_encoder
from tools.gallery import Gallery, open_gallery
from utils.cli import Parser, user_errors
from utils.files import replacing, writable_folder
from utils.nearest import nearest

PROBES = 4096  # of which a pass over the gallery finds the nearest
COLUMNS = ("probe", "rank", "photo", "similarity")


def main(words: list[str]) -> None:
    """Search all probes and print or write what is found."""
    options = _options(words)
    gallery = open_gallery(options.gallery)
    probes = _encoded(options) if options.model else _opened(options.probe)
    _check(gallery, probes, options)
    rows = _found(gallery, probes, options.top)
    if options.output is None:
        _print(rows)
        return
    with replacing(options.output) as beside:
        with beside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for probe, rank, name, cosine in rows:
                writer.writerow([probe, rank, name, f"{cosine:.9g}"])
    print(f"{options.output}  {len(probes.u)} probes in {len(gallery.u)} faces")


def _found(gallery: Gallery, probes: Gallery, top: int) -> Iterator[tuple[str, int, str, float]]:
    """Probe, rank from 1, name and cosine, probe after probe."""
    for start in range(0, len(probes.u), PROBES):
        found, cosines = nearest(probes.u[start : start + PROBES], gallery.u, top)
        for index, row in enumerate(found):
            for rank, place in enumerate(row):
                yield str(probes.names[start + index]), rank + 1, str(gallery.names[place]), cosines[index, rank]


def _print(rows: Iterator[tuple[str, int, str, float]]) -> None:
    for probe, rank, name, cosine in rows:
        if rank == 1:
            print(probe)
        print(f"{rank:5d}  {cosine:7.4f}  {name}")


def _opened(probe: Path) -> Gallery:
    try:
        return open_gallery(probe)
    except ValueError as error:
        raise ValueError(f"{error}; photos need --model, which encodes them") from None


def _encoded(options: argparse.Namespace) -> Gallery:
    """The probes' features, by the model."""
    photos = find_photos([options.probe])
    encoder = open_encoder(options.model, options)
    u, _ = encoder.encode(photos.paths, landmarks_of(photos, options.landmarks))
    return Gallery(u, photos.paths, encoder.model.key())


def _check(gallery: Gallery, probes: Gallery, options: argparse.Namespace) -> None:
    if gallery.u.shape[1] != probes.u.shape[1]:
        raise ValueError(
            f"{options.gallery} has features of {gallery.u.shape[1]} dimensions, {options.probe} of "
            f"{probes.u.shape[1]}: expected those of one model"
        )
    if gallery.model and probes.model and gallery.model != probes.model:
        raise ValueError(
            f"{options.gallery} and {options.probe} were encoded by different models, or by one that took pixels in "
            "different ways; expected those of one model: encode one of them again"
        )


def _options(words: list[str]) -> argparse.Namespace:
    parser = Parser("python -m tools.search", __doc__)
    parser.add_argument("gallery", type=Path, metavar="GALLERY", help="folder of tools.encode, or .npy (n, D)")
    parser.add_argument("probe", type=Path, metavar="PROBE", help="likewise; with --model, photos")
    parser.add_argument("--model", type=Path, help="the model that PROBE's photos are encoded with: the gallery's")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="faces for each probe; default: 5")
    parser.add_argument("--output", type=Path, metavar="FILE.csv", help="write them: probe, rank, photo, similarity")
    add_model_options(parser)
    options = parser.parse_args(words)
    if options.top < 1:
        raise ValueError(f"--top {options.top}: expected at least 1")
    if options.output is not None and options.output.suffix != ".csv":
        raise ValueError(f"--output {options.output}: expected a file name that ends in .csv")
    if options.output is not None:
        writable_folder(options.output.parent)
    if options.model is None:
        names = ("landmarks", "detector", "channels", "mean", "std", "network", "embedding_size", "amp")
        if given := [name.replace("_", "-") for name in names if getattr(options, name) is not None]:
            raise ValueError(f"--{given[0]}: of no meaning without --model, which encodes PROBE's photos")
    return options


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
