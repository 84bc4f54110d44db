"""The parts of a run as its config describes them; every key is in configs/base.py."""

import shutil
from collections.abc import Callable
from typing import cast

import torch
from torch import nn

from recognition import scaling, schedule
from recognition.data.augment import Augment
from recognition.data.dali import DaliLoader
from recognition.data.loader import Loader, ViewBatches
from recognition.data.sampler import GlobalBatchSampler
from recognition.diagnostics import Diagnostics
from recognition.direction import DirectionStatistics
from recognition.head import ClassShard
from recognition.margins import make_margin
from recognition.objective import Objective
from recognition.pools import make_pool
from recognition.quality import NormStatistics
from recognition.variant import Variant
from utils import parallel


def autocast_dtype(cfg, kind: str) -> torch.dtype | None:
    """What the network computes in on a kind of device ("cuda", "cpu"); None: float32.

    A CPU takes part with bfloat16 alone, which some have instructions for: none gains by float16.
    """
    if not cfg.fp16 or (kind == "cpu" and cfg.amp_dtype == "float16"):
        return None
    return getattr(torch, cfg.amp_dtype)


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
    _check_views(cfg)
    size = num_classes if cfg.queue_size is None else cfg.queue_size
    setup = scaling.Setup(
        num_classes, 0, world.size, cfg.embedding_size, slots=scaling.optimizer_slots(cfg.optimizer, cfg.momentum),
        pool=cfg.pool, queue_size=size, queue_dtype=cfg.queue_dtype,
    )  # fmt: skip
    scaling.check_fits(setup, parallel.free_memory(world.device), world.device.type == "cpu")
    head = ClassShard(num_classes, cfg.embedding_size, cfg.sample_rate, cfg.seed, cfg.memory_budget, cfg.proxy_init)
    margin = make_margin(
        cfg.loss, cfg.margin, cfg.margin_list, cfg.margin_gradient, cfg.norm_range, cfg.margin_range, cfg.norm_weight
    )
    pool = make_pool(
        cfg.pool, head, cfg.embedding_size, size, cfg.queue_delta, cfg.queue_dtype,
        same_identity=cfg.contrast_same_identity, keys=cfg.queue_keys,
    )  # fmt: skip
    quality = _make_quality(cfg)
    variant = Variant(
        cfg.quality_gate, cfg.classified_views, cfg.contrast_gate, cfg.contrast_queries, cfg.positive_gradient,
        cfg.contrast_rescale, cfg.consistency_weight,
    )  # fmt: skip
    return Objective(
        head, margin, pool, quality, cfg.quality_threshold, cfg.scale, cfg.contrast_scale, cfg.contrast_weight,
        cfg.contrast_denominator, variant,
    )  # fmt: skip


def _make_quality(cfg) -> NormStatistics:
    options = {
        "c": cfg.quality_scale, "std": cfg.quality_std, "scope": cfg.quality_statistics,
        "lq_share": cfg.quality_lq_share, "start": cfg.quality_threshold or 0.0,
    }  # fmt: skip
    if cfg.quality_source == "direction":
        return DirectionStatistics(cfg.embedding_size, cfg.quality_ema, **options)
    return NormStatistics(cfg.quality_ema, mean=cfg.quality_mean, **options)


def _check_views(cfg) -> None:
    if cfg.quality_source == "sharpness" and (cfg.dali or cfg.quality_lq_share or cfg.quality_gate != "hard"):
        raise ValueError(
            f"quality_source={cfg.quality_source!r} goes with dali=False, quality_lq_share=None, quality_gate='hard'"
        )
    pair = tuple(cfg.views) == ("original", "augmented")
    if cfg.pool != "none" and not pair:
        raise ValueError(f"pool={cfg.pool!r} with views={cfg.views}: the contrast needs ('original', 'augmented')")
    if (cfg.consistency_weight or cfg.quality_source == "direction") and not pair:
        key = "consistency_weight" if cfg.consistency_weight else "quality_source='direction'"
        raise ValueError(f"{key} with views={cfg.views}: expected ('original', 'augmented')")
    if cfg.classified_views == "originals" and cfg.views[0] != "original":
        raise ValueError(f"classified_views='originals' with views={cfg.views}: expected 'original' as the first")


def make_diagnostics(cfg, objective: Objective, backbone: nn.Module, scaler: torch.amp.GradScaler) -> Diagnostics:
    """What looks at the method every `diagnose_every` steps."""
    return Diagnostics(cfg.diagnose_every, objective, backbone, tuple(cfg.views), cfg.gradient_acc, scaler)


def compiled(backbone: nn.Module) -> nn.Module:
    """What a training step calls instead of `backbone`: torch.compile's, on the same weights. Checkpoints, evaluations
    and the momentum encoder go on with `backbone`, whose names stay as they are.

    Raises:
        ValueError: there is no C++ compiler.
    """
    from torch._functorch import config as functorch
    from torch._inductor import config as inductor

    commands = [command for command in inductor.cpp.cxx if command]
    if not any(shutil.which(command) for command in commands):
        raise ValueError(
            f"compile=True needs a C++ compiler, and there is no {' or '.join(commands)} on the PATH; "
            "install one, set CXX to another, or use compile=False"
        )
    functorch.donated_buffer = False  # else diagnostics could not go backwards through a step's network a second time
    return cast(nn.Module, torch.compile(backbone))  # torch types it as a function


def make_optimizer(cfg, backbone: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW over the backbone; the classifier's rows have their own (`RowOptimizer`)."""
    groups = _parameter_groups(backbone, cfg.decay_batchnorm)
    if cfg.optimizer == "sgd":
        return torch.optim.SGD(groups, cfg.lr, cfg.momentum, weight_decay=cfg.weight_decay)
    return torch.optim.AdamW(groups, cfg.lr, weight_decay=cfg.weight_decay)


def _parameter_groups(backbone: nn.Module, decay_batchnorm: bool) -> list[dict]:
    """What is trained: one group, or BatchNorm's scales and shifts in a second one, without weight decay."""
    norms = [] if decay_batchnorm else [m for m in backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    plain = {id(p) for norm in norms for p in norm.parameters()}
    trained = [p for p in backbone.parameters() if p.requires_grad]
    groups = [{"params": [p for p in trained if id(p) not in plain]}]
    without = [p for p in trained if id(p) in plain]
    return [*groups, {"params": without, "weight_decay": 0.0}] if without else groups


def make_schedule(cfg, steps_per_epoch: int) -> Callable[[int], float]:
    """step, from 0 -> learning rate."""
    if steps_per_epoch < 1:
        raise ValueError(f"gradient_acc={cfg.gradient_acc}: an epoch has fewer batches than one optimizer step takes")
    warmup, total = cfg.warmup_epoch * steps_per_epoch, cfg.num_epoch * steps_per_epoch
    if cfg.lr_schedule == "polynomial":
        return lambda step: schedule.polynomial(step, cfg.lr, warmup, total, cfg.lr_power)
    milestones = [epoch * steps_per_epoch for epoch in cfg.lr_milestones]
    return lambda step: schedule.steps(step, cfg.lr, warmup, milestones, cfg.lr_gamma)


def make_contrast_weight(cfg, steps_per_epoch: int) -> Callable[[int], float]:
    """step, from 0 -> factor on the contrast.

    Raises:
        ValueError: a ramp that is none.
    """
    if len(cfg.contrast_ramp) != 2 or not 0 <= cfg.contrast_ramp[0] <= cfg.contrast_ramp[1]:
        raise ValueError(f"contrast_ramp={cfg.contrast_ramp}: expected two epochs, 0 or more, that do not fall")
    start, stop = (round(epoch * steps_per_epoch) for epoch in cfg.contrast_ramp)
    return lambda step: schedule.ramp(step, cfg.contrast_weight, start, stop)
