"""The contrastive loss on low-quality pairs (Eq. 13-14) and the supervised contrastive mask.

Shapes: `P` pairs of the global batch, `K` pool rows of this rank.
"""

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
