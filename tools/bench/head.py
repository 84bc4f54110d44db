"""The classifier's step (forward, backward, SGD) against Partial FC, AdaFace's dense head and the bare products."""

import torch
from torch.nn.functional import normalize

from recognition import sharded
from recognition.head import ClassShard
from recognition.margins import make_margin
from recognition.row_optimizer import RowOptimizer
from tools.bench import peers
from tools.bench.measure import Row, Step, compare, peak_mib, seconds

D = 512
ALL = 2**20  # MiB: keep every cosine


class Ours:
    """The head as train.py uses it, with one margin."""

    def __init__(self, classes: int, loss: str = "combined", sample_rate: float = 1.0, budget: float = 256):
        self.head = ClassShard(classes, D, sample_rate, 0, budget)
        self.margin = make_margin(loss)
        self.optimizer = RowOptimizer("sgd", self.head.weight, 0.9, 5e-4)

    def step(self, h_BD: torch.Tensor, y_B: torch.Tensor, z_hat_B: torch.Tensor | None = None) -> float:
        """Forward, backward, SGD; the loss."""
        u_BD = normalize(h_BD)
        f_B = self.margin(self.head.target(u_BD, y_B), None, z_hat_B)
        loss = sharded.softmax_loss(64 * f_B, self.head.negatives(u_BD, y_B, 64.0)).mean()
        loss.backward()
        self.head.step(self.optimizer, 0.1)
        return float(loss.detach())

    def release(self) -> None:
        """Give up the work space, so that it counts where memory is measured."""
        self.head.scratch.flats.clear()


def batch(samples: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    h_BD = torch.randn(samples, D, generator=generator).requires_grad_()
    return h_BD, torch.randint(0, classes, (samples,), generator=generator)


def against_partial_fc(classes: int, samples: int, rate: float, runs: int, targets: tuple[float, float]) -> list[Row]:
    ours = Ours(classes, sample_rate=rate)
    peer = peers.PartialFC(ours.head.weight, rate)
    h_BD, y_B = batch(samples, classes)
    if rate == 1:
        _same_loss(ours.step(h_BD, y_B), peer.step(h_BD, y_B))
    name = f"Partial FC, {classes:,} classes, {samples} samples" + (f", rate {rate}" if rate < 1 else "")
    return compare(name, lambda: ours.step(h_BD, y_B), lambda: peer.step(h_BD, y_B), runs, *targets, ours.release)


def against_adaface(classes: int, samples: int, runs: int, targets: tuple[float, float]) -> list[Row]:
    ours = Ours(classes, "adaface")
    peer = peers.DenseAdaFace(ours.head.weight)
    h_BD, y_B = batch(samples, classes)
    z_hat_B = torch.linspace(-1, 1, samples)
    _same_loss(ours.step(h_BD, y_B, z_hat_B), peer.step(h_BD, y_B, z_hat_B))
    name = f"AdaFace's head, {classes:,} classes, {samples} samples"
    return compare(
        name,
        lambda: ours.step(h_BD, y_B, z_hat_B),
        lambda: peer.step(h_BD, y_B, z_hat_B),
        runs,
        *targets,
        ours.release,
    )


def over_floor(classes: int, samples: int, runs: int) -> list[Row]:
    """The step over three matrix products and one read and write of W and its momentum."""
    h_BD, y_B = batch(samples, classes)
    kept, recomputed = Ours(classes, budget=ALL), Ours(classes, budget=0)
    steps: dict[str, Step] = {
        "floor": floor(classes, samples),
        "kept": lambda: kept.step(h_BD, y_B),
        "recomputed": lambda: recomputed.step(h_BD, y_B),
    }
    took = seconds(steps, runs)
    return [
        Row(f"floor, {classes:,} classes, {samples} samples, {name}", "s", took["floor"], took[name], target)
        for name, target in (("kept", 1.2), ("recomputed", 1.6))
    ]


def floor(classes: int, samples: int) -> Step:
    u_BD, W_CD = normalize(torch.randn(samples, D)), torch.randn(classes, D)
    logits_BC, grad_CD, momentum_CD = torch.empty(samples, classes), torch.empty(classes, D), torch.zeros(classes, D)

    def step() -> None:
        torch.mm(u_BD, W_CD.t(), out=logits_BC)
        torch.mm(logits_BC, W_CD)
        torch.mm(logits_BC.t(), u_BD, out=grad_CD)
        W_CD.mul_(1.0)
        momentum_CD.mul_(1.0)

    return step


def growth(sizes: list[int], samples: int, runs: int) -> list[Row]:
    """Cost of a class as their number grows, every cosine kept: 1 is linear."""
    h_BD, y_B = batch(samples, sizes[0])
    cost = {}
    for classes in sizes:
        made: list[Ours] = []

        def build_and_step(made=made, classes=classes) -> None:
            made.append(Ours(classes, budget=ALL))
            made[0].step(h_BD, y_B)

        memory = peak_mib(build_and_step)
        took = seconds({"ours": lambda made=made: made[0].step(h_BD, y_B)}, runs)["ours"]
        cost[classes] = (took / classes * 1e6, memory / classes * 1024)
    return [
        Row(f"cost of a class, {classes:,} over {sizes[0]:,}", unit, cost[sizes[0]][k], cost[classes][k], 1.1)
        for classes in sizes[1:]
        for k, unit in enumerate(("us", "KiB"))
    ]


def _same_loss(ours: float, peer: float) -> None:
    if abs(ours - peer) > 1e-3 * abs(peer):
        raise AssertionError(f"the two steps differ: loss {ours} and {peer}")


def rows(quick: bool) -> list[Row]:
    """The table of the head."""
    unit, runs = (1000, 3) if quick else (100_000, 7)
    return [
        *against_partial_fc(unit, 128, 1.0, runs, (0.28, 0.4)),
        *against_partial_fc(4 * unit, 128, 1.0, runs, (0.2, 0.4)),
        *against_partial_fc(unit, 1024, 1.0, runs, (0.5, 0.2)),
        *against_partial_fc(unit, 128, 0.1, runs, (0.25, 0.5)),
        *against_adaface(1000 if quick else 70_722, 256, runs, (0.25, 0.35)),
        *over_floor(unit, 128, runs),
        *over_floor(unit, 1024, runs),
        *growth([unit // 10, unit, 10 * unit], 128, runs),
    ]
