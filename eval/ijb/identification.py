"""1:N: where the probes' mates rank, and how many are found at a rate of false alarms.

InsightFace's `ijb_1n.py` searches every probe in both galleries together, so that each has a mate. Its TPIR at FPIR f
takes as threshold the ceil(f q)-th highest score of *any* probe with *any* template that is not its mate, q probes, and
counts mates above it. IJB's papers search each gallery on its own: there the probes whose subject is in the other
gallery have no mate, FPIR is the fraction of *them* whose best match reaches the threshold, TPIR the fraction of the
others whose mate exceeds it, and both galleries' numbers are averaged. The first are `rank1`, `tpir@fpir=0.01` ..., the
second `galleries_rank1`, `galleries_tpir@fpir=0.01` ... Ties count against the mate in all of them.

Shapes: q probes, g gallery templates, D dimension.
"""

import math
from typing import NamedTuple

import numpy as np

from eval.identification import TIE
from eval.ijb.scores import blocks, representatives
from eval.ijb.subjects import SearchLists

RANKS = {f"rank{k}": k for k in (1, 5, 10)}
FPIRS = {f"tpir@fpir={fpir:g}": fpir for fpir in (0.01, 0.1)}
NAMES = (*RANKS, *FPIRS)  # of metrics; the same after `galleries_`


class Found(NamedTuple):
    """What a search gave for each probe."""

    mate: np.ndarray  # (q,) float64 score of its mate, less what may be rounding
    rank: np.ndarray  # (q,) int32 of its mate in both galleries, 1 is best
    rank_in_own: np.ndarray  # (q,) int32, in the mate's gallery alone
    best_in_other: np.ndarray  # (q,) float64, best score in the gallery that the mate is not in
    highest: np.ndarray  # (ceil(0.1 q),) float64, the highest scores that are no mate's, falling


def identify(u: np.ndarray, search: SearchLists) -> tuple[dict[str, float], np.ndarray]:
    """Numbers of 1:N.

    Args:
        u: (T, D) float64 templates of unit length.
        search: rows of `u` that are galleries and probes.

    Returns:
        metrics as fractions, and (q,) the rank of each probe's mate in both galleries together.
    """
    place, in_second = _mates(search)
    found = _search(u, search, place)
    metrics = {name: float(np.mean(found.rank <= k)) for name, k in RANKS.items()}
    for name, fpir in FPIRS.items():
        threshold = found.highest[math.ceil(len(found.mate) * fpir) - 1]
        metrics[name] = float(np.mean(found.mate > threshold))
    if in_second.any() and not in_second.all():  # each gallery has probes with and without a mate
        for name, k in RANKS.items():
            metrics[f"galleries_{name}"] = _mean(found.rank_in_own <= k, in_second)
        for name, fpir in FPIRS.items():
            first, second = (_threshold(found.best_in_other[in_second == other], fpir) for other in (True, False))
            accepted = found.mate > np.where(in_second, second, first)
            metrics[f"galleries_{name}"] = _mean(accepted, in_second)
    return metrics, found.rank


def _mates(search: SearchLists) -> tuple[np.ndarray, np.ndarray]:
    """(q,) place of each probe's mate in both galleries together, and whether it is in the second one."""
    subject = np.concatenate([gallery.subject for gallery in search.galleries])
    order = np.argsort(subject)
    place = order[np.searchsorted(subject[order], search.probes.subject)]
    return place, place >= len(search.galleries[0].subject)


def _search(u: np.ndarray, search: SearchLists, place: np.ndarray) -> Found:
    first, second = search.galleries
    same = representatives(u)
    # equal templates share one column, so that a tie is one
    column, column_of = np.unique(same[np.concatenate([first.template, second.template])], return_inverse=True)
    right, column_of, size = u[column].T, column_of.ravel(), len(first.template)
    q = len(place)
    mate, best = np.empty(q), np.empty(q)
    rank, rank_in_own = np.empty(q, np.int32), np.empty(q, np.int32)
    highest = np.empty(0)
    for rows, probes, row in blocks(same[search.probes.template], len(u)):
        scores = (u[rows] @ right)[row][:, column_of]
        entry = np.arange(len(row)), place[probes]
        mate[probes] = scores[entry] - TIE
        scores[entry] = -np.inf
        in_second = place[probes] >= size
        better = scores >= mate[probes][:, None]
        counts = better[:, :size].sum(1), better[:, size:].sum(1)
        rank[probes] = 1 + counts[0] + counts[1]
        rank_in_own[probes] = 1 + np.where(in_second, counts[1], counts[0])
        best[probes] = np.where(in_second, scores[:, :size].max(1), scores[:, size:].max(1))
        highest = _highest(np.append(highest, scores), math.ceil(max(FPIRS.values()) * q))
    return Found(mate, rank, rank_in_own, best, np.sort(highest)[::-1])


def _highest(scores: np.ndarray, count: int) -> np.ndarray:
    return np.partition(scores, -count)[-count:] if len(scores) > count else scores


def _threshold(best: np.ndarray, fpir: float) -> float:
    """The score to be exceeded so that at most `fpir` of the searches without a mate give an alarm."""
    return float(np.sort(best)[::-1][math.floor(len(best) * fpir)])


def _mean(right: np.ndarray, in_second: np.ndarray) -> float:
    """The mean over both galleries of the fraction of its probes."""
    return float((right[in_second].mean() + right[~in_second].mean()) / 2)
