"""What pictures are compared by: a digest of the pixels, a 64-bit perceptual hash, and small grey thumbnails.

The hash is the sign of 64 low-frequency cosine coefficients of a grey 32 x 32 thumbnail of mean 0 and deviation 1
(as pHash, C. Zauner 2010), each against its median in the data set: aligned faces resemble each other so much that
fixed thresholds would give most bits the same value in most faces.
"""

import functools
import hashlib
import itertools

import cv2
import numpy as np

SIDE, BITS = 32, 64
SAMPLE, ENOUGH = 4096, 1000  # images for the medians; with fewer than ENOUGH the thresholds are 0
_LOW = sorted(((u * u + v * v, u, v) for u, v in itertools.product(range(SIDE), repeat=2)))[1 : BITS + 1]
_ROWS, _COLUMNS = [u for _, u, _ in _LOW], [v for _, _, v in _LOW]


def pixel_digest(image: np.ndarray) -> int:
    """64 bits of BLAKE2 over shape and pixels: among 100 million images, two share one by chance with p = 3e-4."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=8)
    digest.update(np.ascontiguousarray(image))
    return int.from_bytes(digest.digest(), "little")


def thumbnail(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (32, 32) float32 grey of mean 0 and deviation 1; zero where the image is of one colour."""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(grey))
    if deviation < 1:
        return np.zeros((SIDE, SIDE), np.float32)
    return (grey.astype(np.float32) - np.float32(mean)) / np.float32(deviation)


def coefficients(thumb: np.ndarray) -> np.ndarray:
    """(32, 32) float32 -> (64,) float32: the lowest frequencies of its cosine transform, without the mean."""
    return cv2.dct(thumb)[_ROWS, _COLUMNS]


def thresholds(sample: np.ndarray) -> np.ndarray:
    """(n, 64) float32 coefficients -> (64,) medians; 0 for few images, whose own values the medians are."""
    return np.median(sample, axis=0) if len(sample) >= ENOUGH else np.zeros(BITS, np.float32)


def bits(values: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """(n, 64) coefficients -> (n,) uint64 hashes."""
    return np.packbits(values > limits, axis=1).view(np.uint64).reshape(-1)


@functools.cache
def _popcounts() -> np.ndarray:
    return np.array([bin(word).count("1") for word in range(1 << 16)], np.uint8)


def distance(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(n,) uint64 twice -> (n,) uint8 numbers of different bits."""
    words = (left ^ right).view(np.uint16).reshape(-1, 4)
    return _popcounts()[words].sum(axis=1, dtype=np.uint8)
