"""The baselines: what the peers' methods compute and keep, step by step, written for one process.

Shapes: `B` samples, `P` pairs, `D` dimension, `C` classes, `S` of them sampled, `Q` rows of the queue.
"""

import math

import torch
from torch.nn.functional import linear, normalize


class PartialFC:
    """arcface_torch's Partial FC with ArcFace on one rank: the whole logit matrix, the margin written into it, its
    softmax and its one-hot labels; dense gradient and dense SGD, sampled or not.
    """

    def __init__(self, weight_CD: torch.Tensor, sample_rate: float = 1.0, s: float = 64.0, m: float = 0.5):
        self.weight = weight_CD.clone().requires_grad_()
        self.sample_rate, self.s, self.m = sample_rate, s, m
        self.optimizer = torch.optim.SGD([self.weight], lr=0.1, momentum=0.9, weight_decay=5e-4)

    def step(self, h_BD: torch.Tensor, y_B: torch.Tensor) -> float:
        """Forward, backward, SGD; the loss."""
        weight, y_B = self.weight, y_B.clone()
        if self.sample_rate < 1:
            positive, C = y_B.unique(), len(weight)
            order = torch.rand(C)
            order[positive] = 2.0
            index = order.topk(max(int(self.sample_rate * C), len(positive)))[1].sort()[0]
            y_B, weight = torch.searchsorted(index, y_B), weight[index]
        logits = linear(normalize(h_BD), normalize(weight)).clamp(-1, 1)
        target = logits[torch.arange(len(y_B)), y_B]
        sine = (1 - target**2).sqrt()
        logits[torch.arange(len(y_B)), y_B] = target * math.cos(self.m) - sine * math.sin(self.m)
        loss = _SoftmaxInPlace.apply(logits * self.s, y_B)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())


class _SoftmaxInPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits_BC, y_B):
        logits_BC.sub_(logits_BC.max(dim=1, keepdim=True)[0]).exp_()
        logits_BC.div_(logits_BC.sum(dim=1, keepdim=True))
        ctx.save_for_backward(logits_BC, y_B)
        return -logits_BC.gather(1, y_B[:, None]).clamp_min(1e-30).log().mean()

    @staticmethod
    def backward(ctx, grad):
        p_BC, y_B = ctx.saved_tensors
        one_hot = torch.zeros_like(p_BC).scatter_(1, y_B[:, None], 1)
        p_BC -= one_hot
        return p_BC.div_(len(y_B)) * grad.item(), None


class DenseAdaFace:
    """AdaFace's own head: two margin matrices of full size, acos and cos of every entry, cross-entropy, SGD."""

    def __init__(self, weight_CD: torch.Tensor, s: float = 64.0, m: float = 0.4):
        self.kernel = weight_CD.t().contiguous().requires_grad_()  # (D, C), as there
        self.s, self.m = s, m
        self.optimizer = torch.optim.SGD([self.kernel], lr=0.1, momentum=0.9, weight_decay=5e-4)

    def step(self, h_BD: torch.Tensor, y_B: torch.Tensor, z_hat_B: torch.Tensor) -> float:
        """Forward, backward, SGD; the loss."""
        kernel = self.kernel / self.kernel.norm(dim=0, keepdim=True)
        cosine = torch.mm(normalize(h_BD), kernel).clamp(-1 + 1e-3, 1 - 1e-3)
        where = torch.zeros_like(cosine).scatter_(1, y_B[:, None], 1.0)
        angle = (cosine.acos() + where * (-self.m * z_hat_B[:, None])).clip(1e-3, math.pi - 1e-3)
        where = torch.zeros_like(cosine).scatter_(1, y_B[:, None], 1.0)
        logits = (angle.cos() - where * (self.m * z_hat_B[:, None] + self.m)) * self.s
        loss = torch.nn.functional.cross_entropy(logits, y_B)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())


class LiteralQueue:
    """The proxy-updated queue as its paper says it: feature and proxy of every row, both rewritten at each step.

    Args:
        kernel_DC: the classifier, a class per column as in the authors' code.
        size: Q.
        both: take q and k as queries, as the authors' code; the paper takes q.
    """

    def __init__(self, kernel_DC: torch.Tensor, size: int, both: bool = True, s: float = 64.0):
        D = len(kernel_DC)
        self.kernel, self.both, self.s = kernel_DC, both, s
        self.feature_QD, self.proxy_QD = torch.zeros(size, D), torch.ones(size, D)
        self.y_Q = torch.full((size,), -1)

    def enqueue(self, u_BD: torch.Tensor, y_B: torch.Tensor) -> None:
        """Newest rows in front."""
        keep = len(self.y_Q) - len(y_B)
        self.feature_QD = torch.cat([u_BD, self.feature_QD[:keep]])
        self.proxy_QD = torch.cat([self.kernel[:, y_B].t(), self.proxy_QD[:keep]])
        self.y_Q = torch.cat([y_B, self.y_Q[:keep]])

    def step(self, u_PVD: torch.Tensor, y_P: torch.Tensor) -> float:
        """Enqueue, move the rows, contrast, backward; the loss."""
        k_PD, q_PD = u_PVD[:, 0], u_PVD[:, 1]
        with torch.no_grad():
            self.enqueue(torch.cat([k_PD, q_PD]), y_P.repeat(2))
            moved = self.kernel[:, self.y_Q.clamp_min(0)].t() - self.proxy_QD
            ratio = self.feature_QD.norm(dim=1, keepdim=True) / self.proxy_QD.norm(dim=1, keepdim=True)
            key_QD = normalize(self.feature_QD + ratio * moved)
        pairs = [(q_PD, k_PD.detach())] + ([(k_PD, q_PD.detach())] if self.both else [])
        query, positive = (torch.cat(part) for part in zip(*pairs, strict=True))
        own = y_P.repeat(len(pairs))[:, None] == self.y_Q
        negative = torch.mm(query, key_QD.t()).masked_fill(own, -torch.inf)
        logits = torch.cat([(query * positive).sum(1, keepdim=True), negative], dim=1) * self.s
        loss = torch.nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64))
        loss.backward()
        return float(loss.detach())
