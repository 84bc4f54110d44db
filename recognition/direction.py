"""Quality as the direction in which degradation moves features: beyond the paper, in place of the norm.

A network that has not seen much yet shifts the features of bad images by a common offset, which can make their norms
*larger* (docs/results.md). The offset itself tells quality, and pairs of an original and its augmented image show
where it points.

Shapes: `P` pairs of the global batch, `V` views of each (original first, augmented last), `D` dimension.
"""

import math

import torch
from torch import nn

from recognition.quality import NormStatistics


class DirectionStatistics(NormStatistics):
    """As `NormStatistics`, of the features' components along d, the moving average of h_original - h_augmented.

    Args:
        dimension: D.
        ema: weight of the newest batch, for d too.
        options: of `NormStatistics`; the averages start at 0 and `std`.
    """

    LIMITS = (-math.inf, math.inf)

    def __init__(self, dimension: int, ema: float = 0.01, **options):
        super().__init__(ema, mean=0.0, **options)
        self.direction_D: torch.Tensor
        self.register_buffer("direction_D", torch.zeros(dimension))

    @torch.no_grad()
    def measure(self, h_PVD: torch.Tensor, z_PV: torch.Tensor) -> torch.Tensor:
        """(P, V) h . d / |d|, once d has followed this batch; 0 while d is 0.

        Args:
            h_PVD: features, V >= 2.
            z_PV: not looked at.
        """
        apart_D = (h_PVD[:, 0] - h_PVD[:, -1]).mean(0).to(self.direction_D.dtype)
        self.direction_D.lerp_(apart_D, self.ema)
        return h_PVD @ nn.functional.normalize(self.direction_D, dim=0).to(h_PVD.dtype)

    def numbers(self) -> dict[str, float]:
        """As of norms, under `direction_...`, and |d|: how far apart the views are."""
        numbers = {name.replace("norm_", "direction_"): value for name, value in super().numbers().items()}
        return numbers | {"direction_length": float(self.direction_D.norm())}
