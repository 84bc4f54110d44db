"""What every pool of negatives does: it holds the rows of this rank and answers with the logsumexp over the rows of all
ranks.

Shapes: `P` pairs of the global batch, `L` queries, `V` views, `D` dimension, `K` slots of this rank, `c` of them in a
    block.
"""

import torch
from torch import nn

from recognition import sharded
from recognition.contrast import same_identity
from utils import parallel

SAME_IDENTITY = ("excluded", "zero")
KEYS = ("unit", "clamped")


class Pool(nn.Module):
    """Negatives for low-quality queries. Subclasses say what a row's key is now.

    Args:
        same_identity: "excluded": rows of a query's own identity are no negatives; "zero": they are, with the cosine 0.
        keys: "unit": keys are normalised; "clamped": they are taken as they are, and their products clamped to [-1, 1].

    Raises:
        ValueError: another word.
    """

    from_momentum_encoder = False  # True: keys and positives come from the slowly moving encoder
    y_K: torch.Tensor  # int64 class id in each slot

    def __init__(self, same_identity: str = "excluded", keys: str = "unit"):
        super().__init__()
        if same_identity not in SAME_IDENTITY or keys not in KEYS:
            raise ValueError(
                f"contrast_same_identity={same_identity!r}, queue_keys={keys!r}: expected one of {SAME_IDENTITY} "
                f"and one of {KEYS}"
            )
        self.same_identity, self.clamped = same_identity, keys == "clamped"
        self.scratch = sharded.Scratch()

    @property
    def rows(self) -> int:
        """On all ranks."""
        raise NotImplementedError

    def enqueue(self, u_PVD: torch.Tensor, y_P: torch.Tensor) -> None:
        """Take in unit features of the whole global batch (no gradient is kept) and their labels (P,), int64."""
        raise NotImplementedError

    def segments(self) -> list[tuple[int, int]]:
        """The ranges of slots that hold rows."""
        raise NotImplementedError

    def keys(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys (c, D) of the slots [start, stop) as they are now, of any length, and their labels (c,)."""
        raise NotImplementedError

    def forward(self, q_LD: torch.Tensor, y_L: torch.Tensor, s: float) -> torch.Tensor:
        """(L,) log sum exp(s cos(q, k_j)) over the rows of other identities on all ranks; -inf where there are none.

        Args:
            q_LD: unit features, alike on every rank.
            y_L: their int64 class ids.
            s: scale.
        """
        lse_L = sharded.negatives_logsumexp(q_LD, PoolColumns(self, y_L), s, clamp if self.clamped else None)
        if self.same_identity == "excluded":
            return lse_L
        zeros_L = parallel.total(self.rows_of(y_L)).to(lse_L.dtype)
        return torch.where(zeros_L > 0, torch.logaddexp(lse_L, zeros_L.clamp_min(1).log()), lse_L)

    def rows_of(self, y_L: torch.Tensor) -> torch.Tensor:
        """(L,) int64: how many rows of each of these classes are held here."""
        y_K = torch.cat([self.y_K[start:stop] for start, stop in self.segments()]).sort().values
        return torch.searchsorted(y_K, y_L, right=True) - torch.searchsorted(y_K, y_L)


def clamp(product_Lc: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Products clamped to [-1, 1], and the slope of that."""
    return product_Lc.clamp(-1, 1), (product_Lc.abs() <= 1).to(product_Lc.dtype)


class PoolColumns(sharded.Columns):
    """The rows of a pool, made block by block, without those of the query's own identity."""

    def __init__(self, pool: Pool, y_L: torch.Tensor):
        self.pool, self.y_L, self.scratch = pool, y_L, pool.scratch
        width = sharded.block_size(y_L.device)
        self.blocks = [
            (first, min(first + width, stop)) for start, stop in pool.segments() for first in range(start, stop, width)
        ]

    def vectors(self, k: int) -> torch.Tensor:
        vectors, self.y_c = self.pool.keys(*self.blocks[k])
        return vectors

    def inverse_norm(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors.new_ones(len(vectors)) if self.pool.clamped else super().inverse_norm(vectors)

    def hide(self, logits_Lc: torch.Tensor, k: int) -> None:
        logits_Lc.masked_fill_(same_identity(self.y_L, self.y_c), -torch.inf)
