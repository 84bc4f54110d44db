"""Feature norms as quality: running statistics, the indicator z_hat, the split into HQ and LQ (Eq. 1-5).

Shapes: `P` pairs of the global batch, `V` views of each (original, augmented), `B` = P V samples.
"""

import torch
from torch import nn

from utils import parallel

SCOPES = ("global", "rank")


class NormStatistics(nn.Module):
    """Mean and standard deviation of feature norms over the global batches, as exponential moving averages (Eq. 1).

    What is measured of a feature is its norm; a subclass may measure something else (recognition/direction.py).

    Args:
        ema: weight of the newest batch.
        c: scale of the indicator (AdaFace's h), keeps most indicators within (-1, 1).
        mean, std: where the averages start (AdaFace's values).
        scope: "global": of the whole batch; "rank": each rank's samples by the averages that its own part of the batch
            has moved, of which the first rank's go on (as where DDP broadcasts its buffers).
        lq_share: beyond the paper: the threshold `b` follows the indicators' quantile, so that this share of the
            samples is of low quality, as the averages follow the norms; None: there is no `b`.
        start: where `b` starts.

    Raises:
        ValueError: another scope, or a share outside (0, 1).
    """

    LIMITS = (0.001, 100.0)  # of what is measured, against outliers

    def __init__(
        self,
        ema: float = 0.01,
        c: float = 0.333,
        mean: float = 20.0,
        std: float = 100.0,
        scope: str = "global",
        lq_share: float | None = None,
        start: float = 0.2,
    ):
        super().__init__()
        if scope not in SCOPES:
            raise ValueError(f"quality_statistics={scope!r}: expected one of {SCOPES}")
        if lq_share is not None and not 0 < lq_share < 1:
            raise ValueError(f"quality_lq_share={lq_share}: expected a share in (0, 1)")
        self.ema, self.c, self.scope, self.lq_share = ema, c, scope, lq_share
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.b: torch.Tensor  # where `lq_share` moves it
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        if lq_share is not None:
            self.register_buffer("b", torch.tensor(start))

    def measure(self, h_PVD: torch.Tensor, z_PV: torch.Tensor) -> torch.Tensor:
        """(P, V): what tells the quality of each feature of one global batch, here its norm."""
        return z_PV

    @torch.no_grad()
    def observe(self, z_PV: torch.Tensor) -> torch.Tensor:
        """Take in the norms of one global batch, then tell z_hat (P, V) of each.

        Raises:
            ValueError: scope "rank", and a rank with fewer than two samples.
        """
        if self.scope == "global":
            self.update(z_PV)
            z_hat_PV = self.indicator(z_PV)
        else:
            z_hat_PV = self._observe_by_rank(z_PV)
        if self.lq_share is not None:
            self.b.lerp_(((z_hat_PV + 1) / 2).flatten().quantile(self.lq_share).to(self.b.dtype), self.ema)
        return z_hat_PV

    def _observe_by_rank(self, z_PV: torch.Tensor) -> torch.Tensor:
        mean, std, parts = self.mean.clone(), self.std.clone(), []
        for rank in reversed(range(parallel.world_size())):  # the first rank's averages are those that stay
            start, stop = parallel.share(len(z_PV), rank, parallel.world_size())
            if (stop - start) * z_PV.shape[1] < 2:
                raise ValueError(
                    f"quality_statistics='rank': rank {rank} has {(stop - start) * z_PV.shape[1]} samples a step; "
                    f"expected at least 2"
                )
            self.mean.copy_(mean)
            self.std.copy_(std)
            self.update(z_PV[start:stop])
            parts.append(self.indicator(z_PV[start:stop]))
        return torch.cat(parts[::-1])

    @torch.no_grad()
    def update(self, z: torch.Tensor) -> None:
        """Take in the norms of one global batch, of any shape; at least two, float."""
        z = z.detach().clamp(*self.LIMITS).to(self.mean.dtype)
        self.mean.lerp_(z.mean(), self.ema)
        self.std.lerp_(z.std(), self.ema)

    @torch.no_grad()
    def indicator(self, z: torch.Tensor) -> torch.Tensor:
        """z_hat in [-1, 1] of each norm, without gradient; same shape."""
        z = z.detach().clamp(*self.LIMITS)
        return (self.c * (z - self.mean) / (self.std + 0.001)).clamp(-1, 1).to(z.dtype)

    def numbers(self) -> dict[str, float]:
        """Where the averages are, by their names in metrics.jsonl; `threshold`, where it moves."""
        norms = {"norm_mean": float(self.mean), "norm_std": float(self.std)}
        return norms if self.lq_share is None else norms | {"threshold": float(self.b)}


def partition(z_hat_PV: torch.Tensor, b: float | torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Which samples are classified and which pairs are contrasted (Eq. 2-4).

    Args:
        z_hat_PV: indicators in [-1, 1].
        b: threshold in [0, 1] on (z_hat + 1) / 2 (Table III), a number or a tensor of one; None: every sample and
            every pair feels both losses.

    Returns:
        is_hq (P, V) bool, samples above the threshold; is_lq (P,) bool, pairs whose lower indicator is not above it.
    """
    if b is None:
        return torch.ones_like(z_hat_PV, dtype=torch.bool), torch.ones_like(z_hat_PV[:, 0], dtype=torch.bool)
    is_hq_PV = (z_hat_PV + 1) / 2 > b
    return is_hq_PV, ~is_hq_PV.all(1)


def sigmoid_gate(z_hat_PV: torch.Tensor, b: float | torch.Tensor, s: float) -> torch.Tensor:
    """Soft form of Eq. 3, as the authors released it: a factor in [0, 1] on a sample's logits, 0.5 at the threshold.

    Args:
        z_hat_PV: indicators in [-1, 1].
        b: threshold in [0, 1], on the scale of `partition`.
        s: scale of the logits, here the gate's steepness.
    """
    return torch.sigmoid(s * (z_hat_PV + 1 - 2 * b))
