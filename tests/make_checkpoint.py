"""A small run of 2 ranks with everything that a checkpoint can hold, and its checkpoint as a file for good.

    python -m tests.make_checkpoint tests/fixtures/checkpoint_format_3

Images and labels are computed from numbers, so that nothing but this code is needed to go on.
"""

import json
import math
import sys
from pathlib import Path

import torch
from torch import nn

from configs.base import config
from recognition.guard import Guard
from recognition.head import ClassShard
from recognition.margins import make_margin
from recognition.objective import Objective
from recognition.pools import make_pool
from recognition.quality import NormStatistics
from recognition.row_optimizer import RowOptimizer
from recognition.state import TrainingState
from tests import gloo
from tests.ranks.training import copies
from utils import parallel
from utils.checkpoint import Checkpoint, Saver, every
from utils.log import Means
from utils.version import code_version

RANKS, STEPS, MORE = 2, 5, 2  # MORE: steps after the checkpoint whose losses are recorded
N, D, Q, P, V, SIDE = 7, 3, 15, 6, 2, 8
LR, MOMENTUM, DECAY = 0.02, 0.9, 5e-4


class LittleRun:
    """Backbone, classifier, queue and optimizers; `step` trains on a batch that its number makes."""

    def __init__(self):
        torch.manual_seed(1)
        layers = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.Linear(64, D)
        self.backbone = nn.Sequential(*layers, nn.BatchNorm1d(D))
        head = ClassShard(N, D, seed=2)
        pool, statistics = make_pool("proxy", head, D, Q), NormStatistics(0.3, mean=1.5, std=0.5)
        self.objective = Objective(head, make_margin("curricularface", 0.4), pool, statistics, 0.5, 16.0, 16.0)
        self._make_optimizers()

    def _make_optimizers(self) -> None:
        self.network = parallel.data_parallel(self.backbone, torch.device("cpu"))
        self.optimizer = torch.optim.SGD(self.backbone.parameters(), LR, MOMENTUM, weight_decay=DECAY)
        self.row_optimizer = RowOptimizer("sgd", self.objective.head.weight, MOMENTUM, DECAY)
        self.state = TrainingState(self.backbone, self.objective, self.optimizer, self.row_optimizer)

    def widen(self) -> None:
        """Go on in float64 and with fixed statistics of BatchNorm: any number of ranks then gets the same losses."""
        slots = [self.optimizer.state.get(p, {}).get("momentum_buffer") for p in self.backbone.parameters()]
        row_slots, step = self.row_optimizer.slots, self.row_optimizer.step
        self.backbone.double().eval()
        self.objective.double()
        self._make_optimizers()
        for parameter, slot in zip(self.backbone.parameters(), slots, strict=True):
            if slot is not None:
                self.optimizer.state[parameter] = {"momentum_buffer": slot.double()}
        self.row_optimizer.slots = {name: slot.double() for name, slot in row_slots.items()}
        self.row_optimizer.step = step

    def step(self, number: int) -> tuple[float, float]:
        """Take a step; its loss and the contrast's part of it."""
        start, stop = parallel.own_share(P)
        dtype = self.objective.head.weight.dtype
        wave = torch.arange(P * V * 3 * SIDE * SIDE, dtype=torch.float64).view(P, V, 3, SIDE, SIDE)
        images = ((wave * 37 + number * 101) % 199 / 99.5 - 1).to(dtype)[start:stop]
        y_P = (torch.arange(P) * 3 + number * 2) % N
        h_pVD = self.network(images.flatten(0, 1)).unflatten(0, (stop - start, V))
        losses = self.objective(h_pVD, y_P[start:stop], None, P)
        losses.total.backward()
        self.optimizer.step()
        self.objective.head.step(self.row_optimizer, LR)
        self.optimizer.zero_grad(set_to_none=True)
        return float(losses.total.detach()), float(losses.contrastive)


def make(folder: Path) -> dict:
    """On each of the ranks: train, save, and go on; what is to be recorded."""
    run = LittleRun()
    for number in range(1, STEPS + 1):
        run.step(number)
    saver = Saver(folder, 1)
    saver.save(STEPS, run.state.shared(), run.state.sharded(), _state())
    saver.finish()
    queue = run.state.queue
    wraps = queue.oldest + queue.count > len(queue.y_K)
    run.widen()
    losses, contrast = zip(*[run.step(STEPS + number) for number in range(1, MORE + 1)], strict=True)
    return {"wraps": wraps, "losses": losses, "contrast": contrast}


def _state() -> dict:
    """state.json as train.py fills it."""
    views = ("original", "augmented")
    resolved = {**config, "name": "kept", "embedding_size": D, "queue_size": Q, "total_batch_size": P, "pool": "proxy",
                "num_classes": N, "num_image": 60, "views": views, "quality_threshold": 0.5}  # fmt: skip
    means = Means()
    means.sums, means.count = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64), 3
    scaler = torch.amp.GradScaler("cpu", growth_interval=100)
    return {
        "number": 4, "images": STEPS * P, "data": {"identities": N, "images": 60, "digest of the index": "0" * 64},
        "last_step": 20, "code": code_version(), "torch": torch.__version__, "damaged": ["train.rec: key 3: cut"],
        "config": resolved,
        "parts": {"scaler": scaler.state_dict(), "means": means.state_dict(), "guard": Guard([], str).state_dict()},
    }  # fmt: skip


def go_on(path: Path) -> dict:
    """On each of any number of ranks: load, tell the tensors, and go on."""
    run = LittleRun()
    run.widen()
    saved = Checkpoint(path)
    run.state.load(saved)
    parts = run.state.shared(), run.state.sharded()
    tensors = [copies(part) for part in parts]
    return {"tensors": tensors, "losses": [run.step(saved.step + number)[0] for number in range(1, MORE + 1)]}


def sums(shared: dict[str, torch.Tensor], shards: list[dict[str, torch.Tensor]]) -> dict[str, float]:
    """Exact sums of each tensor's numbers, times their place from 1; those of the ranks joined by class and by age."""
    joined = dict(shared)
    for name in shards[0]:
        if name in ("head.start", "queue.ring"):
            continue  # of each rank's own
        parts = [shard[name] for shard in shards]
        joined[name] = torch.cat(parts) if parts[0].ndim else parts[0]
    order = joined["queue.sequence_K"].argsort()
    for name in joined:
        if name.endswith("_K") or name.endswith("_KD"):
            joined[name] = joined[name][order]
    return {name: _sum(tensor) for name, tensor in sorted(joined.items())}


def _sum(tensor: torch.Tensor) -> float:
    return math.fsum(place * value for place, value in enumerate(tensor.double().flatten().tolist(), 1))


def main(folder: Path) -> None:
    """Write the checkpoint and what is expected of it into a new folder."""
    folder.mkdir(parents=True)
    made = gloo.run(RANKS, make, folder)
    (path,) = every(folder)
    saved = Checkpoint(path)
    files = [{name: file[name] for name in file.names()} for file in (saved.shared, *saved.shards)]
    if not (made[0]["wraps"] and all(made[0]["contrast"])):
        raise SystemExit(f"expected a ring that goes round and a contrast: {made[0]}")
    expected = {"sums": sums(files[0], files[1:]), "losses": made[0]["losses"]}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    gloo.close()
