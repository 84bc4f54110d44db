"""What a step of the objective tells: its losses, what they were made of, or that it cannot be taken.

Shapes: `P` pairs of the global batch, `V` views of each, `D` dimension.
"""

from typing import NamedTuple

import torch


class Losses(NamedTuple):
    """What one step gives; scalars, alike on every rank."""

    total: torch.Tensor  # L (Eq. 5), with gradient
    classification: torch.Tensor
    contrastive: torch.Tensor
    hq_share: torch.Tensor  # share of samples above the threshold
    lq_pairs: torch.Tensor  # share of pairs with a sample that is not; without a threshold: 1, for a baseline 0
    per_pair: torch.Tensor  # (P,) each pair's part of L, without gradient


class Seen(NamedTuple):
    """What the losses of a batch were made of, alike on every rank; only `contrastive` has a gradient."""

    u_PVD: torch.Tensor
    y_P: torch.Tensor
    z_PV: torch.Tensor
    z_hat_PV: torch.Tensor
    is_hq_PV: torch.Tensor
    lq_pairs: torch.Tensor  # as in `Losses`
    key_u_PD: torch.Tensor | None  # positive keys; None without a contrast
    contrastive: torch.Tensor  # the contrast's part of L


class NotFiniteError(ValueError):
    """Something of a step is nan or infinite, on every rank.

    Args:
        what: "the features", "the loss", ...
        is_bad: bool, the pairs of this rank where it is seen; none may be.
    """

    def __init__(self, what: str, is_bad: torch.Tensor):
        super().__init__(f"{what} is not finite")
        self.what, self.is_bad = what, is_bad
