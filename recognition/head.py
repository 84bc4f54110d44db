"""The classifier, sharded by class: this rank's rows of W, Partial-FC sampling, cosines, the step that moves W.

W's gradient is a sum of thin products, one for each micro-batch. It is never held as a whole: `step` goes through the
classes in blocks, computes a block's gradient and moves its rows at once.

Shapes: `B` samples of the global batch, `D` dimension, `N` classes in all, `C` this rank's classes, `S` <= C of them
    sampled, `M` <= B samples whose class this rank owns.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from recognition import sharded
from recognition.row_optimizer import RowOptimizer
from utils import parallel, rng

BLOCK = 1024  # classes whose initial rows are drawn together
MIB = 2**20
INITS = ("normal", "unit")


def initial_rows(start: int, stop: int, dimension: int, seed: int) -> torch.Tensor:
    """Rows [start, stop) of the initial W, normal with deviation 0.01: a function of the class id, not of the rank."""
    rows = np.empty((stop - start, dimension), dtype=np.float32)
    for first in range(start // BLOCK * BLOCK, stop, BLOCK):
        stream = rng.generator(seed, 0, first // BLOCK, rng.Purpose.CLASS_ROWS)
        drawn = stream.standard_normal((BLOCK, dimension), dtype=np.float32)
        lower, upper = max(start, first), min(stop, first + BLOCK)
        np.multiply(drawn[lower - first : upper - first], np.float32(0.01), out=rows[lower - start : upper - start])
    return torch.from_numpy(rows)


class ClassShard(nn.Module):
    """This rank's contiguous range of identity proxies.

    Args:
        num_classes: identities in all; ranks share them, the first ones one more where they do not divide.
        embedding_size: D.
        sample_rate: share of negatives a step sees, in (0, 1]; positives of the global batch are always in (Partial
            FC). Rows that were not sampled stay as they are, their momentum too (`RowOptimizer`).
        seed: of the initial rows and of the sampling.
        memory_budget: MiB of cosines that are kept for the step, on this rank; beyond it they are recomputed.
        init: of the rows: "normal" with deviation 0.01, or "unit": the same directions with norm 1. A gradient is
            orthogonal to its row and as large as the row is short, so the first steps make short rows longer than
            unit ones become; those then turn more slowly, until weight decay has shortened them.

    Raises:
        ValueError: num_classes or embedding_size < 1, sample_rate outside (0, 1], a negative budget, unknown init.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        sample_rate: float = 1.0,
        seed: int = 0,
        memory_budget: float = 256,
        init: str = "normal",
    ):
        super().__init__()
        if num_classes < 1 or embedding_size < 1:
            raise ValueError(f"num_classes={num_classes}, embedding_size={embedding_size}: expected at least 1")
        if not 0 < sample_rate <= 1:
            raise ValueError(f"sample_rate={sample_rate}: expected a share in (0, 1]")
        if memory_budget < 0:
            raise ValueError(f"memory_budget={memory_budget}: expected 0 or more MiB")
        if init not in INITS:
            raise ValueError(f"proxy_init={init!r}: expected one of {INITS}")
        self.weight: torch.Tensor
        self.draws: torch.Tensor  # steps that drew classes
        self.num_classes, self.sample_rate, self.seed = num_classes, sample_rate, seed
        self.budget = int(memory_budget * MIB)
        self.start, self.stop = parallel.own_share(num_classes)
        self.register_buffer("weight", initial_rows(self.start, self.stop, embedding_size, seed))
        if init == "unit":
            self.weight /= self.weight.norm(dim=1, keepdim=True)
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))
        self._traces: list[sharded.Trace[ClassColumns]] = []  # one for each micro-batch since the last step
        self.scratch = sharded.Scratch()
        self._targets: list[tuple[torch.Tensor, torch.Tensor]] = []

    def target(self, u_BD: torch.Tensor, y_B: torch.Tensor) -> torch.Tensor:
        """(B,) cosines of each sample to the proxy of its class, alike on every rank.

        Args:
            u_BD: unit features of the global batch.
            y_B: int64 global class ids.
        """
        rows_M, ids_M = self.owned(y_B)
        W_MD = self.weight[ids_M].requires_grad_()
        if torch.is_grad_enabled():
            self._targets.append((ids_M, W_MD))
        return sharded.owned_cosine(u_BD, nn.functional.normalize(W_MD), rows_M)

    def negatives(
        self, u_BD: torch.Tensor, y_B: torch.Tensor, s: float, bend: sharded.Bend | None = None
    ) -> torch.Tensor:
        """(B,) logsumexp of the scaled cosines to all other classes, alike on every rank; `bend`: see
        `sharded.negatives_logsumexp`.
        """
        columns = ClassColumns(self, *self.owned(y_B))
        trace = None
        if torch.is_grad_enabled():
            spent = sum(earlier.spent for earlier in self._traces)
            trace = sharded.Trace[ClassColumns](self.budget - spent, name=len(self._traces))
            self._traces.append(trace)
        return sharded.negatives_logsumexp(u_BD, columns, s, bend, trace)

    def owned(self, y_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples whose class lives here, and the local number of that class."""
        rows_M = ((y_B >= self.start) & (y_B < self.stop)).nonzero().squeeze(1)
        return rows_M, y_B[rows_M] - self.start

    def sample(self, positives: torch.Tensor) -> torch.Tensor:
        """Sorted local ids of a step's classes: every class is drawn by (seed, draw, class id), whatever rank holds
        it.
        """
        stream = rng.generator(self.seed, 0, int(self.draws), rng.Purpose.CLASS_SAMPLING)
        self.draws += 1
        chosen = torch.from_numpy(stream.random(self.num_classes, dtype=np.float32) < self.sample_rate)
        chosen = chosen[self.start : self.stop].to(positives.device)
        chosen[positives] = True
        return chosen.nonzero().squeeze(1)

    def step(self, optimizer: RowOptimizer, lr: float, scale: float = 1.0) -> None:
        """Move W by the gradients of all backward passes since the last step.

        Args:
            optimizer: of `weight`.
            lr: learning rate.
            scale: what a GradScaler multiplied the loss by.
        """
        optimizer.begin()
        for rows, g in self._gradients():
            optimizer.update(rows, g if scale == 1 else g.div_(scale), lr)
        self.forget()

    def forget(self) -> None:
        """Drop the gradients: the step is over, or not taken."""
        self._traces.clear()
        self._targets.clear()

    def gradient(self) -> torch.Tensor:
        """The gradient of W as a dense (C, D) tensor, to look at; `step` does without it."""
        dense = torch.zeros_like(self.weight)
        for rows, g in self._gradients():
            dense[rows] = g
        return dense

    @torch.no_grad()
    def _gradients(self) -> Iterator[tuple[slice | torch.Tensor, torch.Tensor]]:
        """Block by block: rows of W, and their gradient (r, D)."""
        targets = [(ids_M, W_MD.grad) for ids_M, W_MD in self._targets if W_MD.grad is not None]
        ids, grads = (torch.cat(parts) for parts in zip(*targets, strict=True)) if targets else (None, None)
        for k in range(len(self._traces[0].columns.blocks) if self._traces else 0):
            if len(self._traces) == 1:
                rows, g = self._traces[0].columns.rows(k), self._traces[0].gradient(k)
            else:
                rows, g = _merge([(trace.columns.rows(k), trace.gradient(k).clone()) for trace in self._traces])
            if ids is not None and grads is not None:
                start, stop = self._traces[0].columns.range(k)
                inside = ((ids >= start) & (ids < stop)).nonzero().squeeze(1)
                slots = ids[inside] - start if isinstance(rows, slice) else torch.searchsorted(rows, ids[inside])
                g.index_add_(0, slots, grads[inside])
            yield rows, g


def _merge(parts: list) -> tuple[slice | torch.Tensor, torch.Tensor]:
    """The sum of several micro-batches' gradients of one block."""
    if isinstance(parts[0][0], slice):
        return parts[0][0], torch.stack([g for _, g in parts]).sum(0)
    rows = torch.cat([rows for rows, _ in parts]).unique()
    total = parts[0][1].new_zeros(len(rows), parts[0][1].shape[1])
    for part, g in parts:
        total.index_add_(0, torch.searchsorted(rows, part), g)
    return rows, total


class ClassColumns(sharded.Columns):
    """The classes of this rank that one pass sees, in blocks of neighbouring class ids.

    Args:
        head: whose classes.
        rows_M, ids_M: see `ClassShard.owned`; these entries are positives, no negatives.
    """

    def __init__(self, head: ClassShard, rows_M: torch.Tensor, ids_M: torch.Tensor):
        self.weight, self.scratch, count = head.weight, head.scratch, len(head.weight)
        self.width = int(sharded.block_size(self.weight.device) / head.sample_rate)
        self.edges = [*range(0, count, self.width), count]
        edges = (torch.arange(len(self.edges), device=ids_M.device) * self.width).clamp_max(count)
        self.ids_S = head.sample(ids_M) if head.sample_rate < 1 else None
        order = ids_M.argsort()
        self.rows_M, self.ids_M = rows_M[order], ids_M[order]
        self.positives = torch.searchsorted(self.ids_M, edges).tolist()
        cuts = self.edges if self.ids_S is None else torch.searchsorted(self.ids_S, edges).tolist()
        self.blocks = list(zip(cuts[:-1], cuts[1:], strict=True)) if count else []
        self.count = cuts[-1] - cuts[0]

    def range(self, k: int) -> tuple[int, int]:
        """The class ids [start, stop) of this rank that block k is about."""
        return self.edges[k], self.edges[k + 1]

    def rows(self, k: int) -> slice | torch.Tensor:
        """The rows of W in block k."""
        start, stop = self.blocks[k]
        return slice(start, stop) if self.ids_S is None else self.ids_S[start:stop]

    def vectors(self, k: int) -> torch.Tensor:
        rows = self.rows(k)
        if isinstance(rows, slice):
            return self.weight[rows]
        room = self.scratch.take("vectors", self.weight, len(rows), self.weight.shape[1])
        return torch.index_select(self.weight, 0, rows, out=room)

    def hide(self, logits_Bc: torch.Tensor, k: int) -> None:
        mine = slice(self.positives[k], self.positives[k + 1])
        rows, start = self.rows(k), self.range(k)[0]
        ids = self.ids_M[mine]
        columns = ids - start if isinstance(rows, slice) else torch.searchsorted(rows, ids)
        logits_Bc[self.rows_M[mine], columns] = -torch.inf
