"""The contrastive loss on low-quality pairs (Eq. 13-14), who is compared with whom, and what else it may be.

Shapes: `P` pairs of the global batch, `K` pool rows of this rank, `L` of the pairs, `V` views, `U` of them with
    keys, `D` dimension.
"""

import math

import torch

from recognition.sharded import softmax_loss

DENOMINATORS = ("infonce", "negatives")


def same_identity(y_P: torch.Tensor, y_K: torch.Tensor) -> torch.Tensor:
    """(P, K) bool: pool rows that show a query's own identity are no negatives (supervised contrastive mask)."""
    return y_P[:, None] == y_K


def contrastive_loss(positive_P: torch.Tensor, lse_P: torch.Tensor, denominator: str = "infonce") -> torch.Tensor:
    """Loss of each pair from its scaled positive cosine and the logsumexp of its negatives (Eq. 14).

    Args:
        positive_P: s cos(q, k).
        lse_P: log sum exp(s cos(q, k_j)) over the negatives; -inf where there are none.
        denominator: "infonce": the positive joins the negatives, as MoCo; "negatives": Eq. 14 as printed.

    Returns:
        (P,) losses; 0 where there are no negatives.
    """
    if denominator == "infonce":
        return softmax_loss(positive_P, lse_P)
    nothing_P = lse_P.isneginf()
    return torch.where(nothing_P, 0.0, lse_P.masked_fill(nothing_P, 0.0) - positive_P)


def make_queries(
    u_PVD: torch.Tensor, key_PUD: torch.Tensor, pairs_L: torch.Tensor, queries: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries (L, 1 or 2, D) of some pairs and the positive key of each, likewise.

    Args:
        u_PVD: unit features of original and augmented image.
        key_PUD: keys of both, or of the original alone.
        pairs_L: which pairs.
        queries: "augmented": q against k; "both": k against q as well.
    """
    if queries == "both":
        return u_PVD[pairs_L], key_PUD[pairs_L].flip(1)
    return u_PVD[pairs_L, 1:], key_PUD[pairs_L, :1]


def constant_loss(rows: int, denominator: str = "infonce") -> float:
    """The loss of a pair whose cosines are all set to 0, log(1 + Q) with Q rows in the pool; it has no gradient."""
    return math.log(rows + (denominator == "infonce")) if rows else 0.0


def rescale(rows: int) -> float:
    """log 129 / log(1 + Q): brings the loss of an untrained network to that of 128 negatives, whatever Q is."""
    return math.log(129) / math.log(1 + max(rows, 1))
