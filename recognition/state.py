"""What a run is made of, as named tensors: what all ranks share, and what each rank holds of classes and queue.

Names: `backbone.*`, `encoder.*` (momentum encoder), `quality.*`, `head.*`, `queue.*`, `diagnostics.*`,
    `optimizer.<parameter>.<slot>`.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from recognition.head import ClassShard
from recognition.momentum import MomentumEncoder
from recognition.objective import Objective
from recognition.queue import Queue
from recognition.row_optimizer import RowOptimizer
from utils.checkpoint import Checkpoint, CheckpointError, TensorFile, load_module

Tensors = dict[str, torch.Tensor | list[torch.Tensor]]
_HEAD = "head.weight"


class TrainingState:
    """Names every tensor of a run, and puts saved ones back, cut for this rank's classes.

    Args:
        backbone, objective: of the run.
        optimizer: of the backbone.
        row_optimizer: of the classifier's rows.
        encoder: the momentum encoder, where the pool wants one.
        sample: what diagnostics remember; a checkpoint need not have it.
    """

    def __init__(
        self,
        backbone: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        row_optimizer: RowOptimizer,
        encoder: MomentumEncoder | None = None,
        sample: nn.Module | None = None,
    ):
        self.backbone, self.objective = backbone, objective
        self.optimizer, self.row_optimizer = optimizer, row_optimizer
        self.modules: dict[str, nn.Module] = {"backbone": backbone, "quality": objective.quality}
        self.modules["margin"] = objective.margin
        if encoder is not None:
            self.modules["encoder"] = encoder
        self.sample = sample
        self.queue = objective.pool if isinstance(objective.pool, Queue) else None

    @property
    def head(self) -> ClassShard:
        return self.objective.head

    def shared(self) -> Tensors:
        """Equal on all ranks."""
        tensors = {
            f"{name}.{key}": t for name, module in self.modules.items() for key, t in module.state_dict().items()
        }
        if self.sample is not None:
            tensors |= {f"diagnostics.{key}": t for key, t in self.sample.state_dict().items()}
        tensors |= {"head.draws": self.head.draws, "optimizer.head.step": self.row_optimizer.step}
        for name, parameter in self.backbone.named_parameters():
            for slot, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    tensors[f"optimizer.backbone.{name}.{slot}"] = value
        return tensors

    def sharded(self) -> Tensors:
        """This rank's class rows with their optimizer slots, and its queue rows; `head.start` says where the rows
        begin. The queue's come in pieces, as they lie in its ring.
        """
        tensors: dict[str, torch.Tensor | list[torch.Tensor]] = {}
        tensors |= {_HEAD: self.head.weight, "head.start": torch.tensor(self.head.start)}
        tensors |= {f"optimizer.{_HEAD}.{slot}": value for slot, value in self.row_optimizer.slots.items()}
        if self.queue is not None:
            tensors |= {f"queue.{name}": pieces for name, pieces in self.queue.pieces().items()}
            tensors |= {"queue.ring": self.queue.ring(), "queue.next_sequence": torch.tensor(self.queue.next_sequence)}
        return tensors

    def load(self, saved: Checkpoint) -> None:
        """Put back what `shared` and `sharded` of any number of ranks returned; this rank's rows only are read.

        Raises:
            CheckpointError: another network, other classes, another pool.
        """
        source = f"checkpoint {saved.path}"
        shards = sorted(saved.shards, key=lambda shard: int(shard["head.start"]))
        self._check_rows(shards, source)
        for name, module in self.modules.items():
            load_module(module, saved.shared.below(f"{name}."), f"{source} ({name})")
        self.head.draws.copy_(saved.shared["head.draws"])
        self.row_optimizer.step.copy_(saved.shared["optimizer.head.step"])
        for name, parameter in self.backbone.named_parameters():
            slots = saved.shared.below(f"optimizer.backbone.{name}.")
            if slots:
                self.optimizer.state[parameter] = {slot: _like(parameter, value) for slot, value in slots.items()}
        self._load_rows(_HEAD, self.head.weight, shards)
        for slot, value in self.row_optimizer.slots.items():
            self._load_rows(f"optimizer.{_HEAD}.{slot}", value, shards)
        if self.queue is not None:
            self._load_queue(self.queue, shards)
        if self.sample is not None:
            self._load_sample(self.sample, saved.shared.below("diagnostics."))

    def _check_rows(self, shards: list[TensorFile], source: str) -> None:
        saved, dimension = sum(shard.shape(_HEAD)[0] for shard in shards), shards[0].shape(_HEAD)[1]
        own = self.head.num_classes, self.head.weight.shape[1]
        if (saved, dimension) != own:
            raise CheckpointError(
                f"{source} is of another network: {saved} classes of dimension {dimension}, the run has {own[0]} of "
                f"{own[1]}"
            )
        if self.queue is not None and any("queue.next_sequence" not in shard for shard in shards):
            raise CheckpointError(f"{source} was saved without a queue")

    def _mine(self, shards: list[TensorFile]) -> Iterator[tuple[TensorFile, int, int, int]]:
        """The shards that hold rows of this rank: shard, its first class, and the classes [start, stop) of both."""
        for shard in shards:
            first = int(shard["head.start"])
            start, stop = max(self.head.start, first), min(self.head.stop, first + shard.shape(_HEAD)[0])
            if start < stop:
                yield shard, first, start, stop

    def _load_rows(self, name: str, target: torch.Tensor, shards: list[TensorFile]) -> None:
        for shard, first, start, stop in self._mine(shards):
            target[start - self.head.start : stop - self.head.start] = shard.rows(name, start - first, stop - first)

    def _load_queue(self, queue: Queue, shards: list[TensorFile]) -> None:
        next_sequence = int(shards[0]["queue.next_sequence"])
        mine = [shard for shard, *_ in self._mine(shards)] or shards[:1]  # of which a rank without classes takes no row
        state = {name: torch.cat([shard[f"queue.{name}"] for shard in mine]) for name in queue.FIELDS}
        alike = len(mine) == 1 and mine[0].shape(_HEAD)[0] == len(self.head.weight)
        queue.load_state(state, next_sequence, mine[0]["queue.ring"] if alike else None)

    @staticmethod
    def _load_sample(sample: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
        shapes = {name: t.shape for name, t in sample.state_dict().items()}
        if {name: t.shape for name, t in tensors.items()} == shapes:
            sample.load_state_dict(tensors)


def norm_statistics(config: Mapping, shared: dict[str, torch.Tensor] | TensorFile) -> tuple[float | None, float | None]:
    """Mean and deviation of the feature norms (Eq. 1) among a run's shared tensors; None where its config has the
    statistics of something else.
    """
    if config.get("quality_source") == "direction":
        return None, None
    return float(shared["quality.mean"]), float(shared["quality.std"])


def _like(parameter: nn.Parameter, value: torch.Tensor) -> torch.Tensor:
    """A copy of an optimizer's slot as the optimizer would have made it; AdamW's step counter stays on the CPU."""
    return value.clone() if value.ndim == 0 else torch.empty_like(parameter, requires_grad=False).copy_(value)
