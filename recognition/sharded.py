"""Softmax over columns that are spread over ranks: class rows in the classifier, pool rows in the contrast.

Shapes: `B` rows of the global batch, `D` dimension, `K` columns (class rows or keys) of this rank.
"""

import torch

from utils import parallel


class _NegativesLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u_BD, w_KD, s, rows, columns):
        logits_BK = torch.mm(u_BD, w_KD.t()).mul_(s)
        logits_BK[rows, columns] = -torch.inf
        local_B = logits_BK.amax(1) if len(w_KD) else logits_BK.new_full((len(u_BD),), -torch.inf)
        peak_B = parallel.largest(local_B)
        peak_B = peak_B.masked_fill(peak_B.isneginf(), 0.0)  # no negative anywhere: exp(-inf - 0) = 0
        exp_BK = logits_BK.sub_(peak_B[:, None]).exp_()
        sum_B = parallel.total(exp_BK.sum(1))
        ctx.save_for_backward(u_BD, w_KD, exp_BK, sum_B)
        ctx.s = s
        return peak_B + sum_B.log()

    @staticmethod
    def backward(ctx, grad_B):
        u_BD, w_KD, exp_BK, sum_B = ctx.saved_tensors
        # d lse / d cos = s exp / sum: the row factor moves out of the matrix products, so no B x K pass is left
        factor_B = torch.where(sum_B > 0, ctx.s * grad_B / sum_B, 0.0)
        grad_u = torch.mm(exp_BK, w_KD).mul_(factor_B[:, None]) if ctx.needs_input_grad[0] else None
        grad_w = torch.mm(exp_BK.t(), u_BD * factor_B[:, None]) if ctx.needs_input_grad[1] else None
        return grad_u, grad_w, None, None, None


def negatives_logsumexp(
    u_BD: torch.Tensor, w_KD: torch.Tensor, s: float, exclude: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """log sum_j exp(s u.w_j) over the columns of *all* ranks, without the excluded ones (the denominators of Eq. 6 and
    14).

    Args:
        u_BD: unit features of the global batch, alike on every rank; float32 or float64.
        w_KD: unit columns of this rank; K may be 0 and may differ between ranks.
        s: scale.
        exclude: row and column numbers (int64, equal lengths) of entries that are no negatives.

    Returns:
        (B,) values, alike on every rank; -inf where no negative is left on any rank. The gradient with respect to
        `u_BD` is this rank's part; `parallel.gather_rows` adds the parts up.
    """
    return _NegativesLogSumExp.apply(u_BD, w_KD, s, *exclude)


def owned_cosine(u_BD: torch.Tensor, w_KD: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """u_i . w_c(i) for rows whose column c(i) lives on this rank, completed by the other ranks.

    Args:
        u_BD: features of the global batch.
        w_KD: columns of this rank.
        rows, columns: int64, the rows that own a column here and which one; every row is owned by exactly one rank.

    Returns:
        (B,) cosines, alike on every rank.
    """
    mine = (u_BD[rows] * w_KD[columns]).sum(1)
    return parallel.sum_over_ranks(u_BD.new_zeros(len(u_BD)).index_put((rows,), mine))


def softmax_loss(target_B: torch.Tensor, lse_B: torch.Tensor) -> torch.Tensor:
    """-log(e^target / (e^target + sum of negatives)) per sample, from the target logit and the negatives' logsumexp.
    Shapes: (B,), (B,) -> (B,).
    """
    return -torch.nn.functional.logsigmoid(target_B - lse_B)
