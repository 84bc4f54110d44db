"""What the gloo processes of tests/gloo.py are asked to do; each function runs alike on 1 and on N ranks."""

from pathlib import Path
from unittest import mock

import torch
from torch import nn

from recognition import sharded
from recognition.head import ClassShard
from recognition.margins import make_margin
from recognition.objective import Objective
from recognition.pools import make_pool
from recognition.quality import NormStatistics
from utils import parallel
from utils.run_folder import RunFolder


def small_blocks(columns: int):
    """Let the losses go through their columns in blocks of so few."""
    return mock.patch.object(sharded, "block_size", lambda device: columns)


def make_objective(case: dict) -> Objective:
    """`case`: N, D, Q, dtype, pool, threshold, denominator, delta, loss, sample_rate, budget (bytes) ..."""
    dtype = case.get("dtype", torch.float64)
    budget = case.get("budget", 2**20) / 2**20
    head = ClassShard(case["N"], case["D"], case.get("sample_rate", 1.0), seed=5, memory_budget=budget).to(dtype)
    pool = make_pool(
        case["pool"], head, case["D"], case["Q"], case.get("delta", "broadface"), case.get("queue_dtype", "float32")
    )
    if pool is not None and "queue_dtype" not in case:
        pool = pool.to(dtype)
    statistics = NormStatistics(case.get("ema", 0.3), mean=2.0, std=1.0).to(dtype)
    margin = make_margin(
        case.get("loss", "adaface"), 0.4, case.get("margin_list", (1.0, 0.5, 0.0)),
        norm_range=(1.0, 5.0), norm_weight=3.0,
    ).to(dtype)  # fmt: skip
    return Objective(
        head, margin, pool, statistics, case["threshold"], case.get("s", 16.0), case.get("s", 16.0),
        case.get("weight", 0.7), case.get("denominator", "infonce"),
    )  # fmt: skip


def objective_steps(case: dict) -> list[dict]:
    """Run the objective over given global batches while W drifts; per step: losses, gradients of h and W, queue,
    statistics.

    `case`: see `make_objective`, and batches [(h_PVD, y_P, key_h_PD)], W_steps, block.
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
            losses = objective(h_pVD, y_P[start:stop], key_h_pD, len(y_P))
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


def gather_and_sum() -> dict:
    """gather_rows and sum_over_ranks on uneven shares, with their gradients."""
    rank, size = parallel.rank(), parallel.world_size()
    start, stop = parallel.share(5, rank, size)
    x = torch.arange(10, dtype=torch.float64).view(5, 2)[start:stop].clone().requires_grad_()
    everything = parallel.gather_rows(x, 5)
    parallel.sum_over_ranks((everything**2).sum() * (rank + 1)).backward()
    return {
        "gathered": everything.detach(),
        "grad": x.grad,
        "labels": parallel.gather_rows(torch.arange(start, stop), 5),
    }


def open_folders(paths: list[str]) -> str:
    """What opening this rank's folder says."""
    try:
        RunFolder(Path(paths[parallel.rank()]))
    except ValueError as error:
        return str(error)
    return ""


def shared_buffers() -> list[float]:
    """The running mean of BatchNorm after evaluation statistics were shared."""
    norm = nn.BatchNorm1d(1)
    norm(torch.tensor([[1.0], [3.0]]) * (parallel.rank() + 1))
    parallel.share_buffers(norm)
    return norm.running_mean.tolist()


def ddp_gradient() -> torch.Tensor:
    """Gradient of a linear layer whose loss is summed over uneven shares of one batch."""
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    x = torch.randn(5, 3)
    start, stop = parallel.share(5, parallel.rank(), parallel.world_size())
    network = parallel.data_parallel(layer, torch.device("cpu"))
    (network(x[start:stop]) ** 2).sum().backward()
    return layer.weight.grad
