"""The views of a face: flip, crop, rotation, colour, low resolution and JPEG (QGFace, Sec. IV-A; AdaFace).

One order for all presets, the one in which a picture comes about: first the scene (flip, crop, rotation,
colour), then the camera (down-and-up sampling with JPEG compression at the low resolution). Each operation
has its own probability, drawn independently. With `downsample_first` the camera comes before crop, rotation
and colour. Images are RGB uint8, H x W x 3; each operation rounds to uint8.
A view is a function of the image and `DRAWS` numbers in [0, 1), each with its own place: what one operation takes
does not depend on the others.
"""

import dataclasses
import difflib
import itertools
import math
import sys
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from utils import jpeg

CROPS = 10  # boxes tried, as in torchvision's RandomResizedCrop
DRAWS = 13 + 4 * CROPS
_ORDERS = list(itertools.permutations(range(3)))
INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)


@dataclasses.dataclass(frozen=True)
class Parameters:
    """Probabilities (0: never) and ranges of the operations, in the order in which they are applied.

    Raises:
        ValueError: a value out of its range; the message names it.
    """

    flip_probability: float = 0.5
    crop_probability: float = 0.0
    crop_area: tuple[float, float] = (0.8, 1.0)  # kept share of the image's area
    crop_aspect: tuple[float, float] = (0.75, 4 / 3)  # width / height of the crop
    crop_resize: bool = True  # True: the crop fills the image again; False: it stays in place, black around
    rotation_probability: float = 0.0
    rotation_degrees: float = 45.0  # up to this angle in both directions, black corners
    jitter_probability: float = 0.0
    jitter_brightness: float = 0.2  # strength s: the factor is uniform in [max(0, 1 - s), 1 + s]
    jitter_contrast: float = 0.2
    jitter_saturation: float = 0.2
    downsample_probability: float = 0.0
    downsample_ratio: tuple[float, float] = (0.1, 0.5)  # of the low resolution's side to the image's
    jpeg_quality: int | None = None  # of the compression at the low resolution, 1-100; None: no compression
    downsample_first: bool = False  # True: crop, rotation and colour change an image of low resolution
    colour_order: str = "rgb"  # "bgr": grey weights and JPEG's colours are those of swapped channels

    def __post_init__(self):
        for name, value in vars(self).items():
            if name.endswith("_probability"):
                right, expected = _is_number(value, 1), "a probability between 0 and 1"
            elif name in ("crop_area", "downsample_ratio"):
                right, expected = _is_range(value, 1), "(low, high) with 0 < low <= high <= 1"
            elif name == "crop_aspect":
                right, expected = _is_range(value), "(low, high) with 0 < low <= high"
            elif name == "rotation_degrees":
                right, expected = _is_number(value, 180), "degrees between 0 and 180"
            elif name.startswith("jitter_"):
                right, expected = _is_number(value), "a strength of 0 or more"
            elif name == "colour_order":
                right, expected = value in ("rgb", "bgr"), "'rgb' or 'bgr'"
            elif name in ("crop_resize", "downsample_first"):
                right, expected = isinstance(value, bool), "True or False"
            else:
                whole = isinstance(value, int) and _is_number(value, 100) and value > 0
                right, expected = value is None or whole, "a whole number from 1 to 100, or None"
            if not right:
                raise ValueError(f"augmentation parameter {name}={value!r}: expected {expected}")


def _is_number(value: object, largest: float = sys.float_info.max) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= largest


def _is_range(value: Any, largest: float = sys.float_info.max) -> bool:
    pair = isinstance(value, (tuple, list)) and len(value) == 2 and all(_is_number(end, largest) for end in value)
    return pair and 0 < value[0] <= value[1]


# The probabilities of qgface's crop, jitter and rotation are not published.
PRESETS = {
    "none": Parameters(),
    "adaface": Parameters(
        crop_probability=0.2,
        crop_area=(0.2, 1.0),
        crop_resize=False,
        jitter_probability=0.2,
        jitter_brightness=0.5,
        jitter_contrast=0.5,
        jitter_saturation=0.5,
        downsample_probability=0.2,
        downsample_ratio=(0.2, 1.0),
    ),
    "qgface": Parameters(
        crop_probability=0.2,
        rotation_probability=0.1,
        jitter_probability=0.2,
        downsample_probability=1.0,
        jpeg_quality=75,
    ),
}


class Augment:
    """A random view of an image, drawn from nothing but the generator that is passed in.

    Args:
        preset: "none" (flip only: the original view), "adaface" or "qgface".
        overrides: fields of `Parameters` that differ from the preset's.

    Raises:
        ValueError: an unknown preset or parameter (names the nearest), or a value out of its range.
    """

    def __init__(self, preset: str = "qgface", **overrides):
        if preset not in PRESETS:
            raise ValueError(f"unknown augmentation preset {preset!r}: {_nearest(preset, PRESETS)}")
        for name in overrides:
            if name not in Parameters.__dataclass_fields__:
                known = _nearest(name, Parameters.__dataclass_fields__)
                raise ValueError(f"unknown augmentation parameter {name!r}: {known}")
        self.parameters = p = dataclasses.replace(PRESETS[preset], **overrides)
        self.flips_only = not any(
            (p.crop_probability, p.rotation_probability, p.jitter_probability, p.downsample_probability)
        )
        self.draws = DRAWS if p.crop_probability else DRAWS - 4 * CROPS  # numbers that a view takes

    def __call__(self, image: np.ndarray, draws: Sequence[float], out: np.ndarray | None = None) -> np.ndarray:
        """A view of `image`, RGB uint8 (H, W, 3), by at least `self.draws` numbers in [0, 1); written into `out`."""
        p, out = self.parameters, np.empty_like(image) if out is None else out
        if self.flips_only:
            if draws[0] < p.flip_probability:
                return cv2.flip(image, 1, out)
            np.copyto(out, image)
            return out
        flip_, crop_, rotate_, jitter_, downsample_, angle, *factors_, order, ratio, down, up = draws[:13]
        if p.colour_order == "bgr":
            image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        if flip_ < p.flip_probability:
            image = cv2.flip(image, 1)
        low = downsample_ < p.downsample_probability
        if low and p.downsample_first:
            image = self._low_resolution(image, ratio, down, up)
        if crop_ < p.crop_probability:
            box = draw_crop(image.shape[0], image.shape[1], p.crop_area, p.crop_aspect, draws[13:])
            image = crop(image, *box, resize=p.crop_resize)
        if rotate_ < p.rotation_probability:
            image = rotate(image, p.rotation_degrees * (2 * angle - 1))
        if jitter_ < p.jitter_probability:
            strengths = (p.jitter_brightness, p.jitter_contrast, p.jitter_saturation)
            factors = [_between(max(0.0, 1 - s), 1 + s, u) for s, u in zip(strengths, factors_, strict=True)]
            image = jitter(image, factors, _ORDERS[int(order * len(_ORDERS))])
        if low and not p.downsample_first:
            self._low_resolution(image, ratio, down, up, out=out)
        else:
            np.copyto(out, image)
        return out if p.colour_order == "rgb" else cv2.cvtColor(out, cv2.COLOR_BGR2RGB, out)

    def sharpness(self, draws: Sequence[float]) -> float:
        """The share of the image's side, in pixels, that the view of these draws keeps; 1 where it is not sampled
        down.
        """
        p, low, ratio = self.parameters, draws[4], draws[10]
        return _between(*p.downsample_ratio, ratio) if low < p.downsample_probability else 1.0

    def _low_resolution(self, image, ratio, *choices, out=None) -> np.ndarray:
        p, (down, up) = self.parameters, (INTERPOLATIONS[int(choice * len(INTERPOLATIONS))] for choice in choices)
        return downsample(image, _between(*p.downsample_ratio, ratio), down, up, p.jpeg_quality, out)


def _between(low: float, high: float, u: float) -> float:
    return low + (high - low) * u


def _nearest(name: object, known) -> str:
    near = difflib.get_close_matches(str(name), list(known), 1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"


def draw_crop(
    height: int, width: int, area: tuple[float, float], aspect: tuple[float, float], draws: Sequence[float]
) -> tuple[int, int, int, int]:
    """A box (top, left, h, w) in pixels: uniform area share, log-uniform aspect ratio, uniform place.

    As in torchvision's RandomResizedCrop, 10 boxes of four numbers each are tried; if none fits, it is the whole image.
    """
    for at in range(0, 4 * CROPS, 4):
        pixels = height * width * _between(*area, draws[at])
        ratio = math.exp(_between(math.log(aspect[0]), math.log(aspect[1]), draws[at + 1]))
        h, w = max(1, round(math.sqrt(pixels / ratio))), max(1, round(math.sqrt(pixels * ratio)))
        if h <= height and w <= width:
            return int(draws[at + 2] * (height - h + 1)), int(draws[at + 3] * (width - w + 1)), h, w
    return 0, 0, height, width


def crop(image: np.ndarray, top: int, left: int, h: int, w: int, *, resize: bool) -> np.ndarray:
    """Keep a box: resized (bilinear) to the image's size, or where it is with black around it."""
    box = image[top : top + h, left : left + w]
    if resize:
        return cv2.resize(box, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    padded = np.zeros_like(image)
    padded[top : top + h, left : left + w] = box
    return padded


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Turn about the centre, counter-clockwise for positive angles; bilinear, black where nothing was."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)


def jitter(image: np.ndarray, factors: Sequence[float], order: Sequence[int]) -> np.ndarray:
    """Brightness, contrast and saturation by `factors` (1: unchanged), applied in the given order of 0, 1, 2.

    torchvision's ColorJitter without hue: each blends the image with a lesser one and clips,
    factor * image + (1 - factor) * other: with black, with the mean of its grey image, with its grey image.
    """
    steps = (_brightness, _contrast, _saturation)
    for step in order:
        image = steps[step](image, factors[step])
    return image


def _brightness(image: np.ndarray, factor: float) -> np.ndarray:
    return cv2.convertScaleAbs(image, alpha=factor)


def _contrast(image: np.ndarray, factor: float) -> np.ndarray:
    mean = cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0]
    return cv2.addWeighted(image, factor, image, 0, (1 - factor) * mean)


def _saturation(image: np.ndarray, factor: float) -> np.ndarray:
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, factor, grey, 1 - factor, 0)


def downsample(
    image: np.ndarray, ratio: float, down: int, up: int, jpeg_quality: int | None, out: np.ndarray | None = None
) -> np.ndarray:
    """Shrink the sides to `ratio`, compress as JPEG there unless the quality is None, and enlarge again (into `out`).

    `down` and `up` are OpenCV interpolations. The codec halves the resolution of the colours, as usual.
    """
    height, width = image.shape[:2]
    small = _resize(image, (max(1, round(width * ratio)), max(1, round(height * ratio))), down)
    if jpeg_quality is not None:
        small = jpeg.compressed(small, jpeg_quality)
    return _resize(small, (width, height), up, out)


def _resize(image: np.ndarray, size: tuple[int, int], interpolation: int, out: np.ndarray | None = None) -> np.ndarray:
    """OpenCV's resize. Its Lanczos filter has vector instructions for floats only: half the time, the same filter."""
    if interpolation != cv2.INTER_LANCZOS4:
        return cv2.resize(image, size, out, interpolation=interpolation)
    resized = cv2.resize(image.astype(np.float32), size, interpolation=interpolation)
    cv2.threshold(resized, 0, 0, cv2.THRESH_TOZERO, resized)  # the conversion rounds and clips, but drops the sign
    return cv2.convertScaleAbs(resized, out)
