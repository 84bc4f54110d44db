"""Worse pictures of the same face: the fixed grades that the cross-resolution protocol measures at.

A grade is named in text: `8px` (resolution), `jpeg20` (quality), `blur2` (sigma in pixels), `noise20` and `shot20`
(sigma in grey levels). Each is a pure function of the image and, for noise, of the image's index: the same on every
rank, in every batch and, being plain float64 arithmetic rounded to uint8, with every version of OpenCV. The camera
differs on purpose from the down-and-up sampling that trains models: that draws its ratio and interpolations at random
and compresses as well.

Images are (112, 112, 3) uint8 RGB, values as stored (gamma-encoded), borders mirrored.
"""

import functools
import re
from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import csr_array

from utils import jpeg
from utils.rng import Purpose, uniforms

VERSION = 1  # of what the grades do to a picture; features made with another one are not comparable
SIDE = 112
LENS = 0.4  # sigma of a lens that suits its sensor, in the sensor's pixels: as wide as a pixel at half its height
Grade = Callable[[np.ndarray, int], np.ndarray]


def grade(name: str) -> Grade:
    """The function (image, index) -> image of a grade's name; `112px`, `blur0`, `noise0` and `shot0` change nothing.

    Raises:
        ValueError: a name of another form, or a level out of its range.
    """
    match = re.fullmatch(r"([1-9]\d*)px|(jpeg)([1-9]\d*)|(blur|noise|shot)(\d+(?:\.\d+)?)", name)
    side, _, quality, kind, sigma = match.groups("") if match else ("",) * 5
    if side and 4 <= int(side) <= SIDE:
        return lambda image, index: resolution(image, int(side))
    if quality and 1 <= int(quality) <= 100:
        return lambda image, index: jpeg.compressed(_checked(image), int(quality))
    if kind == "blur" and float(sigma) <= SIDE / 4:
        return lambda image, index: blur(image, float(sigma))
    if kind in ("noise", "shot") and float(sigma) <= 128:
        return lambda image, index: noise(_checked(image), float(sigma), index, shot=kind == "shot")
    raise ValueError(
        f"grade {name!r}: expected 4px to {SIDE}px, jpeg1 to jpeg100, blur0 to blur{SIDE // 4} (sigma in pixels), "
        "noise0 to noise128 or shot0 to shot128 (sigma in grey levels)"
    )


def resolution(image: np.ndarray, side: int) -> np.ndarray:
    """As a camera would have stored it whose picture of the face is `side` pixels wide, enlarged to 112 again.

    1. The lens: Gaussian blur, sigma 0.4 pixels of the small picture, less what the image has already (variances add:
       0.4 sqrt((112 / side)^2 - 1) pixels of the image; 0 at 112).
    2. The sensor: each small pixel is the mean over the area it covers, rounded to uint8.
    3. Enlarged by cubic convolution (Keys 1981, a = -1/2, four neighbours, mirrored at the border), no blur.

    Args:
        side: 1 to 112.
    """
    return _checked(image).copy() if side == SIDE else enlarged(small(image, side))


def small(image: np.ndarray, side: int) -> np.ndarray:
    """What lens and sensor make of it, steps 1 and 2: (side, side, 3) uint8; 1 <= side <= 112."""
    return _separable(_checked(image), _camera(side)[0])


def enlarged(picture: np.ndarray) -> np.ndarray:
    """Step 3: (side, side, 3) uint8 -> (112, 112, 3) uint8."""
    return _separable(picture, _camera(len(picture))[1])


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of `sigma` pixels; out of focus, at full resolution."""
    return _separable(_checked(image), _gaussian(sigma))


def motion(image: np.ndarray, length: float, degrees: float) -> np.ndarray:
    """Blur along a line of `length` pixels: a face that moves while the shutter is open."""
    weights = _line(length, degrees)
    reach = len(weights) // 2
    padded = np.pad(_checked(image), ((reach, reach), (reach, reach), (0, 0)), mode="symmetric").astype(np.float64)
    total = np.zeros(image.shape)
    for row, column in np.argwhere(weights).tolist():
        total += weights[row, column] * padded[row : row + SIDE, column : column + SIDE]
    return _rounded(total)


def noise(image: np.ndarray, sigma: float, index: int, *, shot: bool = False) -> np.ndarray:
    """Independent Gaussian noise in each value of each pixel, rounded and cut off at 0 and 255.

    Args:
        image: (H, W, 3) uint8.
        sigma: standard deviation in grey levels; with `shot` that at mid-grey (127.5).
        index: of the image in its set: its noise pattern, which grades share, so that they differ in strength only.
        shot: the variance is in proportion to the value, as that of counted photons is: dark parts stay clean.
    """
    x = image.astype(np.float64)
    strength = sigma * np.sqrt(x / 127.5) if shot else sigma
    return _rounded(x + strength * _normal(index, x.size).reshape(x.shape))


def _normal(index: int, count: int) -> np.ndarray:
    """(count,) float64 standard normal numbers of one image (Box and Muller 1958)."""
    radius, angle = uniforms(0, 0, np.array([index]), Purpose.NOISE, count + count % 2).reshape(2, -1)
    radius, angle = np.sqrt(-2 * np.log1p(-radius)), 2 * np.pi * angle
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def _line(length: float, degrees: float) -> np.ndarray:
    """(2 r + 1, 2 r + 1) weights that sum to 1: points along the line, each shared out to the four pixels around it."""
    t = length * (np.linspace(-0.5, 0.5, 4 * int(np.ceil(length)) + 1))
    x, y = t * np.cos(np.radians(degrees)), -t * np.sin(np.radians(degrees))
    reach = int(np.ceil(length / 2)) + 1
    weights = np.zeros((2 * reach + 1, 2 * reach + 1))
    for row in (np.floor(y), np.floor(y) + 1):
        for column in (np.floor(x), np.floor(x) + 1):
            share = (1 - np.abs(y - row)) * (1 - np.abs(x - column))
            np.add.at(weights, (row.astype(int) + reach, column.astype(int) + reach), share)
    return weights / weights.sum()


def _checked(image: np.ndarray) -> np.ndarray:
    if image.shape != (SIDE, SIDE, 3) or image.dtype != np.uint8:
        raise ValueError(f"image {image.shape} {image.dtype}: expected ({SIDE}, {SIDE}, 3) uint8 RGB")
    return image


def _rounded(x: np.ndarray) -> np.ndarray:
    return np.rint(x).clip(0, 255).astype(np.uint8)


def _separable(image: np.ndarray, matrix: csr_array) -> np.ndarray:
    """(H, W, 3) uint8 -> (R, R, 3) uint8: `matrix` (R, H) on the rows, then on the columns."""
    x = image.astype(np.float64)
    for _ in range(2):  # each pass ends in a transposition, two of them in none
        x = (matrix @ x.reshape(len(x), -1)).reshape(matrix.shape[0], -1, 3).swapaxes(0, 1)
    return _rounded(x)


@functools.cache
def _gaussian(sigma: float) -> csr_array:
    """(112, 112): rows sum to 1, columns too, so that the mean is kept.

    Sparse matrices, as dense ones are multiplied by threads of their own, which get in each other's way where images
    are read in several threads; and a sum in a fixed order is the same on every machine.
    """
    return csr_array(gaussian_filter1d(np.eye(SIDE), sigma, axis=0, mode="reflect") if sigma else np.eye(SIDE))


@functools.cache
def _camera(side: int) -> tuple[csr_array, csr_array]:
    """(side, 112) of lens and sensor, (112, side) of the enlargement."""
    step = SIDE / side
    edges, pixels = step * np.arange(side)[:, None], np.arange(SIDE)
    covered = np.clip(np.minimum(edges + step, pixels + 1) - np.maximum(edges, pixels), 0, None) / step
    return csr_array(covered @ _gaussian(LENS * np.sqrt(step**2 - 1))), _cubic(side)


def _cubic(side: int) -> csr_array:
    """(112, side) weights of cubic convolution, pixel centres at halves."""
    centre = (np.arange(SIDE) + 0.5) * side / SIDE - 0.5
    matrix = np.zeros((SIDE, side))
    for offset in range(-1, 3):
        tap = np.floor(centre).astype(int) + offset
        d = np.abs(centre - tap)
        weight = np.where(d <= 1, 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2)
        mirrored = np.minimum(tap % (2 * side), 2 * side - 1 - tap % (2 * side))
        np.add.at(matrix, (np.arange(SIDE), mirrored), weight)
    return csr_array(matrix)
