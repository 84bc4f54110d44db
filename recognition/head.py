"""The classifier, sharded by class: this rank's rows of W, Partial-FC sampling, cosines.

Shapes: `B` samples of the global batch, `D` dimension, `N` classes in all, `C` this rank's classes, `S` <= C of them
    sampled.
"""

import numpy as np
import torch
from torch import nn

from recognition import sharded
from utils import parallel, rng

BLOCK = 1024  # classes whose initial rows are drawn together


def initial_rows(start: int, stop: int, dimension: int, seed: int) -> torch.Tensor:
    """Rows [start, stop) of the initial W, normal with deviation 0.01: a function of the class id, not of the rank."""
    blocks = []
    for block in range(start // BLOCK, -(-stop // BLOCK)):
        stream = rng.generator(seed, 0, block, rng.Purpose.CLASS_ROWS)
        rows = stream.standard_normal((BLOCK, dimension), dtype=np.float32)
        blocks.append(rows[max(start - block * BLOCK, 0) : stop - block * BLOCK])
    return torch.from_numpy(np.concatenate(blocks) * np.float32(0.01)) if blocks else torch.empty(0, dimension)


class ClassShard(nn.Module):
    """This rank's contiguous range of identity proxies.

    Args:
        num_classes: identities in all; ranks share them, the first ones one more where they do not divide.
        embedding_size: D.
        sample_rate: share of negatives a step sees, in (0, 1]; positives of the global batch are always in (Partial
            FC). Rows that were not sampled get a zero gradient, and the optimizer moves them by momentum and weight
            decay (as arcface_torch).
        seed: of the initial rows and of the sampling.

    Raises:
        ValueError: num_classes < 1 or sample_rate outside (0, 1].
    """

    def __init__(self, num_classes: int, embedding_size: int, sample_rate: float = 1.0, seed: int = 0):
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes={num_classes}: expected at least 1")
        if not 0 < sample_rate <= 1:
            raise ValueError(f"sample_rate={sample_rate}: expected a share in (0, 1]")
        self.num_classes, self.sample_rate, self.seed = num_classes, sample_rate, seed
        self.start, self.stop = parallel.share(num_classes, parallel.rank(), parallel.world_size())
        self.weight = nn.Parameter(initial_rows(self.start, self.stop, embedding_size, seed))
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def forward(self, u_BD: torch.Tensor, y_B: torch.Tensor, s: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Target cosines and the logsumexp of the scaled negative cosines, both (B,) and alike on every rank.

        Args:
            u_BD: unit features of the global batch.
            y_B: int64 global class ids.
            s: scale.
        """
        rows = ((y_B >= self.start) & (y_B < self.stop)).nonzero().squeeze(1)
        columns = y_B[rows] - self.start
        weight = self.weight
        if self.sample_rate < 1:
            sampled_S = self._sample(columns)
            weight, columns = weight[sampled_S], torch.searchsorted(sampled_S, columns)
        w_CD = nn.functional.normalize(weight.to(u_BD.dtype))
        cos_B = sharded.owned_cosine(u_BD, w_CD, rows, columns)
        return cos_B, sharded.negatives_logsumexp(u_BD, w_CD, s, (rows, columns))

    def _sample(self, positives: torch.Tensor) -> torch.Tensor:
        """Sorted local ids of this step's classes: every class is drawn by (seed, step, class id), whatever rank holds
        it.
        """
        stream = rng.generator(self.seed, 0, int(self.draws), rng.Purpose.CLASS_SAMPLING)
        self.draws += 1
        chosen = torch.from_numpy(stream.random(self.num_classes, dtype=np.float32) < self.sample_rate)
        chosen = chosen[self.start : self.stop].to(positives.device)
        chosen[positives] = True
        return chosen.nonzero().squeeze(1)
