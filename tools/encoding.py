"""What `tools.encode`, `tools.compare` and `tools.search` share: options of the model, and which photos are meant."""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval.image_files import list_files
from recognition import FaceEncoder
from recognition.yunet import YuNet
from utils.cli import Parser
from utils.images import SUFFIXES, is_image, passed_over
from utils.landmarks import read_landmarks
from utils.lists import ListError, text_lines


class Photos(NamedTuple):
    """Photos by their paths as the user knows them; `names` has what a list of landmarks may call each beside that."""

    paths: list[str]
    names: list[str]


def add_model_options(parser: Parser) -> None:
    """How a model is opened and photos are aligned; `open_encoder` and `landmarks_of` take them."""
    add = parser.add_argument
    add("--landmarks", type=Path, metavar="FILE", help="align photos: path x1 y1 ... x5 y5 on each line")
    add("--detector", type=Path, metavar="YUNET.onnx", help="find the largest face of photos that are not 112 x 112")
    add("--channels", choices=("rgb", "bgr"), help="order the model was trained with; default: what the file says")
    add("--mean", type=float, help="pixels become (value - mean) / std; default: likewise")
    add("--std", type=float, help="likewise")
    add("--network", help="network of the model; default: what the file says, or is")
    add("--embedding-size", type=int, help="likewise")
    add("--amp", choices=("float16", "bfloat16"), help="half precision; default: float32")
    add("--batch-size", type=int, default=64, help="images in a forward pass")
    add("--device", default="auto", help="auto, cuda or cpu")


def open_encoder(model: Path, options: argparse.Namespace) -> FaceEncoder:
    """The model with its detector.

    Raises:
        ValueError: as `FaceEncoder.open` and `YuNet`.
    """
    return FaceEncoder.open(
        model,
        options.channels,
        options.mean,
        options.std,
        options.device,
        options.amp,
        options.batch_size,
        None if options.detector is None else YuNet(options.detector),
        options.network,
        options.embedding_size,
    )


def find_photos(sources: Iterable[Path]) -> Photos:
    """The images of folders (and the folders in them, in name order), image files, and those that lists name: a path on
    each line, from the list's folder on.

    Raises:
        ValueError: a source that does not exist, a folder without images, a photo twice.
    """
    paths, names = [], []
    for source in sources:
        if source.is_dir():
            files = list_files(source)
            found, note = [name for name in files if is_image(name)], passed_over(source, files)
            if not found:
                raise ValueError(note or f"{source} holds no images ({', '.join(SUFFIXES)})")
            if note:
                print(f"note: {note}", file=sys.stderr)
            names += found
            paths += [str(source / name) for name in found]
        elif is_image(source):
            names.append(source.name)
            paths.append(str(source))
        elif source.exists():
            lines = _listed(source)
            names += lines
            paths += [str(source.parent / line) for line in lines]
        else:
            raise ValueError(f"{source} does not exist; expected a folder of photos, a photo, or a list of paths")
    if len(set(paths)) < len(paths):
        seen: set[str] = set()
        twice = next(path for path in paths if path in seen or seen.add(path))
        raise ValueError(f"{twice} is named twice; expected each photo once")
    return Photos(paths, names)


def _listed(source: Path) -> list[str]:
    try:
        return [line for _, line in text_lines(source)]
    except ListError as error:
        raise ValueError(
            f"{error}; expected an image ({', '.join(SUFFIXES)}) or a list with a path on each line"
        ) from None


def landmarks_of(photos: Photos, file: Path | None) -> Sequence[np.ndarray | None] | None:
    """Each photo's landmarks, by its path, its absolute path, or its path below the folder or list it is from.

    Raises:
        ValueError: as `read_landmarks`, none of the photos has any, or two photos would take the same.
    """
    if file is None:
        return None
    known = read_landmarks(file)
    keys = [_key(known, path, name) for path, name in zip(*photos, strict=True)]
    owners: dict[str, str] = {}
    for path, key in zip(photos.paths, keys, strict=True):
        if key is not None and owners.setdefault(key, path) != path:
            raise ValueError(f"{file} calls both {owners[key]} and {path} {key}; expected their whole paths in it")
    if not owners:
        raise ValueError(
            f"{file} has no landmarks of these photos: it names {next(iter(known))}, the first photo is "
            f"{photos.names[0]}"
        )
    return [None if key is None else known[key] for key in keys]


def _key(known: Mapping[str, np.ndarray], path: str, name: str) -> str | None:
    """What the landmarks call a photo: the whole path first, which tells photos of one name apart."""
    return next((alias for alias in (path, str(Path(path).absolute()), name) if alias in known), None)
