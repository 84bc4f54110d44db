"""Softmax over columns that are spread over ranks: class rows in the classifier, pool rows in the contrast.

Columns go through block by block. One pass gives the logsumexp *and* its gradient with respect to the rows, as
flash-attention gives scores and values: nothing of size B x K has to be kept for it. A `Trace` remembers what the
gradient with respect to the columns needs: exponentials within a memory budget, recomputed beyond it.

Shapes: `B` rows of the global batch, `D` dimension, `K` columns of this rank, `c` of them in a block.
"""

import math
from collections.abc import Callable
from typing import Generic, TypeVar

import torch

from utils import parallel

Bend = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def block_size(device: torch.device) -> int:
    """Columns in a block: what stays in a CPU's cache; on a GPU, what keeps it busy."""
    return 1024 if device.type == "cpu" else 16384


class Scratch:
    """Work space, used again from block to block and step to step: fresh pages cost more than what is done on them."""

    def __init__(self):
        self.flats: dict[object, torch.Tensor] = {}

    def take(self, name: object, like: torch.Tensor, *shape: int) -> torch.Tensor:
        """A tensor of this shape, with anything in it; what was taken under the same name before is given up."""
        size, flat = math.prod(shape), self.flats.get(name)
        if flat is None or len(flat) < size or (flat.dtype, flat.device) != (like.dtype, like.device):
            self.flats[name] = flat = like.new_empty(size)
        return flat[:size].view(shape)


class Columns:
    """The columns of this rank, in blocks that subclasses cut."""

    blocks: list  # one entry per block, whatever the subclass needs to find it
    count: int  # columns in all blocks
    scratch: Scratch

    def vectors(self, k: int) -> torch.Tensor:
        """Block k as (c, D) vectors, not normalised; c may be 0."""
        raise NotImplementedError

    def inverse_norm(self, vectors: torch.Tensor) -> torch.Tensor:
        """(c,) factors on the products with `vectors` that make them cosines."""
        return torch.linalg.vector_norm(vectors, dim=1).clamp_min_(1e-12).reciprocal_()

    def hide(self, logits_Bc: torch.Tensor, k: int) -> None:
        """Set to -inf, in place, the entries of block k that are no negatives."""
        raise NotImplementedError


Cut = TypeVar("Cut", bound=Columns)


class Trace(Generic[Cut]):
    """What one pass leaves for the gradient with respect to its columns.

    Args:
        budget: bytes of exponentials to keep; the blocks beyond them are recomputed.
        name: of this pass among those that are alive, for their memory.
    """

    def __init__(self, budget: int, name: object = 0):
        self.budget, self.name = budget, name
        self.kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # by block
        self.inverse: dict[int, torch.Tensor] = {}
        self.spent = 0  # bytes of the budget

    def begin(self, u_BD: torch.Tensor, columns: Cut) -> None:
        """Make room for what a pass may keep."""
        size = min(len(u_BD) * columns.count, self.budget // u_BD.itemsize)
        self.free = columns.scratch.take(self.name, u_BD, size)
        self.spent = self.free.nbytes

    def room(self, rows: int, columns: int) -> torch.Tensor | None:
        """Memory for a block, or None where the budget is spent."""
        size = rows * columns
        if size > len(self.free):
            return None
        block, self.free = self.free[:size], self.free[size:]
        return block.view(rows, columns)

    def finish(self, u_BD: torch.Tensor, columns: Cut, s: float, bend: Bend | None, lse_B: torch.Tensor) -> None:
        """The pass is over; the gradient of its result is not known yet."""
        self.u_BD, self.columns, self.s, self.bend = u_BD, columns, s, bend
        self.lse_B = lse_B.masked_fill(lse_B.isneginf(), 0.0)  # no negative: every exponential is 0
        self.grad_B = torch.zeros_like(lse_B)

    def gradient(self, k: int) -> torch.Tensor:
        """Gradient with respect to the raw vectors of block k (c, D); good until the next call."""
        vectors, take = self.columns.vectors(k), self.columns.scratch.take
        if not len(vectors):
            return torch.zeros_like(vectors)
        e, shift_B = self.kept.get(k) or self._recompute(vectors, k)
        factor_B = self.s * self.grad_B * (shift_B - self.lse_B).exp()
        weighted_BD = torch.mul(self.u_BD, factor_B[:, None], out=take("weighted", vectors, *self.u_BD.shape))
        g = torch.mm(e.t(), weighted_BD, out=take("g", vectors, *vectors.shape))
        # of w = W / |W|: what points along W is lost
        along = torch.mul(g, vectors, out=take("product", vectors, *vectors.shape)).sum(1)
        return g.addcmul_(vectors, along.mul_(self.inverse[k] ** 2)[:, None], value=-1)

    def _recompute(self, vectors: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        # (c, B) in memory: every core works on vectors of its own, which it is about to move
        cos_cB = self.columns.scratch.take("block", vectors, len(vectors), len(self.u_BD))
        cos_Bc = torch.mm(vectors, self.u_BD.t(), out=cos_cB).t().mul_(self.inverse[k])
        e, slope_Bc = _bend(cos_Bc, self.s, self.bend)
        self.columns.hide(e, k)
        e.sub_(self.lse_B[:, None]).exp_().mul_(self.inverse[k])
        return e if slope_Bc is None else e.mul_(slope_Bc), self.lse_B


def _bend(cos_Bc, s, bend) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Logits in place of a block's cosines, and the slope of the bend."""
    if bend is None:
        return cos_Bc.mul_(s), None
    bent_Bc, slope_Bc = bend(cos_Bc)
    return torch.mul(bent_Bc, s, out=cos_Bc), slope_Bc


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u_BD, columns, s, bend, trace):
        peak_B, sum_B = u_BD.new_full((len(u_BD),), -torch.inf), u_BD.new_zeros(len(u_BD))
        pull_BD = torch.zeros_like(u_BD)  # sum_j e^logit_j w_j, the gradient of the sum
        if trace is not None:
            trace.begin(u_BD, columns)
        for k in range(len(columns.blocks)):
            vectors = columns.vectors(k)
            if not len(vectors):
                continue
            inverse = columns.inverse_norm(vectors)
            kept = None if trace is None else trace.room(len(u_BD), len(vectors))
            room = columns.scratch.take("block", u_BD, len(u_BD), len(vectors)) if kept is None else kept
            e, slope_Bc = _bend(torch.mm(u_BD, vectors.t(), out=room).mul_(inverse), s, bend)
            columns.hide(e, k)
            peak_B, before_B = torch.maximum(peak_B, e.amax(1)), peak_B
            shift_B = _finite(peak_B)
            e.sub_(shift_B[:, None]).exp_()
            fade_B = (before_B - shift_B).exp_()
            sum_B.mul_(fade_B).add_(e.sum(1))
            e.mul_(inverse)
            if slope_Bc is not None:
                e.mul_(slope_Bc)
            pull_BD.mul_(fade_B[:, None]).addmm_(e, vectors)
            if trace is not None:
                trace.inverse[k] = inverse
            if kept is not None:
                trace.kept[k] = (e, shift_B)
        shift_B = _finite(parallel.largest(peak_B.clone()))
        fade_B = (peak_B - shift_B).exp_()
        sum_B = parallel.total(sum_B.mul_(fade_B))
        factor_B = torch.where(sum_B > 0, s * fade_B / sum_B, 0.0)
        ctx.save_for_backward(pull_BD.mul_(factor_B[:, None]))
        lse_B = shift_B + sum_B.log()
        ctx.trace = trace
        if trace is not None:
            trace.finish(u_BD.detach(), columns, s, bend, lse_B)
        return lse_B

    @staticmethod
    def backward(ctx, grad_B):
        if ctx.trace is not None:
            ctx.trace.grad_B = grad_B
        return grad_B[:, None] * ctx.saved_tensors[0], None, None, None, None


def _finite(peak_B: torch.Tensor) -> torch.Tensor:
    return peak_B.masked_fill(peak_B.isneginf(), 0.0)  # no negative so far: exp(-inf - 0) = 0


def negatives_logsumexp(
    u_BD: torch.Tensor, columns: Columns, s: float, bend: Bend | None = None, trace: Trace | None = None
) -> torch.Tensor:
    """log sum_j exp(s u.w_j) over the negatives among the columns of *all* ranks (the denominators of Eq. 6 and 14).

    Args:
        u_BD: unit features of the global batch, alike on every rank; float32 or float64. Times a factor of its own, a
            row's logits are times that factor, where there is no `bend`.
        columns: this rank's columns; there may be none, and their number may differ between ranks.
        s: scale.
        bend: cos_Bc -> (another value of each negative cosine, its slope); None leaves them as they are.
        trace: keeps what the gradient with respect to the columns needs, where they have one.

    Returns:
        (B,) values, alike on every rank; -inf where no negative is left on any rank. The gradient with respect to
        `u_BD` is this rank's part; `parallel.gather_rows` adds the parts up.
    """
    return _LogSumExp.apply(u_BD, columns, s, bend, trace)


def owned_cosine(u_BD: torch.Tensor, w_MD: torch.Tensor, rows_M: torch.Tensor) -> torch.Tensor:
    """u_i . w_i for the rows that this rank owns, completed by the other ranks.

    Args:
        u_BD: features of the global batch.
        w_MD: the vector of each owned row.
        rows_M: int64, which rows; every row is owned by exactly one rank.

    Returns:
        (B,) cosines, alike on every rank.
    """
    mine = (u_BD[rows_M] * w_MD).sum(1)
    return parallel.sum_over_ranks(u_BD.new_zeros(len(u_BD)).index_put((rows_M,), mine))


def softmax_loss(target_B: torch.Tensor, lse_B: torch.Tensor) -> torch.Tensor:
    """-log(e^target / (e^target + sum of negatives)) per sample, from the target logit and the negatives' logsumexp.
    Shapes: (B,), (B,) -> (B,).
    """
    return -torch.nn.functional.logsigmoid(target_B - lse_B)
