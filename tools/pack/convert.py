"""One image on its way into a set, as the worker processes handle it: passed through, aligned, resized or refused."""

import functools
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from recognition.yunet import YuNet
from tools.pack.sources import Task
from utils.align import align
from utils.jpeg import MAX_PHOTO_SIDE, ImageError, decode, encode


class Settings(NamedTuple):
    """What is made of every image: `side` pixels, `quality` of the JPEGs that are encoded here; `detector`: YuNet's
    file, for photos that are not aligned.
    """

    side: int
    quality: int
    resize: bool
    detector: Path | str | None = None


detector = functools.lru_cache(maxsize=1)(YuNet)  # forked workers inherit it


class Result(NamedTuple):
    """The JPEG's bytes, and whether they were encoded here; or the problem."""

    data: bytes = b""
    encoded: bool = False
    problem: str | None = None


def convert(settings: Settings, task: Task) -> Result:
    """An image as it goes into the set; JPEGs of the right size keep their bytes. Never raises for a bad image.

    Photos are decoded as cv2.imread does it: with the orientation that their EXIF data state.
    """
    try:
        data = task.read()
        return _convert(settings, task, data)
    except OSError as error:
        return Result(problem=f"cannot be read ({error.strerror or error})")
    except (ValueError, cv2.error) as error:
        return Result(problem=" ".join(str(error).split()).removeprefix(f"{task.where()}: "))


def _convert(settings: Settings, task: Task, data: bytes) -> Result:
    rgb, side = decode(data, MAX_PHOTO_SIDE), settings.side
    height, width = rgb.shape[:2]
    landmarks = task.landmarks
    if landmarks is None and settings.detector and not (task.aligned and (width, height) == (side, side)):
        landmarks = detector(settings.detector)(rgb)
        if landmarks is None:
            raise ImageError("the detector finds no face in it")
    if landmarks is not None:
        return Result(encode(align(rgb, landmarks, side), settings.quality), True)
    if not settings.resize and not task.aligned:
        raise ImageError(
            "the list says that it is not aligned and gives no landmarks; --detector finds some, --resize does without"
        )
    if (width, height) == (side, side):
        return Result(data) if data[:2] == b"\xff\xd8" else Result(encode(rgb, settings.quality), True)
    if not settings.resize:
        raise ImageError(
            f"{width} x {height} pixels: expected an aligned face of {side} x {side}; "
            "give --detector or --landmarks to align photos, or --resize to shrink them as they are"
        )
    return Result(encode(resize(rgb, side), settings.quality), True)


def resize(rgb: np.ndarray, side: int) -> np.ndarray:
    """The largest square in the middle, as (side, side, 3); areas are averaged where it shrinks."""
    height, width = rgb.shape[:2]
    square = min(height, width)
    top, left = (height - square) // 2, (width - square) // 2
    how = cv2.INTER_AREA if square > side else cv2.INTER_LINEAR
    return cv2.resize(rgb[top : top + square, left : left + square], (side, side), interpolation=how)
