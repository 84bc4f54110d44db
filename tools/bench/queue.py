"""The proxy-updated queue's step against the literal one, and the whole objective against its classifier alone."""

import torch
from torch.nn.functional import normalize

from recognition import sharded
from recognition.contrast import contrastive_loss
from recognition.head import ClassShard
from recognition.margins import make_margin
from recognition.objective import Objective
from recognition.pools import ProxyQueue
from recognition.row_optimizer import RowOptimizer
from tools.bench import peers
from tools.bench.measure import Row, Step, peak_mib, seconds

D = 512
S = 64.0


def batch(pairs: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    h_PVD = torch.randn(pairs, 2, D, generator=generator).requires_grad_()
    return h_PVD, torch.randint(0, classes, (pairs,), generator=generator)


class Ours:
    """The queue with every pair of low quality, full after its first step."""

    def __init__(self, head: ClassShard, size: int, dtype: str = "float32"):
        self.queue = ProxyQueue(size, head, D, dtype)
        for y in (torch.arange(size) % head.num_classes).split(1024):  # full, without a copy of everything
            self.queue.enqueue(normalize(torch.randn(len(y), 1, D), dim=2), y)

    def step(self, u_PVD: torch.Tensor, y_P: torch.Tensor) -> float:
        """Enqueue, keys, contrast, backward; the loss."""
        self.queue.enqueue(u_PVD.detach(), y_P)
        q_PD, own = u_PVD[:, 1], torch.arange(len(y_P))
        positive_P = S * sharded.owned_cosine(q_PD, u_PVD[:, 0].detach(), own)
        loss = contrastive_loss(positive_P, self.queue(q_PD, y_P, S)).mean()
        loss.backward()
        return float(loss.detach())


def against_literal(size: int, pairs: int, runs: int, both: bool, dtype: str, targets: tuple) -> list[Row]:
    head = ClassShard(size, D)
    kernel_DC = head.weight.t().contiguous()
    h_PVD, y_P = batch(pairs, size)

    def make_ours() -> Step:
        queue = Ours(head, size, dtype)
        return lambda: queue.step(normalize(h_PVD, dim=2), y_P)

    def make_literal() -> Step:
        queue = peers.LiteralQueue(kernel_DC, size, both)
        return lambda: queue.step(normalize(h_PVD, dim=2), y_P)

    took = seconds({"baseline": make_literal(), "ours": make_ours()}, runs)
    # the rows held count as memory of the step
    needs = {"baseline": peak_mib(lambda: make_literal()()), "ours": peak_mib(lambda: make_ours()())}
    name = f"literal queue, Q {size:,}, {pairs} pairs, {'q and k' if both else 'q only'}, {dtype}"
    return [
        Row(name, unit, x["baseline"], x["ours"], target)
        for unit, x, target in zip(("s", "MiB"), (took, needs), targets, strict=True)
    ]


def whole_objective(classes: int, pairs: int, runs: int) -> Row:
    """QGFace with every pair contrasted over AdaFace alone, steps of W included."""
    h_PVD, y_P = batch(pairs, classes)

    def make(pool: bool):
        head = ClassShard(classes, D)
        optimizer = RowOptimizer("sgd", head.weight, 0.9, 5e-4)
        objective = Objective(head, make_margin("adaface"), ProxyQueue(classes, head, D) if pool else None)
        if pool:
            objective.pool.enqueue(normalize(torch.randn(classes, 1, D), dim=2), torch.arange(classes))

        def step() -> None:
            objective(h_PVD, y_P).total.backward()
            head.step(optimizer, 0.1)

        return step

    took = seconds({"adaface": make(False), "qgface": make(True)}, runs)
    return Row(f"QGFace over AdaFace, {classes:,} classes, {pairs} pairs", "s", took["adaface"], took["qgface"], 1.8)


def rows(quick: bool) -> list[Row]:
    """The table of the queue."""
    size, runs = (2000, 3) if quick else (93_431, 7)
    return [
        *against_literal(size, 128, runs, True, "float32", (0.3, 0.55)),
        *against_literal(size, 128, runs, False, "float32", (None, None)),
        *against_literal(size, 128, runs, True, "float16", (None, None)),
        whole_objective(1000 if quick else 8_631, 128, runs),
        whole_objective(size, 128, runs),
    ]
