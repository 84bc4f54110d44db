"""The baseline of closed-set identification: AdaFace's TinyFace evaluation (`tinyface_helper.py`), step by step.

It takes Probabilistic Face Embeddings' DIR@FAR with FAR 1: the whole score matrix, the whole matrix of matches, a
copy of both for the probes that have a mate, a full sort of every row, the matches in sorted order, and their first k
columns.
"""

from collections.abc import Sequence

import numpy as np


def identify(
    probes: np.ndarray,
    gallery: np.ndarray,
    probe_labels: np.ndarray,
    gallery_labels: np.ndarray,
    ranks: Sequence[int] = (1, 5, 20),
) -> np.ndarray:
    """Unit features (P, D) and (G, D), labels (P,) and (G,) -> fraction of probes with a mate among the first k, for
    each k of `ranks`.
    """
    scores = np.dot(probes, gallery.T)
    matches = probe_labels[:, None] == gallery_labels[None, :]
    mated = matches.any(axis=1)
    scores_mated, matches_mated = scores[mated, :], matches[mated, :]
    _without_mate = scores[~mated, :], matches[~mated, :]
    order = np.argsort(scores_mated, axis=1)
    in_order = np.empty(matches_mated.shape, bool)
    for row in range(len(order)):
        in_order[row] = matches_mated[row, order[row, ::-1]]
    return np.array([in_order[:, :k].any(axis=1).mean() for k in ranks])
