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


def generator(seed: int, epoch: int, index: int, purpose: int) -> np.random.Generator:
    """The stream of one thing: a Philox counter generator keyed by its four arguments (each >= 0, index < 2**56)."""
    key = np.array([(seed & 0xFFFFFFFF) << 32 | epoch & 0xFFFFFFFF, (index << 8) | int(purpose)], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))
