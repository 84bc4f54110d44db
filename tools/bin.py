"""Write a `.bin` verification set that InsightFace reads, from a list of pairs or from a folder of faces.

    python -m tools.bin pairs.txt --root lfw_112 --output lfw.bin
    python -m tools.bin FOLDER --pairs 6000 --output own.bin

A list is LFW's pairs.txt, or lines of 'path1 path2 flag'; its order is kept, folds go by position. A FOLDER (one folder
per identity, or InsightFace records) gives random pairs in 10 folds. Images of 112 x 112 pixels are stored as they are.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from eval.embed import fit
from recognition.data.sources import open_source
from tools import pairs
from utils import jpeg
from utils.bins import write_bin
from utils.cli import Parser, user_errors
from utils.workers import ordered_map

SIDE = 112
QUALITY = 95  # of the JPEGs that --resize writes
FEW = 1000  # images that are checked before worker processes would have started

Encoded = tuple[str, bytes]  # where it is from, for messages; the file's bytes


class Files:
    """The images of a list, as a source of faces has them."""

    def __init__(self, paths: list[Path]):
        self.paths = paths

    def where(self, index: int) -> str:
        return str(self.paths[index])

    def __getitem__(self, index: int) -> tuple[bytes, None]:
        return self.paths[index].read_bytes(), None


def main(words: list[str]) -> None:
    """Write the set that the words ask for."""
    options = _options(words)
    is_faces = options.data.is_dir() or options.data.suffix == ".rec"
    source, images, same = (_from_faces if is_faces else _from_list)(options)
    stored = _stored(source, list(dict.fromkeys(images)), options)
    write_bin(options.output, [stored[index] for index in images], same)
    size = options.output.stat().st_size / 1e6
    print(f"{options.output}  {len(same)} pairs, {sum(same)} matched, {len(stored)} images, {size:.1f} MB")


def _options(words: list[str]) -> argparse.Namespace:
    """What was asked for, checked as far as it can be before anything is read."""
    parser = Parser("python -m tools.bin", __doc__)
    parser.add_argument("data", type=Path, metavar="PAIRS.txt|FOLDER", help="list of pairs, or the faces")
    parser.add_argument("--output", type=Path, required=True, help="NAME.bin: eval finds it as --target NAME")
    parser.add_argument("--root", type=Path, help="folder that a list's paths start from; default: the list's")
    parser.add_argument("--pairs", type=int, help="pairs to draw from a FOLDER, a multiple of 20; default: 6000")
    parser.add_argument("--seed", type=int, help="of the drawing; default: 0")
    parser.add_argument("--resize", action="store_true", help="crop other sizes to a square and scale them to 112")
    parser.add_argument("--workers", type=int, default=2, help="processes that check the images; default: 2")
    parser.add_argument("--force", action="store_true", help="replace the output if it is there")
    options = parser.parse_args(words)
    if not options.data.exists():
        raise ValueError(f"{options.data} does not exist: expected a list of pairs or a folder of faces")
    output = options.output
    if output.suffix != ".bin":
        raise ValueError(f"--output {output}: expected a name that ends in .bin")
    if output.exists() and not options.force:
        raise ValueError(f"{output} exists; --force replaces it")
    if output.is_dir() or not os.access(output.parent, os.W_OK):
        raise ValueError(f"--output {output}: it is a folder, or {output.parent} is none that can be written")
    if options.seed is not None and options.seed < 0:
        raise ValueError(f"--seed {options.seed}: expected 0 or more")
    return options


def _from_list(options: argparse.Namespace) -> tuple[Files, list[int], list[bool]]:
    """Images by number, two for each pair of the list, and its flags."""
    if options.pairs is not None or options.seed is not None:
        raise ValueError(f"{options.data} is a list, which is taken as it is: --pairs and --seed are for a FOLDER")
    paths, same = pairs.read_list(options.data, options.root or options.data.parent)
    if len(same) < pairs.FOLDS:
        raise ValueError(f"{options.data} has {len(same)} pairs: expected at least one for each of {pairs.FOLDS} folds")
    for fold, flags in enumerate(np.array_split(np.array(same), pairs.FOLDS), 1):
        if flags.all() or not flags.any():
            only = "matched" if flags.all() else "mismatched"
            print(f"note: folds go by position, and fold {fold} of {pairs.FOLDS} has only {only} pairs")
            break
    numbers = {path: number for number, path in enumerate(dict.fromkeys(paths))}
    return Files(list(numbers)), [numbers[path] for path in paths], same


def _from_faces(options: argparse.Namespace) -> tuple[object, list[int], list[bool]]:
    """The same for pairs drawn from a source of faces."""
    if options.root is not None:
        raise ValueError(f"--root is for a list of pairs; {options.data} holds the faces themselves")
    source = open_source(options.data)
    drawn = pairs.draw(source.labels(), 6000 if options.pairs is None else options.pairs, options.seed or 0)
    if drawn.disjoint:
        print("folds: no identity is in two of them")
    else:
        print(f"folds: they share identities; {source.num_classes} are too few for folds of their own")
    return source, drawn.index.ravel().tolist(), drawn.same.tolist()


def _stored(source, images: list[int], options: argparse.Namespace) -> dict[int, bytes]:
    """What the set stores of each image; the files are read here, so that workers need not know the source."""
    encoded = ((source.where(index), source[index][0]) for index in images)
    workers = options.workers if len(images) > FEW or options.workers < 0 else 0
    checked = ordered_map(_resized if options.resize else _checked, encoded, workers)
    bar = tqdm(checked, total=len(images), unit="image", disable=None, dynamic_ncols=True)
    return dict(zip(images, bar, strict=True))


def _checked(encoded: Encoded) -> bytes:
    """The bytes as they are, if they are a whole image of the right size.

    Raises:
        ValueError: names the image.
    """
    height, width = _decoded(encoded).shape[:2]
    if (height, width) != (SIDE, SIDE):
        raise ValueError(
            f"{encoded[0]} has {width} x {height} pixels, expected {SIDE} x {SIDE}: --resize scales its central "
            "square, tools.pack aligns faces by their landmarks"
        )
    return encoded[1]


def _resized(encoded: Encoded) -> bytes:
    """The same; of another size, its central square becomes a JPEG of the right one."""
    image = _decoded(encoded)
    return encoded[1] if image.shape[:2] == (SIDE, SIDE) else jpeg.encode(fit(image, SIDE), QUALITY)


def _decoded(encoded: Encoded) -> np.ndarray:
    try:
        return jpeg.decode(encoded[1])
    except jpeg.ImageError as error:
        raise ValueError(f"{encoded[0]}: {error}") from None


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
