"""Exact search: the most similar rows of a gallery, which may be larger than memory.

The gallery is read once, block by block: a memory-mapped one needs no more memory than a block. Products are float32;
of each probe some more candidates are kept than asked for, and these are ordered by cosines of float64.

Shapes: p probes, g rows of the gallery, D dimension, k rows found.
"""

import numpy as np
import torch

BLOCK = 32 << 20  # bytes of the gallery at a time
PROBES = 256  # whose scores of a block are held at a time
SPARE = 16  # candidates beyond k: a float32 product may order scores wrongly that differ by less than some 1e-6


def nearest(probes: np.ndarray, gallery: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of the gallery that are most similar to each probe, best first; equal ones in the gallery's order.

    More than SPARE rows whose cosines differ from the k-th by less than float32's rounding (copies of one image, say)
    may stand in for each other.

    Args:
        probes: (p, D) features, of any length.
        gallery: (g, D) features, an array or a memory map; a row of zeros has cosine 0 with everything.
        k: at least 1; at most g rows are found.

    Returns:
        rows (p, min(k, g)) int64 and their cosines, float64 in [-1, 1].

    Raises:
        ValueError: other shapes, nothing to search, NaN or infinity; names the row.
    """
    if probes.ndim != 2 or gallery.ndim != 2 or probes.shape[1] != gallery.shape[1] or not gallery.size or k < 1:
        raise ValueError(
            f"probes {probes.shape}, gallery {gallery.shape}, k={k}: expected (p, D) and (g, D), g and k of at least 1"
        )
    u = torch.from_numpy(_unit(probes, "probe", 0).astype(np.float32))
    wanted = min(k + SPARE, len(gallery))
    best, rows = torch.full((len(u), wanted), -torch.inf), torch.zeros(len(u), wanted, dtype=torch.int64)
    step = max(1, BLOCK // (4 * gallery.shape[1]))
    for start in range(0, len(gallery), step):
        block = torch.from_numpy(np.require(gallery[start : start + step], np.float32, ("C", "W")))
        scale = _scale(block, start)
        for first in range(0, len(u), PROBES):
            part = slice(first, first + PROBES)
            scores = torch.mm(block, u[part].T).mul_(scale)  # for few probes twice as fast as the other way round
            _merge(best[part], rows[part], scores.T.contiguous(), start)
    return _ordered(probes, gallery, rows.numpy(), min(k, len(gallery)))


def _merge(best: torch.Tensor, rows: torch.Tensor, scores: torch.Tensor, start: int) -> None:
    """Put the block's scores (p, b) among the best (p, wanted), in place; `start` is the block's first row."""
    better = (scores.amax(1) > best[:, -1]).nonzero()[:, 0]
    if not len(better):
        return
    if len(better) < len(scores):
        scores = scores[better]
    top, place = scores.topk(min(best.shape[1], scores.shape[1]))
    top, place = torch.cat([best[better], top], 1), torch.cat([rows[better], place + start], 1)
    best[better], order = top.topk(best.shape[1])
    rows[better] = place.gather(1, order)


def _ordered(probes: np.ndarray, gallery: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first k of the candidates `rows` (p, wanted) by their float64 cosines."""
    found, cosines = np.empty((len(probes), k), np.int64), np.empty((len(probes), k))
    for index, candidates in enumerate(rows):
        candidates = np.sort(candidates)
        u = _unit(probes[index : index + 1], "probe", index)[0]
        scores = (_unit(gallery[candidates], "gallery row", 0) * u).sum(1)
        order = np.argsort(-scores, kind="stable")[:k]
        found[index], cosines[index] = candidates[order], np.clip(scores[order], -1, 1)
    return found, cosines


def _unit(h: np.ndarray, what: str, start: int) -> np.ndarray:
    """(n, D) -> float64 of length 1; rows of zeros stay zeros."""
    h = h.astype(np.float64)
    norm = np.linalg.norm(h, axis=1, keepdims=True)
    _refuse_infinite(torch.from_numpy(norm[:, 0]), what, start)
    return h / np.maximum(norm, np.finfo(np.float64).tiny)


def _scale(block: torch.Tensor, start: int) -> torch.Tensor:
    """1 / |h| (b, 1) of the block's rows, 0 for a row of zeros."""
    norm = torch.from_numpy(np.sqrt(np.einsum("ij,ij->i", block.numpy(), block.numpy())))
    _refuse_infinite(norm, "gallery row", start)
    return torch.where(norm > 0, 1 / norm, 0)[:, None]


def _refuse_infinite(norm: torch.Tensor, what: str, start: int) -> None:
    if not norm.isfinite().all():
        first = start + int((~norm.isfinite()).nonzero()[0])
        raise ValueError(f"the feature of {what} {first} (counted from 0) is not finite")
