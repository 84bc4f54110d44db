"""What the method does while it trains: how it splits a batch, what its pool holds, how its two losses pull.

Looking changes nothing: no random number is drawn, no gradient is left behind. All numbers are of the global batch, and
alike on every rank.

Shapes: `P` pairs of the global batch, `V` views of each, `D` dimension.
"""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from recognition.objective import Objective
from recognition.outcome import Seen
from recognition.pool_diagnostics import QueueSample, pool_numbers
from recognition.pools import ProxyQueue
from recognition.queue import Queue
from utils import parallel

BINS = 40  # of a histogram

Histogram = dict[str, float | list[int]]


class Diagnostics:
    """Looks at every `every`-th step.

    A step is `begin`, its losses (the objective calls back), `look_at_gradient`, and `take`; or `forget`, where the
    step is not taken.

    Args:
        every: steps; 0: never.
        objective: what is looked at.
        backbone: the network on which the gradients of the losses are compared: one more backward pass where there is
            a contrast, and memory for one more gradient.
        views: names of the V views.
        gradient_acc: micro-batches of a step, over which numbers are averaged.
        scaler: what multiplies the loss.
    """

    def __init__(
        self,
        every: int,
        objective: Objective,
        backbone: nn.Module,
        views: tuple[str, ...],
        gradient_acc: int = 1,
        scaler: torch.amp.GradScaler | None = None,
    ):
        self.every, self.pool, self.views = every, objective.pool, views
        self.gradient_acc, self.scaler = gradient_acc, scaler
        self.parameters = [p for p in backbone.parameters() if p.requires_grad]
        self.sample: QueueSample | None = None  # has tensors for a checkpoint
        if every:
            objective.observer = self._look
            if isinstance(self.pool, ProxyQueue) and self.pool.size:
                self.sample = QueueSample(self.pool.size, self.pool.row_KD.shape[1]).to(objective.head.weight)
        self.forget()

    def begin(self, step: int) -> None:
        """Before the losses of a step, counted from 1."""
        self.forget()
        self.due = self.every > 0 and step % self.every == 0

    def forget(self) -> None:
        """Drop what was seen of a step."""
        self.due = False
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.numbers: list[dict[str, float]] = []
        self.contrastive: tuple[torch.Tensor, ...] | None = None
        self.gradient: dict[str, float] = {}

    def _look(self, seen: Seen) -> None:
        """At a micro-batch, after its losses and before its backward pass."""
        if self.sample is not None and isinstance(self.pool, Queue):
            self.sample.follow(seen.u_PVD, self.pool.next_sequence)
        if not self.due:
            return
        numbers = shares(seen, self.views)
        if self.pool is not None:
            numbers |= pair_numbers(seen) | pool_numbers(self.pool, seen, self.sample, self.gradient_acc)
            loss = seen.contrastive * (self._scale() / self.gradient_acc)
            gradient = torch.autograd.grad(loss, self.parameters, retain_graph=True, materialize_grads=True)
            self.contrastive = torch._foreach_add(self.contrastive, gradient) if self.contrastive else gradient
        self.numbers.append(numbers)
        self.seen.append((seen.z_PV, seen.z_hat_PV))

    @torch.no_grad()
    def look_at_gradient(self) -> None:
        """After the last backward pass of a step: the backbone's gradient is summed over ranks, no longer scaled, and
        not clipped yet.
        """
        if self.due:
            whole = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
            self.gradient = gradient_numbers(whole, self.contrastive, self._scale())
            self.contrastive = None

    def take(self) -> tuple[dict[str, float], dict[str, Histogram]] | None:
        """What was seen of the step, by name: numbers, nan where there is nothing to average, and histograms of
        feature norms (`z_VIEW`) and indicators (`z_hat_VIEW`). None where it was not looked at.
        """
        if not self.due:
            return None
        names = self.numbers[0]
        numbers = {name: sum(part[name] for part in self.numbers) / len(self.numbers) for name in names}
        z_PV, z_hat_PV = (torch.cat(parts).double().cpu().numpy() for parts in zip(*self.seen, strict=True))
        histograms = {f"z_{view}": histogram(z_PV[:, v]) for v, view in enumerate(self.views)}
        histograms |= {f"z_hat_{view}": histogram(z_hat_PV[:, v], (-1.0, 1.0)) for v, view in enumerate(self.views)}
        numbers |= self.gradient
        self.forget()
        return numbers, histograms

    def _scale(self) -> float:
        return 1.0 if self.scaler is None else self.scaler.get_scale()


def histogram(values: np.ndarray, bounds: tuple[float, float] | None = None) -> Histogram:
    """`counts` of values in `BINS` bins of equal width from `least` to `most`, and their `mean` and `std`.

    Args:
        values: (n,), at least one, finite.
        bounds: of the bins; None: the smallest and the largest value.
    """
    counts, edges = np.histogram(values, BINS, bounds)
    return {
        "least": float(edges[0]), "most": float(edges[-1]), "mean": float(values.mean()), "std": float(values.std()),
        "counts": counts.tolist(),
    }  # fmt: skip


def shares(seen: Seen, views: tuple[str, ...]) -> dict[str, float]:
    """`lq_VIEW`: the share of samples that are not above the threshold; `lq_pairs`: of pairs, as in `Losses`."""
    lq_V = (~seen.is_hq_PV).double().mean(0).tolist()
    return {f"lq_{view}": share for view, share in zip(views, lq_V, strict=True)} | {"lq_pairs": float(seen.lq_pairs)}


def pair_numbers(seen: Seen) -> dict[str, float]:
    """`positive_cosine`, `positive_difference`: mean cos(q, k) and |q - k| of unit features, over all pairs of the
    batch, low-quality or not; k is the positive key of the contrast.
    """
    assert seen.key_u_PD is not None  # asked where there is a contrast
    q_PD, key_PD = seen.u_PVD[:, -1].double(), seen.key_u_PD.double()
    means = torch.stack([(q_PD * key_PD).sum(1).mean(), (q_PD - key_PD).norm(dim=1).mean()])
    return dict(zip(("positive_cosine", "positive_difference"), means.tolist(), strict=True))


def gradient_numbers(
    whole: Iterable[torch.Tensor], contrastive: Iterable[torch.Tensor] | None, scale: float
) -> dict[str, float]:
    """`grad_norm_contrastive`: norm of the contrast's part of the gradient, `grad_norm_classification`: of the rest,
    `grad_cosine`: of the angle between them.

    Args:
        whole: the gradient of both losses, by parameter, summed over ranks.
        contrastive: this rank's part of the contrast's, times `scale`; None: there is no contrast.
    """
    if contrastive is None:
        squares = [gradient.square().sum(dtype=torch.float64) for gradient in whole]
        return {"grad_norm_classification": float(torch.stack(squares).sum().sqrt())}
    sums = []
    for both, part in zip(whole, contrastive, strict=True):
        contrast = parallel.total(part.contiguous()) / scale
        rest = both - contrast
        products = rest.square(), contrast.square(), rest * contrast
        sums.append(torch.stack([product.sum(dtype=torch.float64) for product in products]))
    one, other, product = torch.stack(sums).sum(0).tolist()
    norms = {"grad_norm_classification": math.sqrt(one), "grad_norm_contrastive": math.sqrt(other)}
    return {**norms, "grad_cosine": product / math.sqrt(one * other) if one * other > 0 else math.nan}
