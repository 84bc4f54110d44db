"""What saving costs a run: steps with a checkpoint saved before the first of them against as many without, in turn.

A save stops training while it copies, and slows the steps that are taken while the copy is written.
"""

import statistics
import threading
import time
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

from recognition import scaling
from recognition.backbones import get_backbone
from recognition.build import make_objective, make_optimizer
from recognition.models import save_model
from recognition.row_optimizer import RowOptimizer
from recognition.state import TrainingState
from tools import plan
from tools.bench.measure import Row
from utils import config, parallel
from utils.checkpoint import Saver

CLASSES = {"celeba_small": 889, "vgg2_r34_qgface": 8_631}
TARGET = 1.02  # of a run's time, with the default save_every


class Training:
    """celeba_small's steps on random images, and its checkpoints with model.pt after them."""

    def __init__(self, classes: int, pairs: int, folder: Path, network: str | None = None):
        words = [f"network={network}"] if network else []
        self.cfg = config.load("celeba_small", words, plan.ROOT / "configs")
        world = parallel.World(0, 1, 0, torch.device("cpu"))
        self.backbone = get_backbone(self.cfg.network, self.cfg.embedding_size).to(memory_format=torch.channels_last)
        self.objective = make_objective(self.cfg, classes, world)
        self.optimizer = make_optimizer(self.cfg, self.backbone)
        self.rows = RowOptimizer("sgd", self.objective.head.weight, self.cfg.momentum, self.cfg.weight_decay)
        self.state = TrainingState(self.backbone, self.objective, self.optimizer, self.rows)
        self.folder, self.classes, self.taken, self.written = folder, classes, 0, threading.Event()
        self.saver = Saver(folder / "checkpoints", keep=2, done=self._write_model)
        self.use(pairs)
        filler = torch.nn.functional.normalize(torch.randn(1024, 1, self.cfg.embedding_size), dim=2)
        for y in (torch.arange(classes * 3 // 2) % classes).split(1024):  # a full queue, as after an epoch
            self.objective.pool.enqueue(filler[: len(y)], y)

    def use(self, pairs: int) -> None:
        """Batches of so many pairs from now on."""
        self.images = torch.randn(2 * pairs, 3, plan.SIDE, plan.SIDE).contiguous(memory_format=torch.channels_last)
        self.labels = torch.arange(pairs) % self.classes

    def step(self) -> None:
        """One optimization step."""
        losses = self.objective(self.backbone(self.images).unflatten(0, (-1, 2)), self.labels)
        losses.total.backward()
        nn.utils.clip_grad_norm_(self.backbone.parameters(), self.cfg.clip_grad_norm)
        self.optimizer.step()
        self.objective.head.step(self.rows, 1e-3)
        self.optimizer.zero_grad()
        self.objective.head.forget()

    def save(self) -> None:
        """As train.py; returns when training may go on."""
        self.taken += 1
        self.written.clear()
        self.saver.save(self.taken, self.state.shared(), self.state.sharded(), {})

    def _write_model(self, shared: dict[str, torch.Tensor]) -> None:
        own = self.backbone.state_dict()
        tensors = OrderedDict((name, shared[f"backbone.{name}"]) for name in own)
        tensors._metadata = own._metadata
        save_model(self.folder / "model.pt", tensors, self.cfg.network, self.cfg.embedding_size)
        self.written.set()


class Cost:
    """Medians, in seconds."""

    def __init__(self, training: Training, steps: int, runs: int):
        stops, alone, slowed, more = [], [], [], []
        for run in range(-1, runs):
            taken, stop, slow = self._saving(training, steps)
            start = time.perf_counter()
            for _ in range(taken):
                training.step()
            plain = time.perf_counter() - start
            if run >= 0:  # the first makes room for the copies
                stops.append(stop)
                alone.append(plain / taken)
                slowed.append(slow / taken)
                more.append(stop + slow - plain)
        self.stop, self.step, self.slowed, self.save = map(statistics.median, (stops, alone, slowed, more))

    @staticmethod
    def _saving(training: Training, steps: int) -> tuple[int, float, float]:
        """A save, and at least so many steps, until all is written: steps taken, seconds stopped, seconds of steps."""
        start = time.perf_counter()
        training.save()
        stop, taken = time.perf_counter() - start, 0
        while taken < steps or not (training.written.is_set() or training.saver.error):
            training.step()
            taken += 1
        slow = time.perf_counter() - start - stop
        training.saver.finish()
        return taken, stop, slow


def rows(quick: bool, folder: Path) -> list[Row]:
    """celeba_small's own state, and one with many classes; the step is of few pairs, so that it is short."""
    pairs, runs, every = (2, 2, 1) if quick else (8, 3, 3)
    made = []
    for classes in (CLASSES["celeba_small"], 1000 if quick else 100_000):
        training = Training(classes, pairs, folder / f"training {classes}", "tiny" if quick else None)
        cost, save_every = Cost(training, every, runs), training.cfg.save_every
        case, size = f"{classes:,} classes, {pairs} pairs", training.cfg.batch_size
        made += [
            Row(f"{case}: a save stops training, against a step", "s", cost.step, cost.stop),
            Row(f"{case}: a step while it is written, against a step", "s", cost.step, cost.slowed),
            Row(
                f"{case}: {save_every} steps with a save, against without",
                "s",
                *with_a_save(cost.step, save_every, cost.save),
                TARGET,
            ),
        ]
        if classes == CLASSES["celeba_small"] and not quick:
            training.use(size)
            start = time.perf_counter()
            training.step()
            whole = time.perf_counter() - start
            name = f"celeba_small, {size} pairs: {save_every} steps with a save, from the above"
            made.append(Row(name, "s", *with_a_save(whole, save_every, cost.save), TARGET))
    calculate(training, cost)
    return made


def with_a_save(step: float, steps: int, save: float) -> tuple[float, float]:
    """Seconds of so many steps without a save and with one, which may cost nothing that can be measured."""
    return steps * step, steps * step + max(save, 0.0)


def calculate(training: Training, cost: Cost) -> None:
    """Say what follows for a config that no machine like this trains: from bytes, and the speed of the last case."""
    speed = sum(copy.nbytes for copy in training.saver._copies.values()) / cost.stop
    cfg = config.load("vgg2_r34_qgface", [], plan.ROOT / "configs")
    setup = plan.make_setup(cfg, CLASSES[cfg.name], 4, "cuda")
    size = scaling.checkpoint_bytes(setup, plan.measure(cfg.network, cfg.embedding_size))
    stop, share = size / speed, TARGET - 1
    print(
        f"calculated, not measured: {cfg.name} on 4 ranks copies {size / 1e9:.2f} GB on rank 0; at the "
        f"{speed / 1e9:.1f} GB/s of the copies here that stops training for {stop:.2f} s; it is {share:.0%} of "
        f"{cfg.save_every} steps if one takes {1000 * stop / share / cfg.save_every:.1f} ms, less if it takes longer"
    )
