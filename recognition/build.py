"""The parts of a run as its config describes them; every key is in configs/base.py."""

from collections.abc import Callable

import torch
from torch import nn

from recognition import scaling, schedule
from recognition.data.augment import Augment
from recognition.data.dali import DaliLoader
from recognition.data.loader import Loader, ViewBatches
from recognition.data.sampler import GlobalBatchSampler
from recognition.diagnostics import Diagnostics
from recognition.head import ClassShard
from recognition.margins import make_margin
from recognition.objective import Objective
from recognition.pools import make_pool
from recognition.quality import NormStatistics
from utils import parallel


def make_loader(cfg, source, sampler: GlobalBatchSampler, world: parallel.World) -> Loader | DaliLoader:
    """Batches of views: made by worker processes, or by DALI on the GPU."""
    if cfg.dali:
        if world.device.type != "cuda" or cfg.corrupt == "skip":
            raise ValueError("dali=True needs a GPU, and corrupt='stop' as it cannot pass over images; use dali=False")
        return DaliLoader(source, sampler, cfg.views, cfg.seed, source.side, world.device, cfg.num_workers)
    augment = Augment(cfg.augment, **cfg.augment_options)
    batches = ViewBatches(source, augment, cfg.views, cfg.seed, source.side, cfg.corrupt)
    return Loader(batches, sampler, cfg.num_workers, pin_memory=world.device.type != "cpu")


def make_objective(cfg, num_classes: int, world: parallel.World) -> Objective:
    """The method as the config describes it.

    Raises:
        ValueError: settings that do not go together, or more classes and queue rows than this rank's memory holds.
    """
    if cfg.pool != "none" and tuple(cfg.views) != ("original", "augmented"):
        raise ValueError(f"pool={cfg.pool!r} with views={cfg.views}: the contrast needs ('original', 'augmented')")
    size = num_classes if cfg.queue_size is None else cfg.queue_size
    setup = scaling.Setup(
        num_classes, 0, world.size, cfg.embedding_size, slots=scaling.optimizer_slots(cfg.optimizer, cfg.momentum),
        pool=cfg.pool, queue_size=size, queue_dtype=cfg.queue_dtype,
    )  # fmt: skip
    scaling.check_fits(setup, parallel.free_memory(world.device), world.device.type == "cpu")
    head = ClassShard(num_classes, cfg.embedding_size, cfg.sample_rate, cfg.seed, cfg.memory_budget)
    return Objective(
        head,
        make_margin(
            cfg.loss,
            cfg.margin,
            cfg.margin_list,
            cfg.margin_gradient,
            cfg.norm_range,
            cfg.margin_range,
            cfg.norm_weight,
        ),
        make_pool(cfg.pool, head, cfg.embedding_size, size, cfg.queue_delta, cfg.queue_dtype),
        NormStatistics(cfg.quality_ema, cfg.quality_scale, cfg.quality_mean, cfg.quality_std),
        cfg.quality_threshold,
        cfg.scale,
        cfg.contrast_scale,
        cfg.contrast_weight,
        cfg.contrast_denominator,
    )


def make_diagnostics(cfg, objective: Objective, backbone: nn.Module, scaler: torch.amp.GradScaler) -> Diagnostics:
    """What looks at the method every `diagnose_every` steps."""
    return Diagnostics(cfg.diagnose_every, objective, backbone, tuple(cfg.views), cfg.gradient_acc, scaler)


def make_optimizer(cfg, backbone: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW over the backbone; the classifier's rows have their own (`RowOptimizer`)."""
    parameters = [p for p in backbone.parameters() if p.requires_grad]
    if cfg.optimizer == "sgd":
        return torch.optim.SGD(parameters, cfg.lr, cfg.momentum, weight_decay=cfg.weight_decay)
    return torch.optim.AdamW(parameters, cfg.lr, weight_decay=cfg.weight_decay)


def make_schedule(cfg, steps_per_epoch: int) -> Callable[[int], float]:
    """step, from 0 -> learning rate."""
    if steps_per_epoch < 1:
        raise ValueError(f"gradient_acc={cfg.gradient_acc}: an epoch has fewer batches than one optimizer step takes")
    warmup, total = cfg.warmup_epoch * steps_per_epoch, cfg.num_epoch * steps_per_epoch
    if cfg.lr_schedule == "polynomial":
        return lambda step: schedule.polynomial(step, cfg.lr, warmup, total, cfg.lr_power)
    milestones = [epoch * steps_per_epoch for epoch in cfg.lr_milestones]
    return lambda step: schedule.steps(step, cfg.lr, warmup, milestones, cfg.lr_gamma)
