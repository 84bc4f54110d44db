"""Quality-guided joint training: the paper's algorithm on one page (Sec. III).

Shapes: `p` pairs of this rank, `P` pairs of the global batch, `V` views of each (original k first, augmented q last),
    `B` = P V
samples, `D` dimension. On N ranks every rank computes the same losses; gradients are each rank's part
(recognition/sharded.py).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from recognition import margins, sharded
from recognition.contrast import DENOMINATORS, contrastive_loss
from recognition.head import ClassShard
from recognition.pools import Pool
from recognition.quality import NormStatistics, partition
from utils import parallel


class Losses(NamedTuple):
    """What one step gives; scalars, alike on every rank."""

    total: torch.Tensor  # L (Eq. 5), with gradient
    classification: torch.Tensor
    contrastive: torch.Tensor
    hq_share: torch.Tensor  # share of samples above the threshold
    lq_pairs: torch.Tensor  # share of pairs with a sample that is not; without a threshold: 1, for a baseline 0


class Objective(nn.Module):
    """L = L_classification + weight * L_contrastive (Eq. 5).

    Args:
        head: the classifier's rows of this rank.
        margin: f(cos_B, z_hat_B) -> modified target cosine.
        pool: where negatives come from; None leaves the contrast out.
        quality: statistics of the feature norms.
        threshold: b in [0, 1], or None for no partition (Table III, "No").
        scale, contrast_scale: s of the two losses.
        contrast_weight: factor on L_contrastive (the paper: 1).
        denominator: see `contrast.contrastive_loss`.

    Raises:
        ValueError: threshold outside [0, 1] or an unknown denominator.
    """

    def __init__(
        self,
        head: ClassShard,
        margin: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        pool: Pool | None = None,
        quality: NormStatistics | None = None,
        threshold: float | None = None,
        scale: float = 64.0,
        contrast_scale: float = 64.0,
        contrast_weight: float = 1.0,
        denominator: str = "infonce",
    ):
        super().__init__()
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"quality_threshold={threshold}: expected a number in [0, 1] or None")
        if denominator not in DENOMINATORS:
            raise ValueError(f"contrast_denominator={denominator!r}: expected one of {DENOMINATORS}")
        self.head, self.margin, self.pool = head, margin, pool
        self.quality = quality or NormStatistics()
        self.threshold, self.scale, self.contrast_scale = threshold, scale, contrast_scale
        self.contrast_weight, self.denominator = contrast_weight, denominator

    def forward(
        self,
        h_pVD: torch.Tensor,
        y_p: torch.Tensor,
        key_h_pD: torch.Tensor | None = None,
        pairs: int | None = None,
    ) -> Losses:
        """Losses of the global batch.

        Args:
            h_pVD: features of this rank, not normalised; the contrast needs V = 2.
            y_p: int64 global class ids.
            key_h_pD: the momentum encoder's features of the originals, for a pool that wants them.
            pairs: P; this rank holds the range `share(P, rank, ranks)`. None: every rank holds as many as this one.
        """
        P = len(y_p) * parallel.world_size() if pairs is None else pairs
        h_PVD = parallel.gather_rows(h_pVD.float() if h_pVD.dtype.itemsize < 4 else h_pVD, P)
        y_P = parallel.gather_rows(y_p, P)
        z_PV = h_PVD.norm(dim=2)
        u_PVD = h_PVD / z_PV.clamp_min(1e-12)[..., None]

        self.quality.update(z_PV)
        z_hat_PV = self.quality.indicator(z_PV)
        is_hq_PV, is_lq_P = partition(z_hat_PV, self.threshold)

        classification = self._classify(u_PVD, y_P, z_hat_PV, is_hq_PV)
        contrastive = classification.new_zeros(())
        if self.pool is not None:
            key_u_PD = self._keys(u_PVD, key_h_pD, y_P)
            contrastive = self._contrast(u_PVD, key_u_PD, y_P, is_lq_P)
        total = classification + self.contrast_weight * contrastive
        plain = self.threshold is None and self.pool is None  # a baseline: no pair is called LQ
        lq_pairs = is_lq_P.float().mean() * (not plain)
        return Losses(total, classification.detach(), contrastive.detach(), is_hq_PV.float().mean(), lq_pairs)

    def _classify(self, u_PVD, y_P, z_hat_PV, is_hq_PV) -> torch.Tensor:
        """Eq. 3 and 6-10: margin softmax of both views; samples gated out count as 0 and stay in the mean."""
        y_B = y_P.repeat_interleave(u_PVD.shape[1])
        cos_B, lse_B = self.head(u_PVD.flatten(0, 1), y_B, self.scale)
        loss_B = sharded.softmax_loss(self.scale * self.margin(cos_B, z_hat_PV.flatten()), lse_B)
        return torch.where(is_hq_PV.flatten(), loss_B, 0.0).mean()

    def _keys(self, u_PVD, key_h_pD, y_P) -> torch.Tensor:
        """Fill the pool and return the positive keys (P, D), without gradient (the original's is stopped)."""
        if not self.pool.from_momentum_encoder:
            self.pool.enqueue(u_PVD.detach(), y_P)
            return u_PVD[:, 0].detach()
        key_u_PD = nn.functional.normalize(parallel.gather_rows(key_h_pD.to(u_PVD.dtype), len(y_P)))
        self.pool.enqueue(key_u_PD[:, None], y_P)
        return key_u_PD

    def _contrast(self, u_PVD, key_u_PD, y_P, is_lq_P) -> torch.Tensor:
        """Eq. 4, 13 and 14: each augmented image against its original and the pool; pairs gated out count as 0."""
        q_PD, P = u_PVD[:, -1], len(y_P)
        start, stop = parallel.share(P, parallel.rank(), parallel.world_size())
        own = torch.arange(start, stop, device=q_PD.device)
        positive_P = self.contrast_scale * sharded.owned_cosine(q_PD, key_u_PD, own, own)
        lse_P = self.pool(q_PD, y_P, self.contrast_scale)
        loss_P = contrastive_loss(positive_P, lse_P, self.denominator)
        return torch.where(is_lq_P, loss_P, 0.0).mean()


def make_margin(
    loss: str, margin: float, margin_list: tuple[float, float, float], gradient: str = "exact"
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The margin function of a config: "combined" (arcface_torch's margin_list) or "adaface" (margin).

    Args:
        gradient: "exact", or "insightface" for the constant target gradient of arcface_torch.

    Raises:
        ValueError: unknown loss or gradient, or a margin_list that is not three numbers.
    """
    if loss not in ("combined", "adaface") or gradient not in ("exact", "insightface"):
        raise ValueError(
            f"loss={loss!r}, margin_gradient={gradient!r}: expected 'combined' or 'adaface', 'exact' or 'insightface'"
        )
    if len(margin_list) != 3:
        raise ValueError(f"margin_list={margin_list}: expected three numbers (m1, m2, m3)")

    def f(cos_B: torch.Tensor, z_hat_B: torch.Tensor) -> torch.Tensor:
        if loss == "adaface":
            f_B = margins.adaface(cos_B, z_hat_B, margin)
        else:
            f_B = margins.combined(cos_B, *margin_list)
        return f_B if gradient == "exact" else margins.constant_gradient(cos_B, f_B)

    return f
