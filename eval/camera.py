"""A surveillance camera's pictures of a face at three distances: the probes of `eval.surveillance`.

| step | what | why it is not training's |
|---|---|---|
| light | gamma, brighter or darker | training scales brightness, contrast and saturation |
| blur | out of focus (Gaussian) or moved (a line in any direction), half of the pictures each | training has none |
| lens and sensor | `eval.degrade.small`: mean over each small pixel's area | training draws an interpolation |
| noise | of photons: the variance is in proportion to the value, in the small picture | training has none |
| zoom | cubic convolution to 112 x 112 (`eval.degrade.enlarged`) | likewise |
| JPEG | of the enlarged picture, as a recorder stores it | training compresses the small one |

The strengths are drawn for each picture, uniformly from the distance's ranges. They and the noise are pure functions of
the image's index and the distance: the same on every rank, in every batch and run.

Images are (112, 112, 3) uint8 RGB.
"""

from typing import NamedTuple

import numpy as np

from eval import degrade
from utils import jpeg
from utils.rng import Purpose, uniforms

VERSION = 1  # of what is done to a picture; features made with another one are not comparable


class Ranges(NamedTuple):
    """From the least to the most that a distance does to a picture.

    `side`: pixels of the face on the sensor. `defocus`: sigma, and `motion`: length, in pixels of the 112 x 112 image.
    `noise`: sigma at mid-grey, in grey levels. `gamma`: largest exponent g, drawn from 1 / g to g, even in its
    logarithm. `quality`: of the JPEG.
    """

    side: tuple[int, int]
    defocus: tuple[float, float]
    motion: tuple[float, float]
    noise: tuple[float, float]
    gamma: float
    quality: tuple[int, int]


DISTANCES = {  # as SCface's: 1 is the farthest
    1: Ranges((12, 20), (2.0, 4.0), (6.0, 14.0), (6.0, 12.0), 2.0, (20, 50)),
    2: Ranges((24, 36), (1.0, 2.0), (3.0, 7.0), (4.0, 8.0), 1.5, (40, 70)),
    3: Ranges((56, 80), (0.3, 0.8), (0.0, 3.0), (2.0, 5.0), 1.2, (60, 90)),
}


class Shot(NamedTuple):
    """What is done to one picture. `sigma` of defocus is None where the face moved, by `length` in the direction
    `degrees`; the other way round these are None. `quality` is the JPEG's.
    """

    gamma: float
    sigma: float | None
    length: float | None
    degrees: float | None
    side: int
    noise: float
    quality: int


def shot(index: int, distance: int) -> Shot:
    """The strengths of an image's picture.

    Args:
        index: of the image in its set.
        distance: 1, 2 or 3.
    """
    ranges, distance = DISTANCES[distance], int(distance)  # which may be a small numpy integer
    light, kind, amount, angle, side, noise, quality = uniforms(0, distance, np.array([index]), Purpose.CAMERA, 7)[0]
    blur: tuple[float | None, float | None, float | None] = (
        (round(_between(ranges.defocus, amount), 1), None, None)  # few levels: each has a matrix that is kept
        if kind < 0.5
        else (None, _between(ranges.motion, amount), float(180 * angle))
    )
    return Shot(
        float(ranges.gamma ** (2 * light - 1)),
        *blur,
        _whole(ranges.side, side),
        _between(ranges.noise, noise),
        _whole(ranges.quality, quality),
    )


def photograph(image: np.ndarray, index: int, distance: int) -> np.ndarray:
    """The face as the camera stores it, a new image; arguments as in `shot`."""
    how = shot(index, distance)
    image = _lit(image, how.gamma)
    if how.sigma is not None:
        image = degrade.blur(image, how.sigma)
    elif how.length is not None and how.degrees is not None:
        image = degrade.motion(image, how.length, how.degrees)
    picture = degrade.noise(degrade.small(image, how.side), how.noise, index, shot=True)
    return jpeg.compressed(degrade.enlarged(picture), how.quality)


def _lit(image: np.ndarray, gamma: float) -> np.ndarray:
    return np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)[image]


def _between(ends: tuple[float, float], u: float) -> float:
    return float(ends[0] + (ends[1] - ends[0]) * u)


def _whole(ends: tuple[int, int], u: float) -> int:
    """Each number from the first to the last, both included, as likely."""
    return ends[0] + int((ends[1] - ends[0] + 1) * u)
