"""The momentum encoder of MoCo: a slow copy of the backbone that makes keys (Table II, "Momentum")."""

import copy

import torch
from torch import nn


class MomentumEncoder(nn.Module):
    """A copy of `backbone` whose weights follow it as an exponential moving average.

    Args:
        backbone: the encoder in training.
        m: share of the old weights that stays at each step (MoCo: 0.999).
    """

    def __init__(self, backbone: nn.Module, m: float = 0.999):
        super().__init__()
        self.m = m
        self.encoder = copy.deepcopy(backbone).requires_grad_(False)

    @torch.no_grad()
    def follow(self, backbone: nn.Module) -> None:
        """Move towards `backbone`, once for each optimisation step."""
        torch._foreach_lerp_([*self.encoder.parameters()], [*backbone.parameters()], 1 - self.m)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, S, S) images -> (n, D) features, without gradient.

        The normalisation statistics are this encoder's own, taken from the images it sees.
        """
        return self.encoder(images)
