"""1:N closed-set identification: where each probe's mates stand among the gallery.

A mate is a gallery image of the probe's identity. Scores are cosines. Ties count against the model: a constant feature
gives every probe the worst rank.

Scores come from one float32 product, whose rounding depends on where in the matrix a score stands: equal gallery
images get scores up to some 1e-7 apart. So gallery images as near to a mate as that are compared again in float64; the
ranks are those of float64 scores.

Shapes: P probes, G gallery images, D dimension.
"""

from typing import NamedTuple

import numpy as np
import torch

from eval.confidence import interval, mean_replicates
from eval.protocol import Result

BLOCK = 512  # rows converted to float64 at a time: few enough to stay in the cache
MAX_NEAR = 4096  # gallery images compared again for one mate; where more are so near, features have collapsed: ties
LARGEST, SMALLEST = 1e30, 1e-30  # norms, so that float32 can hold products and scales; less is 0
TIE = 1e-12  # rounding of a float64 score


class Search(NamedTuple):
    """`rank` (P,) int32: 1 + gallery images of other identities that score at least as high as the best mate.
    `precision` (P,) float64: average precision, 0 to 1.
    """

    rank: np.ndarray
    precision: np.ndarray


def search(
    probes: np.ndarray,
    gallery: np.ndarray,
    probe_labels: np.ndarray,
    gallery_labels: np.ndarray,
    memory: int = 128 << 20,
) -> Search:
    """Search every probe in the gallery.

    Average precision is TinyFace's (`compute_AP.m`, from Market-1501): the area under precision over recall by
    trapezoids, where a probe's precision before its first gallery image is 1. No gallery image is junk.

    Args:
        probes, gallery: h or u, (P, D) and (G, D) float32.
        probe_labels, gallery_labels: identities, (P,) and (G,).
        memory: bytes of scores held at a time; at least one probe's.

    Raises:
        ValueError: other shapes, nothing to search, a probe without a mate, features that are not finite.
    """
    probes, probe_labels, probe_scale = _checked(probes, probe_labels, "probe")
    gallery, gallery_labels, scale = _checked(gallery, gallery_labels, "gallery image")
    if probes.shape[1] != gallery.shape[1]:
        raise ValueError(f"probes of {probes.shape[1]} dimensions and a gallery of {gallery.shape[1]}: expected one D")
    order, first, end = _mates(probe_labels, gallery_labels)
    columns, column_scale = torch.from_numpy(gallery).T, scale.astype(np.float32)
    step = min(len(probes), max(1, memory // (4 * len(gallery))))
    scores = torch.empty(step, len(gallery))
    rank, precision = np.empty(len(probes), np.int32), np.empty(len(probes))
    for start in range(0, len(probes), step):
        u = torch.from_numpy(probes[start : start + step] * probe_scale[start : start + step, None].astype(np.float32))
        rows = torch.mm(u, columns, out=scores[: len(u)]).numpy()
        for index, row in enumerate(rows, start):
            mates = order[first[index] : end[index]]
            row *= column_scale
            row[mates] = -np.inf
            position = _positions(row, mates, probes[index].astype(np.float64) * probe_scale[index], gallery, scale)
            rank[index], precision[index] = position[0], _average_precision(position)
    return Search(rank, precision)


def cmc(rank: np.ndarray, k: int) -> np.ndarray:
    """Cumulative match characteristic: (k,) float64, the fractions of probes of rank 1, at most 2 ... at most k."""
    return np.bincount(np.minimum(rank, k + 1), minlength=k + 2)[1 : k + 1].cumsum() / len(rank)


def rank_rates(rank: np.ndarray, identity: np.ndarray, names: dict[str, int]) -> Result:
    """Rank-k rates with intervals and replicates, by the bootstrap over identities.

    Args:
        rank: (P,) of the probes.
        identity: (P,) int: the probes of one person are drawn together.
        names: metric -> k.
    """
    right = {name: rank <= k for name, k in names.items()}
    replicates = {name: mean_replicates(flags, identity) for name, flags in right.items()}
    return Result(
        {name: float(flags.mean()) for name, flags in right.items()},
        tuple(names),
        {name: interval(draws) for name, draws in replicates.items()},
        {f"replicates/{name}": draws for name, draws in replicates.items()},
    )


def _positions(row: np.ndarray, mates: np.ndarray, u: np.ndarray, gallery: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Places (from 1, best first) of the mates among all gallery images, those that tie with a mate before it.

    `row` (G,) float32 scores, the mates' -inf; `u` (D,) float64 unit probe.
    """

    def exact(images: np.ndarray) -> np.ndarray:
        return (gallery[images] * u).sum(axis=1) * scale[images]

    band = (len(u) + 8) * 2.0**-24  # bound of a float32 product's rounding, D * |u| |v| * 2^-24
    position = np.arange(1, len(mates) + 1)
    for place, score in enumerate(np.sort(exact(mates))[::-1]):
        ahead = row >= float(score - band)
        near = np.flatnonzero(ahead & (row <= float(score + band)))
        position[place] += np.count_nonzero(ahead)
        if len(near) <= MAX_NEAR:
            position[place] -= np.count_nonzero(exact(near) < score - TIE)
    return position


def _average_precision(position: np.ndarray) -> float:
    found = np.arange(1, len(position) + 1)
    before = np.divide(found - 1, position - 1, out=np.ones(len(position)), where=position > 1)
    return float(np.mean((before + found / position) / 2))


def _mates(probe_labels: np.ndarray, gallery_labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gallery images by identity, and where each probe's identity begins and ends there."""
    order = np.argsort(gallery_labels, kind="stable")
    first, end = (np.searchsorted(gallery_labels, probe_labels, side, order) for side in ("left", "right"))
    lone = np.flatnonzero(first == end)
    if len(lone):
        raise ValueError(
            f"probe {lone[0]} of {len(probe_labels)}: identity {probe_labels[lone[0]]} is not in the gallery "
            f"({len(lone)} such probes); in a closed set every probe's identity is"
        )
    return order, first, end


def _checked(h: np.ndarray, labels: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (n, D) float32 that torch can take, labels (n,), and 1 / |h| (n,) float64, 0 for a feature of zeros."""
    h, labels = np.require(h, np.float32, ("C", "W")), np.asarray(labels)
    if h.ndim != 2 or labels.shape != h.shape[:1] or not h.size:
        raise ValueError(f"{what}s {h.shape} with labels {labels.shape}: expected features (n, D) and labels (n,)")
    blocks = (h[start : start + BLOCK].astype(np.float64) for start in range(0, len(h), BLOCK))
    norm = np.concatenate([np.linalg.norm(block, axis=1) for block in blocks])
    bad = np.flatnonzero(~(norm < LARGEST))
    if len(bad):
        raise ValueError(f"the feature of {what} {bad[0]} of {len(h)} is not finite ({len(bad)} such)")
    return h, labels, np.divide(1, norm, out=np.zeros(len(h)), where=norm > SMALLEST)
