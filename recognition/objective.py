"""Quality-guided joint training: the paper's algorithm on one page (Sec. III).

Shapes: `p` pairs of this rank, `P` pairs of the global batch, `V` views of each (original k first, augmented q last),
    `U` of them with keys, `B` = P V samples, `D` dimension, `L` low-quality pairs, `M` = L Q queries, one or both views
    of each. On N ranks every rank computes the same losses; gradients are each rank's part (recognition/sharded.py).
"""

from collections.abc import Callable

import torch
from torch import nn

from recognition import contrast, sharded
from recognition.head import ClassShard
from recognition.margins import Margin
from recognition.outcome import Losses, NotFiniteError, Seen
from recognition.pool import Pool
from recognition.quality import NormStatistics, partition, sigmoid_gate
from recognition.variant import Variant
from utils import parallel


class Objective(nn.Module):
    """L = L_classification + weight * L_contrastive (Eq. 5).

    Args:
        head: the classifier's rows of this rank.
        margin: what happens to the target cosines, see `margins.make_margin`.
        pool: where negatives come from; None leaves the contrast out.
        quality: statistics of the feature norms.
        threshold: b in [0, 1], or None for no partition (Table III, "No"); `quality` may have one that moves.
        scale, contrast_scale: s of the two losses.
        contrast_weight: factor on L_contrastive (the paper: 1).
        denominator: see `contrast.contrastive_loss`.
        variant: where this departs from the paper.

    Raises:
        ValueError: threshold outside [0, 1], unknown denominator, or settings that do not go together.
    """

    def __init__(
        self,
        head: ClassShard,
        margin: Margin,
        pool: Pool | None = None,
        quality: NormStatistics | None = None,
        threshold: float | None = None,
        scale: float = 64.0,
        contrast_scale: float = 64.0,
        contrast_weight: float = 1.0,
        denominator: str = "infonce",
        variant: Variant | None = None,
    ):
        super().__init__()
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"quality_threshold={threshold}: expected a number in [0, 1] or None")
        if denominator not in contrast.DENOMINATORS:
            raise ValueError(f"contrast_denominator={denominator!r}: expected one of {contrast.DENOMINATORS}")
        if quality is not None and quality.lq_share is not None and threshold is None:
            raise ValueError("quality_lq_share without quality_threshold: expected a number in [0, 1] where it starts")
        self.head, self.margin, self.pool = head, margin, pool
        self.quality = quality or NormStatistics()
        self.threshold, self.scale, self.contrast_scale = threshold, scale, contrast_scale
        self.contrast_weight, self.denominator = contrast_weight, denominator
        self.variant = variant or Variant()
        self.variant.check(margin, pool)
        self.observer: Callable[[Seen], None] | None = None  # is shown every batch before its backward pass

    def forward(
        self,
        h_pVD: torch.Tensor,
        y_p: torch.Tensor,
        key_h_pD: torch.Tensor | None = None,
        pairs: int | None = None,
        known_pV: torch.Tensor | None = None,
    ) -> Losses:
        """Losses of the global batch.

        Args:
            h_pVD: features of this rank, not normalised; the contrast needs V = 2.
            y_p: int64 global class ids.
            key_h_pD: the momentum encoder's features of the originals, for a pool that wants them.
            pairs: P; this rank holds the range `share(P, rank, ranks)`. None: every rank holds as many as this one.
            known_pV: float32, qualities in [0, 1] that are partitioned instead of what the norms tell.

        Raises:
            NotFiniteError: features that are nan or infinite, on every rank; nothing has been updated then.
            ValueError: a label that is no class, likewise.
        """
        h_PVD, y_P, key_h_PD = self._gather(h_pVD, y_p, key_h_pD, pairs)
        z_PV = h_PVD.norm(dim=2)
        u_PVD = h_PVD / z_PV.clamp_min(1e-12)[..., None]

        z_hat_PV = self.quality.observe(self.quality.measure(h_PVD.detach(), z_PV))
        grade_PV = z_hat_PV if known_pV is None else 2 * parallel.gather_rows(known_pV, len(y_P)) - 1
        is_hq_PV, is_lq_P = partition(grade_PV, self._b())

        views = slice(1) if self.variant.classified_views == "originals" else slice(None)
        classify_P = self._classify(u_PVD[:, views], y_P, z_PV[:, views], z_hat_PV[:, views], is_hq_PV[:, views])
        key_u_PUD, contrast_P = None, torch.zeros_like(classify_P)
        if self.pool is not None:
            key_u_PUD = self._keys(self.pool, u_PVD, key_h_PD, y_P)
            contrast_P = self._contrast(self.pool, u_PVD, key_u_PUD, y_P, is_lq_P)
        classification, contrastive, weight = classify_P.mean(), contrast_P.mean(), self._weight()
        pull = weight * contrastive
        total, loss_P = classification + pull, classify_P + weight * contrast_P
        if self.variant.consistency_weight:
            apart_P = self._consistency(u_PVD)
            total, loss_P = total + apart_P.mean(), loss_P + apart_P

        plain = self.threshold is None and self.pool is None  # a baseline: no pair is called LQ
        hq_share, lq_pairs = is_hq_PV.float().mean(), is_lq_P.float().mean() * (not plain)
        if self.observer is not None:
            key_u_PD = None if key_u_PUD is None else key_u_PUD[:, 0].detach()
            self.observer(Seen(u_PVD.detach(), y_P, z_PV.detach(), z_hat_PV, is_hq_PV, lq_pairs, key_u_PD, pull))
        return Losses(total, classification.detach(), contrastive.detach(), hq_share, lq_pairs, loss_P.detach())

    def _gather(self, h_pVD, y_p, key_h_pD, pairs) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Features, labels and keys of the global batch, once they have been checked."""
        P = len(y_p) * parallel.world_size() if pairs is None else pairs
        h_PVD = parallel.gather_rows(h_pVD, P, at_least=torch.float32)
        key_h_PD = None if key_h_pD is None else parallel.gather_rows(key_h_pD, P, at_least=torch.float32)
        self._check(h_pVD, key_h_pD, h_PVD, key_h_PD)
        y_P = parallel.gather_rows(y_p, P)
        if (outside_P := (y_P < 0) | (y_P >= self.head.num_classes)).any():
            raise ValueError(f"label {int(y_P[outside_P][0])}: expected a class in [0, {self.head.num_classes})")
        return h_PVD, y_P, key_h_PD

    @staticmethod
    def _check(h_pVD, key_h_pD, h_PVD, key_h_PD) -> None:
        """Raise on every rank where a feature of any of them is not finite; the error knows this rank's."""
        if h_PVD.detach().isfinite().all() and (key_h_PD is None or key_h_PD.isfinite().all()):
            return
        is_good_p = h_pVD.detach().isfinite().flatten(1).all(1)
        if key_h_pD is not None:
            is_good_p &= key_h_pD.isfinite().all(1)
        raise NotFiniteError("the feature", ~is_good_p)

    def _b(self) -> float | torch.Tensor | None:
        """The threshold as it is now."""
        return self.threshold if self.quality.lq_share is None else self.quality.b

    def _classify(self, u_PVD, y_P, z_PV, z_hat_PV, is_hq_PV) -> torch.Tensor:
        """Eq. 3 and 6-10: margin softmax of the views, averaged for each pair; samples gated out count as 0."""
        u_BD, y_B = u_PVD.flatten(0, 1), y_P.repeat_interleave(u_PVD.shape[1])
        z_B = self._own(z_PV).flatten()
        cos_B = self.head.target(u_BD, y_B)
        f_B = self.margin(cos_B, z_B, z_hat_PV.flatten())
        b = self._b()
        if self.variant.quality_gate == "sigmoid" and b is not None:
            gate_B = sigmoid_gate(z_hat_PV, b, self.scale).flatten()
            u_BD, f_B, is_hq_PV = gate_B[:, None] * u_BD, gate_B * f_B, torch.ones_like(is_hq_PV)
        lse_B = self.head.negatives(u_BD, y_B, self.scale, self.margin.bend(cos_B, f_B))
        loss_B = sharded.softmax_loss(self.scale * f_B, lse_B)
        if self.margin.penalty is not None:
            loss_B = loss_B + self.margin.penalty(z_B)
        return torch.where(is_hq_PV, loss_B.view_as(is_hq_PV), 0.0).mean(1)

    @staticmethod
    def _own(z_PV) -> torch.Tensor:
        """The same values; a gradient only for this rank's pairs, since the ranks' gradients are added up."""
        start, stop = parallel.own_share(len(z_PV))
        return torch.cat([z_PV[:start].detach(), z_PV[start:stop], z_PV[stop:].detach()])

    def _keys(self, pool: Pool, u_PVD, key_h_PD, y_P) -> torch.Tensor:
        """Fill the pool and return the positive keys (P, U, D); the momentum encoder's are of the originals alone.
        Their gradient is stopped, unless `positive_gradient` keeps it.
        """
        momentum = pool.from_momentum_encoder
        key_u_PUD = nn.functional.normalize(key_h_PD)[:, None] if momentum else u_PVD
        pool.enqueue(key_u_PUD.detach(), y_P)
        return key_u_PUD if self.variant.positive_gradient == "kept" else key_u_PUD.detach()

    def _contrast(self, pool: Pool, u_PVD, key_u_PUD, y_P, is_lq_P) -> torch.Tensor:
        """Eq. 4, 13 and 14: each low-quality pair's augmented image against its original and the pool; 0 for the
        others.
        """
        lq_L = is_lq_P.nonzero().squeeze(1)
        q_LQD, key_LQD = contrast.make_queries(u_PVD, key_u_PUD, lq_L, self.variant.contrast_queries)
        q_MD, y_M = q_LQD.flatten(0, 1), y_P[lq_L].repeat_interleave(q_LQD.shape[1])
        positive_M = self.contrast_scale * self._cosine(q_MD, key_LQD.flatten(0, 1))
        loss_M = contrast.contrastive_loss(positive_M, pool(q_MD, y_M, self.contrast_scale), self.denominator)
        loss_L = loss_M.view(q_LQD.shape[:2]).mean(1)
        constant = self.variant.contrast_gate == "constant"
        gated = contrast.constant_loss(pool.rows, self.denominator) if constant else 0.0
        return loss_L.new_full((len(y_P),), gated).index_put((lq_L,), loss_L)

    def _weight(self) -> float:
        """Factor on L_contrastive."""
        if self.pool is None or not self.variant.contrast_rescale:
            return self.contrast_weight
        return self.contrast_weight * contrast.rescale(self.pool.rows)

    def _consistency(self, u_PVD) -> torch.Tensor:
        """How far each augmented image is from its original, whose gradient is stopped; with its weight."""
        return self.variant.consistency_weight * (1 - self._cosine(u_PVD[:, -1], u_PVD[:, 0].detach()))

    @staticmethod
    def _cosine(u_MD, key_MD) -> torch.Tensor:
        """(M,) cosines of unit vectors that are alike on every rank, each rank working out its share."""
        own = torch.arange(*parallel.own_share(len(u_MD)), device=u_MD.device)
        return sharded.owned_cosine(u_MD, key_MD[own], own)
