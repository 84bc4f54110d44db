"""Pairs of 64-bit hashes that differ in at most RADIUS bits, without comparing all with all.

Multi-index hashing (M. Norouzi, A. Punjani, D. Fleet 2012): cut into 6 blocks, two hashes that differ in at most 4 bits
agree in 2 blocks at least. For each of the 15 choices of 2 blocks (some 21 bits) only hashes that agree there are
compared: for n hashes 15 sorts and about 15 n^2 / 2^22 comparisons, 10^8 for 5 million hashes. No pair is missed.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from tools.doctor.hashes import distance

RADIUS = 4
_WIDTHS = (11, 11, 11, 11, 10, 10)
_BLOCK = 1 << 22  # pairs compared at a time: 100 MB


def _masks() -> list[np.uint64]:
    ends = np.cumsum(_WIDTHS)
    blocks = [((1 << width) - 1) << int(end - width) for width, end in zip(_WIDTHS, ends, strict=True)]
    return [np.uint64(sum(chosen)) for chosen in itertools.combinations(blocks, len(blocks) - RADIUS)]


def within(hashes: np.ndarray) -> np.ndarray:
    """(n,) uint64, no two alike -> (m, 2) int64: every pair i < j at most RADIUS bits apart, once."""
    found = [np.empty((0, 2), np.int64)]
    for mask in _masks():
        order = np.argsort(hashes & mask, kind="stable")
        keys = hashes[order] & mask
        ends = np.searchsorted(keys, keys, side="right")
        starts = np.arange(1, len(keys) + 1)
        for left, right in _expand(starts, ends):
            close = distance(hashes[order[left]], hashes[order[right]]) <= RADIUS
            found.append(np.sort(np.stack([order[left[close]], order[right[close]]], axis=1), axis=1))
    return np.unique(np.concatenate(found), axis=0)


def between(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) and (k,) uint64 -> (m, 2) int64: every i of `hashes` and j of `others` at most RADIUS bits apart, once."""
    found = [np.empty((0, 2), np.int64)]
    for mask in _masks():
        order = np.argsort(hashes & mask, kind="stable")
        keys, wanted = hashes[order] & mask, others & mask
        starts, ends = np.searchsorted(keys, wanted, side="left"), np.searchsorted(keys, wanted, side="right")
        for other, at in _expand(starts, ends):
            close = distance(hashes[order[at]], others[other]) <= RADIUS
            found.append(np.stack([order[at[close]], other[close]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _expand(starts: np.ndarray, ends: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row i with each of starts[i] .. ends[i] - 1, in blocks of about _BLOCK pairs."""
    counts = ends - starts
    before = np.concatenate([[0], np.cumsum(counts)])
    row = 0
    while row < len(counts):
        stop = max(int(np.searchsorted(before, before[row] + _BLOCK, side="right")) - 1, row + 1)
        rows = np.repeat(np.arange(row, stop), counts[row:stop])
        yield rows, np.arange(len(rows)) - (before[rows] - before[row]) + starts[rows]
        row = stop
