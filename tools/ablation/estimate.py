"""What runs will take: hours from measured steps of each kind of row, disk from the size of a checkpoint."""

import heapq
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from easydict import EasyDict
from prettytable import PrettyTable
from torch import nn

from recognition import scaling
from recognition.backbones import get_backbone
from recognition.build import autocast_dtype, make_objective, make_optimizer
from recognition.momentum import MomentumEncoder
from recognition.row_optimizer import RowOptimizer
from tools import plan
from tools.ablation.runs import Study, steps_per_epoch
from tools.bench.measure import keep_freed_memory
from utils import parallel

FEW, TIMES = 8, 5  # images of a step that a CPU measures, and how many of them
FILL = 1024  # queue rows that are enqueued together
KIND = (  # rows that are alike in these keys and in the number of images and views take as long for a step
    *("network", "embedding_size", "dropout", "optimizer", "loss", "sample_rate", "fp16", "amp_dtype"),
    *("pool", "queue_size", "queue_dtype", "contrast_queries"),
)
CAVEAT = "from steps on random images here; without start-up, reading of images, evaluations and messages between GPUs"


class Estimate(NamedTuple):
    """Of one run: optimization steps, hours, and bytes of its folder."""

    steps: int
    hours: float
    size: int


class Training:
    """Steps of one rank on random images, as train.py takes them; every pair is contrasted, which is the most. The rank
    has `classes` of the classes, and its losses are those of all ranks' images.
    """

    def __init__(self, cfg: EasyDict, classes: int, device: torch.device, ranks: int = 1):
        every = {"quality_threshold": None, "quality_lq_share": None}
        if cfg.queue_size is not None:  # else it follows the classes
            every["queue_size"] = -(-cfg.queue_size // ranks)
        cfg = EasyDict(cfg, **every, lr=1e-6)  # random images are not to train anything
        self.cfg, self.classes, self.device, self.ranks = cfg, classes, device, ranks
        torch.backends.cudnn.benchmark = True
        self.backbone = get_backbone(cfg.network, cfg.embedding_size, dropout=cfg.dropout)
        self.backbone = self.backbone.to(device, memory_format=torch.channels_last)
        self.objective = make_objective(cfg, classes, parallel.World(0, 1, 0, device)).to(device)
        self.optimizer = make_optimizer(cfg, self.backbone)
        self.rows = RowOptimizer(cfg.optimizer, self.objective.head.weight, cfg.momentum, cfg.weight_decay)
        pool = self.objective.pool
        self.encoder = MomentumEncoder(self.backbone) if pool is not None and pool.from_momentum_encoder else None
        u_PD = nn.functional.normalize(torch.randn(FILL, 1, cfg.embedding_size, device=device), dim=2)
        for first in range(0, getattr(pool, "size", 0), FILL):  # a full queue
            pool.enqueue(u_PD, torch.arange(first, first + FILL, device=device) % classes)

    def step(self, count: int) -> Callable[[], None]:
        """A step of `count` images."""
        cfg, kind = self.cfg, self.device.type
        views = len(cfg.views)
        images = torch.randn(count * views, 3, plan.SIDE, plan.SIDE, device=self.device)
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.arange(count * self.ranks, device=self.device) % self.classes
        dtype = autocast_dtype(cfg, kind)

        def step() -> None:
            with torch.autocast(kind, dtype, enabled=dtype is not None):
                h_PVD = self.backbone(images).unflatten(0, (count, views)).repeat(self.ranks, 1, 1)
                key_h_PD = None
                if self.encoder is not None:
                    self.encoder.follow(self.backbone)
                    key_h_PD = self.encoder(images[::views]).repeat(self.ranks, 1)
            self.objective(h_PVD, labels, key_h_PD).total.backward()
            nn.utils.clip_grad_norm_(self.backbone.parameters(), cfg.clip_grad_norm or math.inf)
            self.optimizer.step()
            self.objective.head.step(self.rows, cfg.lr)
            self.optimizer.zero_grad()
            self.objective.head.forget()
            torch.get_device_module(self.device).synchronize()

        return step


def step_seconds(cfg: EasyDict, classes: int, count: int, device: torch.device, ranks: int = 1) -> float:
    """Of a step of `count` images on one device of `ranks`, the shortest of some; a CPU takes fewer images, in
    proportion.
    """
    images = min(count, FEW) if device.type == "cpu" else count
    step, took = Training(cfg, classes, device, ranks).step(images), []
    for _ in range(1 + TIMES):  # the first makes room
        start = time.perf_counter()
        step()
        took.append(time.perf_counter() - start)
    return min(took[1:]) * count / images


def estimates(study: Study, classes: int, images: int, ranks: int, device: torch.device) -> dict[str, Estimate]:
    """Of a run of each name; every kind of row is measured once.

    Args:
        classes, images: of the training data.
        ranks: processes of a run, each with a device.

    Raises:
        ValueError: a step needs more memory than the device has.
    """
    keep_freed_memory()
    measured, found = {}, {}
    for name, runs in study.runs.items():
        cfg = next(iter(runs.values())).cfg
        pairs = cfg.total_batch_size or cfg.batch_size * ranks
        share = -(-pairs // ranks)
        kind = (share, len(cfg.views), *(str(cfg[key]) for key in KIND))
        if kind not in measured:
            try:
                measured[kind] = step_seconds(cfg, -(-classes // ranks), share, device, ranks)
            except torch.OutOfMemoryError:
                raise ValueError(
                    f"{name}: a step of {share} images of {len(cfg.views)} views does not fit on {device}; more "
                    "--gpus-per-run, or a smaller batch with gradient_acc"
                ) from None
        steps = min(steps_per_epoch(cfg, images, ranks) * cfg.num_epoch, cfg.max_step or sys.maxsize)
        hours = steps * cfg.gradient_acc * measured[kind] / 3600
        found[name] = Estimate(steps, hours, folder_size(cfg, classes, ranks, device, steps))
    return found


def folder_size(cfg: EasyDict, classes: int, ranks: int, device: torch.device, steps: int) -> int:
    """Bytes of checkpoints and model.pt at most; logs and what evaluations leave come on top."""
    setup = plan.make_setup(cfg, classes, ranks, device.type)
    network = plan.measure(cfg.network, cfg.embedding_size, cfg.dropout)
    checkpoint = scaling.checkpoint_bytes(setup, network) + (ranks - 1) * scaling.checkpoint_bytes(setup)
    written = steps // cfg.save_every + cfg.num_epoch if cfg.save_every else cfg.num_epoch
    kept = cfg.keep_checkpoints + 1 + (written // cfg.keep_every if cfg.keep_every else 0)  # one is being written
    return min(kept, written) * checkpoint + network.weights + network.buffers


def makespan(hours: Sequence[float], jobs: int) -> float:
    """Hours until all runs have ended, of which `jobs` go on at a time, each started as soon as there is room."""
    ends = [0.0] * jobs
    for one in hours:
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)


def report(study: Study, found: dict[str, Estimate], ranks: int, jobs: int, where: str) -> str:
    """The rows with their keys, what is finished, and what the others take.

    Args:
        ranks: processes of a run.
        jobs: runs at a time.
        where: what was measured on.
    """
    table = PrettyTable(["run", "rows", "keys on top of the recipe", "finished", "steps", "hours", "GB"], align="l")
    table.align["steps"] = table.align["hours"] = table.align["GB"] = "r"
    todo = [run for run in study.every() if not run.ended]
    done = [run.state().get("step", 0) / found[run.name].steps for run in todo]
    hours = [found[run.name].hours * max(0.0, 1 - part) for run, part in zip(todo, done, strict=True)]
    size = sum(found[run.name].size for run in todo)
    for name, runs in study.runs.items():
        rows = [place for place, own in study.rows.items() if own == name]
        keys = study.tables[rows[0][0]].rows[rows[0][1]].keys
        ended = sum(run.ended for run in runs.values())
        shown = ", ".join(f"{key}={value!r}" for key, value in keys.items()) or "none"
        places = ", ".join("/".join(place) for place in rows)
        numbers = f"{found[name].steps:,}", f"{found[name].hours:.2f}", f"{found[name].size / 1e9:.2f}"
        table.add_row([name, places, shown, f"{ended}/{len(runs)}", *numbers])
    return (
        f"{table.get_string()}\n{len(todo)} runs to go: {sum(hours):.1f} hours one after the other "
        f"({sum(hours) * ranks:.1f} device hours), {makespan(hours, jobs):.1f} with {jobs} at a time; "
        f"{size / 1e9:.1f} GB of disk\nhours: {where}, {CAVEAT}\ndisk: checkpoints and models; evidence of evaluations "
        "comes on top, of which IJB's is large"
    )
