"""Which images a report shows: the pairs and probes a model found hardest, the images of the lowest and highest norms.

Evidence names them by their index in the target's `images`: `hard/GROUP` (k, m) int32, the first image of each row the
one in question, and `hard/GROUP/cosine` (k, m - 1) float32, of it with the others; `sheet/low` and `sheet/high` (k,)
int32 with `sheet/low/z` (k,) float32. Hardest first, and lowest or highest.
"""

import numpy as np

from eval.features import unit

PAIRS, PROBES, SHEET = 6, 4, 16  # rows of a group of pairs, of probes, images of a sheet


def hardest_pairs(dist: np.ndarray, issame: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    """Groups `matched`, the least alike, and `mismatched`, the most alike; one that has no pair is left out.

    Args:
        dist: (n,) squared distances of unit features.
        issame: (n,) bool.
        first, second: (n,) indices of the pairs' images.
    """
    found = {}
    for name, kept, order in (("matched", issame, -dist), ("mismatched", ~issame, dist)):
        pairs = np.flatnonzero(kept)
        pairs = pairs[np.argsort(order[pairs], kind="stable")[:PAIRS]]
        if len(pairs):
            found[f"hard/{name}"] = np.stack([first[pairs], second[pairs]], axis=1).astype(np.int32)
            found[f"hard/{name}/cosine"] = (1 - dist[pairs, None] / 2).astype(np.float32)
    return found


def hardest_probes(
    name: str, h: np.ndarray, probes: np.ndarray, gallery: np.ndarray, identity: np.ndarray, rank: np.ndarray
) -> dict[str, np.ndarray]:
    """Group `name`: probes whose match has the highest rank, with the best gallery images of theirs and of other
    identities.

    Args:
        h: (n, D) features of all images.
        probes, gallery: (P,) and (G,) indices of them.
        identity: (n,) int.
        rank: (P,) of each probe's best match, 1 is best.
    """
    worst = probes[np.argsort(-rank, kind="stable")[:PROBES]]
    same = identity[worst][:, None] == identity[gallery]
    if not len(worst) or same.all():  # nobody else is in the gallery
        return {}
    known = h[gallery]
    scores = unit(h[worst]) @ known.T / np.maximum(np.linalg.norm(known, axis=1), np.finfo(np.float32).tiny)
    masked = [np.where(kept, scores, -np.inf) for kept in (same, ~same)]
    images = [worst, *(gallery[part.argmax(axis=1)] for part in masked)]
    cosines = [part.max(axis=1) for part in masked]
    return {
        f"hard/{name}": np.stack(images, axis=1).astype(np.int32),
        f"hard/{name}/cosine": np.stack(cosines, axis=1).astype(np.float32),
    }


def sheets(z: np.ndarray) -> dict[str, np.ndarray]:
    """The images of the lowest and of the highest norms.

    Args:
        z: (n,) norms.
    """
    _, order = np.unique(z, return_index=True)  # sorted; one of the images that a set holds several times
    count = min(SHEET, len(order) // 2)
    chosen = {"low": order[:count], "high": order[::-1][:count]}
    found: dict[str, np.ndarray] = {}
    for name, images in chosen.items():
        found |= {f"sheet/{name}": images.astype(np.int32), f"sheet/{name}/z": z.ravel()[images].astype(np.float32)}
    return found
