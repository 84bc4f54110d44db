"""Photos as a face model takes them: files and arrays, decoded and aligned by threads ahead of the network."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from utils import jpeg
from utils.align import TEMPLATE_SIDE, align
from utils.read_ahead import read_ahead

MAX_READERS = 8  # threads
CHUNK = 16  # photos that a thread takes at a time

Photo = str | os.PathLike | np.ndarray  # a file of an image, or (H, W, 3) uint8 RGB
Detector = Callable[[np.ndarray], np.ndarray | None]  # (H, W, 3) uint8 RGB -> landmarks (5, 2), None: no face

UNALIGNED = (
    f"expected an aligned face of {TEMPLATE_SIDE} x {TEMPLATE_SIDE}, and nothing aligns it; give landmarks "
    "(--landmarks FILE) or a face detector (--detector YUNET.onnx)"
)


class PhotoError(ValueError):
    """A photo that cannot be used; the message says why, not which."""


class Face(NamedTuple):
    """A photo's face, `image` (112, 112, 3) uint8 RGB; or None and the `problem`."""

    image: np.ndarray | None
    problem: str = ""


def name_of(photo: Photo, index: int) -> str:
    """What a message calls a photo: its path, or its place among the images."""
    return f"image {index}" if isinstance(photo, np.ndarray) else os.fspath(photo)


def faces(
    photos: Iterable[Photo], landmarks: Iterable[np.ndarray | None] | None, detector: Detector | None, ahead: int
) -> Iterator[tuple[Photo, Face]]:
    """Each photo with its face, in order; never raises for a bad photo.

    Args:
        landmarks: (5, 2) for each photo, None where it has none; as many as photos.
        detector: for photos without landmarks that are not 112 x 112; called from several threads.
        ahead: photos that are read before they are asked for, at least.

    Raises:
        ValueError: another number of landmarks than photos.
    """
    pairs = zip(photos, itertools.repeat(None)) if landmarks is None else _together(photos, landmarks)
    threads = min(MAX_READERS, os.cpu_count() or 1)
    chunks = iter(lambda: list(itertools.islice(pairs, CHUNK)), [])

    def read(chunk: list[tuple[Photo, np.ndarray | None]]) -> list[tuple[Photo, Face]]:
        return [(photo, face(photo, points, detector)) for photo, points in chunk]

    for chunk in read_ahead(read, chunks, threads, threads + -(-ahead // CHUNK)):
        yield from chunk


def _together(photos: Iterable[Photo], landmarks: Iterable[np.ndarray | None]) -> Iterator:
    end = object()
    for photo, points in itertools.zip_longest(photos, landmarks, fillvalue=end):
        if photo is end or points is end:
            raise ValueError("landmarks: expected one entry for each photo, None where there are none")
        yield photo, points


def face(photo: Photo, landmarks: np.ndarray | None, detector: Detector | None) -> Face:
    """The face of one photo, or what is wrong with it."""
    try:
        return Face(aligned(decoded(photo), landmarks, detector))
    except OSError as error:
        return Face(None, error.strerror or str(error))
    except cv2.error as error:
        return Face(None, f"OpenCV: {error.err}")
    except ValueError as error:
        return Face(None, " ".join(str(error).split()))


def decoded(photo: Photo) -> np.ndarray:
    """(H, W, 3) uint8 RGB.

    Raises:
        ValueError: no image, a damaged one, an array of another shape or type.
        OSError: the file cannot be read.
    """
    if not isinstance(photo, np.ndarray):
        return jpeg.decode(Path(photo).read_bytes(), jpeg.MAX_PHOTO_SIDE)
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or not photo.size:
        raise PhotoError(f"it is {photo.shape} {photo.dtype}: expected (height, width, 3) uint8 RGB")
    return photo


def aligned(rgb: np.ndarray, landmarks: np.ndarray | None, detector: Detector | None) -> np.ndarray:
    """(112, 112, 3): by the landmarks; without any an image of that size as it is; of others what the detector finds.

    Raises:
        ValueError: landmarks that fit no face, no face found, neither landmarks nor detector.
    """
    if landmarks is None:
        height, width = rgb.shape[:2]
        if (width, height) == (TEMPLATE_SIDE, TEMPLATE_SIDE):
            return rgb
        if detector is None:
            raise PhotoError(f"{width} x {height} pixels: {UNALIGNED}")
        landmarks = detector(rgb)
        if landmarks is None:
            raise PhotoError("the detector finds no face in it")
    return align(rgb, landmarks)
