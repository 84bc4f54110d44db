"""Steps of the objective, and what its diagnostics see."""

import contextlib
from unittest import mock

import torch
from torch import nn

from recognition import pool_diagnostics, sharded
from recognition.diagnostics import Diagnostics
from recognition.direction import DirectionStatistics
from recognition.head import ClassShard
from recognition.margins import make_margin
from recognition.objective import Objective
from recognition.pools import make_pool
from recognition.quality import NormStatistics
from recognition.variant import Variant
from utils import parallel


def small_blocks(columns: int):
    """Let the losses go through their columns in blocks of so few."""
    return mock.patch.object(sharded, "block_size", lambda device: columns)


def make_objective(case: dict) -> Objective:
    """`case`: N, D, Q, dtype, pool, threshold, denominator, delta, loss, sample_rate, budget (bytes) ..."""
    dtype = case.get("dtype", torch.float64)
    budget = case.get("budget", 2**20) / 2**20
    head = ClassShard(case["N"], case["D"], case.get("sample_rate", 1.0), seed=5, memory_budget=budget).to(dtype)
    pool = make_pool(
        case["pool"], head, case["D"], case["Q"], case.get("delta", "broadface"), case.get("queue_dtype", "float32"),
        same_identity=case.get("same_identity", "excluded"), keys=case.get("keys", "unit"),
    )  # fmt: skip
    if pool is not None and "queue_dtype" not in case:
        pool = pool.to(dtype)
    options = {
        "std": 1.0, "scope": case.get("statistics", "global"), "lq_share": case.get("lq_share"),
        "start": case["threshold"] or 0.0,
    }  # fmt: skip
    direction = case.get("source") == "direction"
    statistics = (
        DirectionStatistics(case["D"], case.get("ema", 0.3), **options)
        if direction
        else NormStatistics(case.get("ema", 0.3), mean=2.0, **options)
    ).to(dtype)
    margin = make_margin(
        case.get("loss", "adaface"), 0.4, case.get("margin_list", (1.0, 0.5, 0.0)),
        norm_range=(1.0, 5.0), norm_weight=3.0,
    ).to(dtype)  # fmt: skip
    return Objective(
        head, margin, pool, statistics, case["threshold"], case.get("s", 16.0), case.get("s", 16.0),
        case.get("weight", 0.7), case.get("denominator", "infonce"),
        Variant(**case.get("variant", {})),
    )  # fmt: skip


def objective_steps(case: dict) -> list[dict]:
    """Run the objective over given global batches while W drifts; per step: losses, gradients of h and W, queue,
    statistics.

    `case`: see `make_objective`, and batches [(h_PVD, y_P, key_h_PD)], W_steps, and may have block and known [(P, V)].
    """
    dtype = case.get("dtype", torch.float64)
    objective = make_objective(case)
    head, pool, statistics = objective.head, objective.pool, objective.quality
    rank, size = parallel.rank(), parallel.world_size()
    report = []
    for (h_PVD, y_P, key_h_PD), W in zip(case["batches"], case["W_steps"], strict=True):
        start, stop = parallel.share(len(y_P), rank, size)
        head.weight.copy_(W[head.start : head.stop])
        head.forget()
        h_pVD = h_PVD[start:stop].clone().to(case.get("h_dtype", dtype)).requires_grad_()
        key_h_pD = key_h_PD[start:stop] if case["pool"] == "momentum" else None
        with small_blocks(case.get("block", 2)):
            known_pV = case["known"][len(report)][start:stop] if "known" in case else None
            losses = objective(h_pVD, y_P[start:stop], key_h_pD, len(y_P), known_pV)
            losses.total.backward()
            grad_W = head.gradient()
        report.append(
            {
                "losses": [float(value.detach()) for value in losses[:5]],
                "grad_h": h_pVD.grad,
                "grad_W": grad_W,
                "statistics": (float(statistics.mean), float(statistics.std)),
                "queue": pool.state() if hasattr(pool, "state") else None,
            }
        )
    return report


def diagnosed_steps(case: dict) -> list[dict]:
    """Show the objective given global batches of images through a linear backbone while W drifts; per step what
    diagnostics saw, and the backbone's gradient.

    `case`: see `make_objective`, and batches [(x_PVI, y_P, key_h_PD)], W_steps, and may have every (0), acc, sample
    (rows of the queue that are looked at), scale (of the loss).
    """
    objective, acc, every = make_objective(case), case.get("acc", 1), case.get("every", 0)
    backbone = first_backbone(case["batches"][0][0].shape[2], case["D"])
    network = parallel.data_parallel(backbone, torch.device("cpu"))
    scaler, report = mock.Mock(get_scale=lambda: case.get("scale", 1.0)), []
    with mock.patch.object(pool_diagnostics, "SAMPLE", case.get("sample", 256)), small_blocks(3):
        diagnostics = Diagnostics(every, objective, backbone, ("original", "augmented"), acc, scaler)
        for i, ((x_PVI, y_P, key_h_PD), W) in enumerate(zip(case["batches"], case["W_steps"], strict=True)):
            start, stop = parallel.own_share(len(y_P))
            objective.head.weight.copy_(W[objective.head.start : objective.head.stop])
            if i % acc == 0:
                diagnostics.begin(i // acc + 1)
            with network.no_sync() if i % acc < acc - 1 and network is not backbone else contextlib.nullcontext():
                h_pVD = network(x_PVI[start:stop].flatten(0, 1)).unflatten(0, (-1, 2))
                key_h_pD = key_h_PD[start:stop] if case["pool"] == "momentum" else None
                losses = objective(h_pVD, y_P[start:stop], key_h_pD, len(y_P))
                (losses.total / acc * scaler.get_scale()).backward()
            if i % acc == acc - 1:
                for parameter in backbone.parameters():
                    parameter.grad /= scaler.get_scale()
                diagnostics.look_at_gradient()
                gradient = torch.cat([parameter.grad.flatten() for parameter in backbone.parameters()])
                report.append({"seen": diagnostics.take(), "gradient": gradient.clone()})
                backbone.zero_grad()
                objective.head.forget()
    return report


def first_backbone(inputs: int, dimension: int) -> nn.Linear:
    """The backbone of `diagnosed_steps`."""
    torch.manual_seed(0)
    return nn.Linear(inputs, dimension).double()


def first_error(case: dict) -> str:
    """What `objective_steps` complains about."""
    try:
        objective_steps(case)
    except ValueError as error:
        return str(error)
    return ""
