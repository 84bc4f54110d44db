"""Whole trainings."""

import contextlib
import functools
from unittest import mock

import torch
from torch import nn

import train as train_py
from recognition import build
from recognition.row_optimizer import RowOptimizer
from tests.ranks.objective import make_objective, small_blocks
from utils import parallel, run_folder
from utils.run_folder import RunFolder


def train_real_steps(steps: int, look_at: list[int]) -> dict:
    """Train a linear backbone and the classifier in float32 on global batches of 10 pairs that ranks share unevenly.

    Returns every step's losses; of the steps `look_at` (from 1) this rank's gradients of features and W, and how close
    an indicator came to the threshold; in the end statistics, rows of the queue and W.
    """
    case = {"N": 23, "D": 16, "Q": 60, "pool": "proxy", "threshold": 0.4, "dtype": torch.float32}
    P, generator, closest = 10, torch.Generator().manual_seed(0), torch.inf
    objective = make_objective(case)
    start, stop = parallel.share(P, parallel.rank(), parallel.world_size())
    faces = torch.randn(case["N"], 20, generator=generator)
    torch.manual_seed(0)
    backbone = nn.Linear(20, case["D"])
    network = parallel.data_parallel(backbone, torch.device("cpu"))
    optimizer = torch.optim.SGD(backbone.parameters(), 0.02, 0.9, weight_decay=5e-4)
    row_optimizer = RowOptimizer("sgd", objective.head.weight, 0.9, 5e-4)
    report = {"losses": [], "looked_at": []}
    for step in range(1, steps + 1):
        y_P = torch.randint(0, case["N"], (P,), generator=generator)
        noise_PV = torch.randn(P, 2, 20, generator=generator) * torch.tensor([0.3, 0.6])[:, None]
        clear_PV = 0.3 + torch.rand(P, 2, 1, generator=generator)  # a washed-out image has a small norm
        images_PV = clear_PV * faces[y_P][:, None] + noise_PV
        with small_blocks(4):
            h_pVD = network(images_PV[start:stop].flatten(0, 1)).unflatten(0, (-1, 2))
            h_pVD.retain_grad()
            losses = objective(h_pVD, y_P[start:stop], None, P)
            losses.total.backward()
            if step in look_at:
                report["looked_at"].append({"h": h_pVD.grad.clone(), "W": objective.head.gradient()})
            objective.head.step(row_optimizer, 0.02)
        optimizer.step()
        optimizer.zero_grad()
        report["losses"].append([float(value.detach()) for value in losses[:5]])
        z_hat = objective.quality.indicator(h_pVD.detach().norm(dim=2))
        closest = min(closest, float(((z_hat + 1) / 2 - case["threshold"]).abs().min()))
    statistics = torch.stack([objective.quality.mean, objective.quality.std])
    queue, W = objective.pool.state(), objective.head.weight
    return report | {"closest": closest, "statistics": statistics, "queue": queue, "W": W}


def train(words: list[str], columns: int | None = None) -> dict:
    """A whole run on this group, as train.py does it; the group lives on. Losses go through blocks of `columns`.

    Returns:
        `order`: the samples of each of its batches, over all ranks; `shared` and `sharded`: what its state was before
        the first step, of each rank.
    """
    make_loader, start, order, begun = build.make_loader, train_py.Run.start, [], {}

    def recording(*arguments):
        loader = make_loader(*arguments)
        epoch = loader.epoch

        def recorded(*position):
            for batch in epoch(*position):
                order.append(batch.index.tolist())
                yield batch

        loader.epoch = recorded
        return loader

    def recording_start(run, earlier):
        step = start(run, earlier)
        begun.update(shared=copies(run.state.shared()), sharded=copies(run.state.sharded()))
        return step

    with (
        mock.patch.object(train_py, "make_loader", recording),
        mock.patch.object(train_py.Run, "start", recording_start),
        mock.patch.object(parallel, "shutdown"),
        mock.patch.object(train_py, "Stop", lambda minutes: mock.Mock(asked=lambda: None)),  # the group's signals stay
        small_blocks(columns) if columns else contextlib.nullcontext(),
    ):
        try:
            assert train_py.main(words) == 0
        finally:
            for folder in [*run_folder.locked]:  # as the end of a process does
                RunFolder(folder).close()
    return {
        "order": [sum(parts, []) for parts in zip(*parallel.objects(order), strict=True)],
        **{name: parallel.objects(begun[name]) for name in begun},
    }


def train_compiled(words: list[str]) -> dict:
    """`train` with a torch.compile that traces both passes and makes no code, which would take a minute."""
    with mock.patch.object(torch, "compile", functools.partial(torch.compile, backend="aot_eager")):
        return train(words)


def copies(tensors: dict) -> dict[str, torch.Tensor]:
    """Of a run's state; what comes in pieces is joined."""
    return {name: (torch.cat(x) if isinstance(x, list) else x).detach().clone() for name, x in tensors.items()}
