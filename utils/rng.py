"""Random streams that are pure functions of what they are for.

No state is carried from draw to draw, so the order of samples, the number of workers or ranks and a resume cannot
change what is drawn: the stream of (seed, epoch, index, purpose) is the same everywhere.
"""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a stream is for: streams of different purposes are independent."""

    ORDER = 0
    ORIGINAL = 1
    AUGMENTED = 2
    CLASS_ROWS = 3
    CLASS_SAMPLING = 4
    SYNTHETIC = 5
    SUBSTITUTE = 6
    NOISE = 7
    CAMERA = 8


def generator(seed: int, epoch: int, index: int, purpose: int) -> np.random.Generator:
    """The stream of one thing: a Philox counter generator keyed by its four arguments (each >= 0, index < 2**56)."""
    key = np.array([(seed & 0xFFFFFFFF) << 32 | epoch & 0xFFFFFFFF, (index << 8) | int(purpose)], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def uniforms(seed: int, epoch: int, index: np.ndarray, purpose: int, count: int) -> np.ndarray:
    """The first `count` numbers of many streams at once: the ten microseconds of a `generator` are too long per image.

    SplitMix64 (Steele, Lea and Flood 2014) as a counter-based generator: stream i is keyed by `index[i]`.

    Args:
        seed, epoch, purpose: as in `generator`.
        index: (p,) integers.
        count: numbers per stream.

    Returns:
        (p, count) float64 in [0, 1).
    """
    stream = _mix(np.array([(seed & 0xFFFFFFFF) << 32 | epoch & 0xFFFFFFFF], np.uint64) * _GAMMA + np.uint64(purpose))
    keys = _mix(stream + index.astype(np.uint64) * _GAMMA)
    steps = np.arange(1, count + 1, dtype=np.uint64) * _GAMMA
    return (_mix(keys[:, None] + steps) >> np.uint64(11)) * 2.0**-53


_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
