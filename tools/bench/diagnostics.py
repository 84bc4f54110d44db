"""What diagnostics cost: celeba_small's step on random images, looked at and not."""

import torch
from torch import nn

from recognition.backbones import get_backbone
from recognition.build import make_diagnostics, make_objective, make_optimizer
from recognition.row_optimizer import RowOptimizer
from tools import plan
from tools.bench.measure import Row, compare, seconds
from utils import config, parallel

CLASSES = 889  # of celeba_small
TARGET = 1.01  # of a run's time, with the default diagnose_every


class Training:
    """celeba_small's steps with another pool; the queue, where there is one, is full."""

    def __init__(self, pool: str, quick: bool):
        words = [f"pool={pool}", *(["network=tiny"] if quick else [])]
        cfg = self.cfg = config.load("celeba_small", words, plan.ROOT / "configs")
        self.backbone = get_backbone(cfg.network, cfg.embedding_size).to(memory_format=torch.channels_last)
        self.objective = make_objective(cfg, CLASSES, parallel.World(0, 1, 0, torch.device("cpu")))
        self.optimizer = make_optimizer(cfg, self.backbone)
        self.rows = RowOptimizer("sgd", self.objective.head.weight, cfg.momentum, cfg.weight_decay)
        self.diagnostics = make_diagnostics(cfg, self.objective, self.backbone, torch.amp.GradScaler(enabled=False))
        pairs = 4 if quick else cfg.batch_size
        self.images = torch.randn(2 * pairs, 3, plan.SIDE, plan.SIDE).contiguous(memory_format=torch.channels_last)
        self.labels = torch.arange(pairs) % CLASSES
        if pool == "proxy":
            u_PVD = nn.functional.normalize(torch.randn(CLASSES, 1, cfg.embedding_size), dim=2)
            self.objective.pool.enqueue(u_PVD, torch.arange(CLASSES))

    def step(self, looked_at: bool) -> None:
        """One optimisation step of train.py."""
        self.diagnostics.begin(self.cfg.diagnose_every if looked_at else 1)
        losses = self.objective(self.backbone(self.images).unflatten(0, (-1, 2)), self.labels)
        losses.total.backward()
        self.diagnostics.look_at_gradient()
        nn.utils.clip_grad_norm_(self.backbone.parameters(), self.cfg.clip_grad_norm)
        self.optimizer.step()
        self.objective.head.step(self.rows, 1e-3)
        self.optimizer.zero_grad()
        self.diagnostics.take()

    def follow(self) -> None:
        """What every step does for a proxy queue, looked at or not."""
        if self.diagnostics.sample is not None:
            shape = len(self.labels), 2, self.cfg.embedding_size
            self.diagnostics.sample.follow(torch.zeros(1).expand(shape), self.objective.pool.next_sequence)


def of_pool(pool: str, quick: bool) -> list[Row]:
    """A step that is looked at, and `diagnose_every` steps, of which one is."""
    training, case = Training(pool, quick), f"pool {pool}: a step that is looked at, against another"
    time, memory = compare(case, lambda: training.step(True), lambda: training.step(False), 2 if quick else 7)
    every, follow = training.cfg.diagnose_every, seconds({"follow": training.follow}, 10)["follow"]
    alone = every * time.baseline
    whole = alone + time.ours - time.baseline + every * follow
    return [time, memory, Row(f"pool {pool}: {every} steps, one looked at, from the above", "s", alone, whole, TARGET)]


def rows(quick: bool) -> list[Row]:
    """Pool by pool."""
    return [row for pool in ("proxy", "batch", "none") for row in of_pool(pool, quick)]
