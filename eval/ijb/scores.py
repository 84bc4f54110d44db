"""Scores of template pairs: cosines in float64 throughout, as InsightFace's scripts compute them, a block at a time.

The lists pair a few thousand gallery templates with many probe templates, so that a matrix product of a block of rows
with all columns costs less than gathering two features per pair. A block whose pairs are few is gathered.

Equal templates get equal scores with any third one, to the last bit: InsightFace's choice of a point on the ROC depends
on ties. Memory: the scores, one block, and the pairs' order where the list is not sorted by its first template.

Shapes: T templates, D dimension, p pairs.
"""

from collections.abc import Iterator

import numpy as np

ROWS = 128  # of a block: with 20,000 columns 20 MB
SPARSE = 16  # a gathered pair takes as long as so many entries of a block
GATHERED = 2048  # pairs gathered at a time: 16 MB at 512 dimensions


def pair_scores(u: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of each pair.

    Args:
        u: (T, D) float64 of unit length or zero.
        first, second: (p,) rows of `u`.

    Returns:
        (p,) float64.
    """
    same = representatives(u)
    first, second = same[first], same[second]
    columns, column_of = _used(second, len(u))
    right = u[columns].T
    scores = np.empty(len(first))
    for rows, pairs, row in blocks(first, len(u)):
        if len(row) * SPARSE < len(rows) * len(columns):
            scores[pairs] = _gathered(u, first[pairs], second[pairs])
        else:
            entry = row * len(columns)
            entry += column_of[second[pairs]]
            scores[pairs] = (u[rows] @ right).ravel()[entry]
    return scores


def representatives(u: np.ndarray) -> np.ndarray:
    """(T,) the first row that equals each one to the last bit: a product may round equal rows in different ways."""
    if len(np.unique(u[:, 0])) == len(u):
        return np.arange(len(u), dtype=np.int32)
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(row.tobytes(), index) for index, row in enumerate(u + 0.0)], np.int32)  # -0 is 0


def _used(index: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers below n that occur in `index`, rising, and the place of each number among them."""
    used = np.zeros(n, bool)
    used[index] = True
    return np.flatnonzero(used), np.cumsum(used) - 1


def blocks(first: np.ndarray, n: int) -> Iterator[tuple[np.ndarray, np.ndarray | slice, np.ndarray]]:
    """Blocks of the rows that occur, the pairs whose first template is among them, and which of the rows that is."""
    rows, row_of = _used(first, n)
    order = None
    if (first[1:] < first[:-1]).any():
        order = np.argsort(first.astype(np.min_scalar_type(n)), kind="stable")  # 16-bit numbers: a radix sort
    start = np.append(0, np.cumsum(np.bincount(first, minlength=n)[rows]))
    for low in range(0, len(rows), ROWS):
        part = rows[low : low + ROWS]
        run = slice(start[low], start[low + len(part)])
        pairs = run if order is None else order[run]
        yield part, pairs, row_of[first[pairs]] - low


def _gathered(u: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    scores = np.empty(len(first))
    for start in range(0, len(first), GATHERED):
        part = slice(start, start + GATHERED)
        scores[part] = np.einsum("pd,pd->p", u[first[part]], u[second[part]])
    return scores
