"""Closed-set identification by distance: one gallery, probes of several distances (SCface, surveillance)."""

from collections.abc import Mapping

import numpy as np

from eval.confidence import interval
from eval.features import Features, unit
from eval.hardest import hardest_probes
from eval.identification import rank_rates, search
from eval.protocol import Result

BLOCK = 2**24  # scores held at a time
CLEAN = "clean"  # probes of no distance
RANKS = {"": 1, "_rank5": 5, "_rank10": 10}


def identify(features: Features, gallery: np.ndarray, identity: np.ndarray, levels: Mapping[str, np.ndarray]) -> Result:
    """Search the probes of each distance in the one gallery.

    Args:
        features: of n images.
        gallery: (n,) bool; all others are probes.
        identity: (n,) int.
        levels: distance, or CLEAN, -> (n,) bool, its probes; each probe has one.

    Returns:
        metrics `d1`, `d1_rank5`, `d1_rank10` and so on, `average` of all distances where all are there, `probes`,
        `xnorm`; the headline are the levels. Evidence: `rank`, `identity`, `replicates/METRIC`; of each level
        `matched/d1` and `unmatched/d1` (float32): cosines of its probes with their own gallery image, and with the most
        similar one of another identity; its hardest probes.
    """
    probe = ~gallery
    rank = search(features.h[probe], features.h[gallery], identity[probe], identity[gallery]).rank
    matched, unmatched = _similarities(features.h, gallery, identity)
    parts: dict[str, Result] = {}
    evidence = {"rank": rank, "identity": identity[probe]}
    for name, images in levels.items():
        chosen = images[probe]
        if not chosen.any():
            continue
        ranks = {name + end: k for end, k in RANKS.items()}
        parts[name] = rank_rates(rank[chosen], evidence["identity"][chosen], ranks)
        evidence |= parts[name].evidence | {f"matched/{name}": matched[chosen], f"unmatched/{name}": unmatched[chosen]}
        at = np.flatnonzero(probe)[chosen], np.flatnonzero(gallery)
        evidence |= hardest_probes(name, features.h, *at, identity, rank[chosen])
    metrics = {metric: value for part in parts.values() for metric, value in part.metrics.items()}
    intervals = {metric: ends for part in parts.values() for metric, ends in part.intervals.items()}
    distances = [name for name in levels if name != CLEAN]
    if all(name in parts for name in distances):
        metrics["average"] = float(np.mean([metrics[name] for name in distances]))
        people = [np.unique(identity[levels[name]]) for name in distances]
        if all(np.array_equal(people[0], other) for other in people):  # else their draws are of different people
            evidence["replicates/average"] = np.mean([evidence[f"replicates/{name}"] for name in distances], axis=0)
            intervals["average"] = interval(evidence["replicates/average"])
    metrics |= {"probes": len(rank), "xnorm": float(features.z.mean(dtype=np.float64))}
    return Result(metrics, tuple(parts), intervals, evidence)


def _similarities(h: np.ndarray, gallery: np.ndarray, identity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(P,) float32 each; -1 where the gallery shows nobody else."""
    probes, columns = np.flatnonzero(~gallery), unit(h[gallery]).T
    best = np.empty((2, len(probes)), np.float32)
    step = max(1, BLOCK // columns.shape[1])
    for start in range(0, len(probes), step):
        rows = probes[start : start + step]
        scores, same = unit(h[rows]) @ columns, identity[rows][:, None] == identity[gallery]
        best[:, start : start + step] = [np.where(kept, scores, -1.0).max(axis=1) for kept in (same, ~same)]
    return best[0], best[1]
