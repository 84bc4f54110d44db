"""What the gloo processes of tests/gloo.py are asked to do; each function runs alike on 1 and on N ranks."""

from pathlib import Path

import torch
from torch import nn

from recognition.head import ClassShard
from recognition.objective import Objective, make_margin
from recognition.pools import make_pool
from recognition.quality import NormStatistics
from utils import parallel
from utils.run_folder import RunFolder


def objective_steps(case: dict) -> list[dict]:
    """Run the objective over given global batches while W drifts; per step: losses, gradients of h and W, queue,
    statistics.

    `case`: N, D, Q, dtype, pool, threshold, denominator, delta, loss, sample_rate, batches [(h_PVD, y_P, key_h_PD)],
    W_steps.
    """
    dtype = case.get("dtype", torch.float64)
    head = ClassShard(case["N"], case["D"], case.get("sample_rate", 1.0), seed=5).to(dtype)
    pool = make_pool(case["pool"], head, case["D"], case["Q"], case.get("delta", "broadface"))
    statistics = NormStatistics(case.get("ema", 0.3), mean=2.0, std=1.0)
    margin = make_margin(case.get("loss", "adaface"), 0.4, case.get("margin_list", (1.0, 0.5, 0.0)))
    objective = Objective(
        head, margin, pool, statistics, case["threshold"], case.get("s", 16.0), case.get("s", 16.0),
        case.get("weight", 0.7), case.get("denominator", "infonce"),
    ).to(dtype)  # fmt: skip
    rank, size = parallel.rank(), parallel.world_size()
    report = []
    for (h_PVD, y_P, key_h_PD), W in zip(case["batches"], case["W_steps"], strict=True):
        start, stop = parallel.share(len(y_P), rank, size)
        head.weight.data.copy_(W[head.start : head.stop])
        head.weight.grad = None
        h_pVD = h_PVD[start:stop].clone().to(case.get("h_dtype", dtype)).requires_grad_()
        key_h_pD = key_h_PD[start:stop] if case["pool"] == "momentum" else None
        losses = objective(h_pVD, y_P[start:stop], key_h_pD, len(y_P))
        losses.total.backward()
        report.append(
            {
                "losses": [float(value.detach()) for value in losses],
                "grad_h": h_pVD.grad,
                "grad_W": head.weight.grad if head.weight.grad is not None else torch.zeros_like(head.weight),
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
