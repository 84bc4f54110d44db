"""Where training may depart from the paper, by the names of configs/base.py; the defaults are the paper's."""

import dataclasses

from recognition.margins import CurricularMargin, Margin
from recognition.pool import Pool

WORDS = {
    "quality_gate": ("hard", "sigmoid"),
    "classified_views": ("all", "originals"),
    "contrast_gate": ("drop", "constant"),
    "contrast_queries": ("augmented", "both"),
    "positive_gradient": ("stopped", "kept"),
}


@dataclasses.dataclass(frozen=True)
class Variant:
    """Choices within the objective; the second word of each is the authors' released code's (docs/method.md).

    Args:
        quality_gate: "hard": samples at or below the threshold are not classified; "sigmoid": every sample is, its
            logits times `quality.sigmoid_gate`.
        classified_views: "all", or the "originals" alone.
        contrast_gate: pairs above the threshold count as 0 ("drop"), or as `contrast.constant_loss` ("constant"),
            which changes the loss that is reported, but no gradient.
        contrast_queries: "augmented": q against k; "both": also k against q, and a pair's loss is the mean.
        positive_gradient: "stopped" at the positive key, or "kept". The momentum encoder's keys have none.
        contrast_rescale: L_contrastive is times `contrast.rescale`.
        consistency_weight: beyond both: factor on the mean of 1 - cos(q, k) over all pairs, the original's gradient
            stopped, which is added to L.

    Raises:
        ValueError: an unknown word.
    """

    quality_gate: str = "hard"
    classified_views: str = "all"
    contrast_gate: str = "drop"
    contrast_queries: str = "augmented"
    positive_gradient: str = "stopped"
    contrast_rescale: bool = False
    consistency_weight: float = 0.0

    def __post_init__(self):
        for key, known in WORDS.items():
            if getattr(self, key) not in known:
                raise ValueError(f"{key}={getattr(self, key)!r}: expected one of {known}")

    def check(self, margin: Margin, pool: Pool | None) -> None:
        """Raise a ValueError where this does not go together with the objective's parts."""
        if self.quality_gate == "sigmoid" and isinstance(margin, CurricularMargin):
            raise ValueError(
                "quality_gate='sigmoid' with loss='curricularface': expected another loss, or quality_gate='hard'"
            )
        if self.contrast_queries == "both" and pool is not None and pool.from_momentum_encoder:
            raise ValueError(
                "contrast_queries='both' with pool='momentum': its encoder sees the originals alone; "
                "expected contrast_queries='augmented'"
            )
