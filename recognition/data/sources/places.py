"""Which part of a set a sample lies in, where the parts follow one another."""

from collections.abc import Sequence

import numpy as np


class Places:
    """The samples of parts of these sizes, numbered through."""

    def __init__(self, sizes: Sequence[int]):
        self._starts = np.concatenate([[0], np.cumsum(sizes)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> tuple[int, int]:
        """Which part, and which of its samples.

        Raises:
            IndexError: no sample has this number.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return part, index - int(self._starts[part])
