"""What a run is made of, as named tensors: what all ranks share, and what each rank holds of classes and queue.

Names: `backbone.*`, `encoder.*` (momentum encoder), `quality.*`, `head.*`, `queue.*`, `optimizer.<parameter>.<slot>`.
"""

from collections.abc import Iterable

import torch
from torch import nn

from recognition.head import ClassShard
from recognition.momentum import MomentumEncoder
from recognition.objective import Objective
from recognition.pools import Queue
from recognition.row_optimizer import RowOptimizer
from utils.checkpoint import CheckpointError, load_module

Tensors = dict[str, torch.Tensor]
_HEAD = "head.weight"


class TrainingState:
    """Names every tensor of a run, and puts saved ones back, cut for this rank's classes.

    Args:
        backbone, objective: of the run.
        optimizer: of the backbone.
        row_optimizer: of the classifier's rows.
        encoder: the momentum encoder, where the pool wants one.
    """

    def __init__(
        self,
        backbone: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        row_optimizer: RowOptimizer,
        encoder: MomentumEncoder | None = None,
    ):
        self.backbone, self.objective = backbone, objective
        self.optimizer, self.row_optimizer = optimizer, row_optimizer
        self.modules: dict[str, nn.Module] = {"backbone": backbone, "quality": objective.quality}
        self.modules["margin"] = objective.margin
        if encoder is not None:
            self.modules["encoder"] = encoder
        self.queue = objective.pool if isinstance(objective.pool, Queue) else None

    @property
    def head(self) -> ClassShard:
        return self.objective.head

    def shared(self) -> Tensors:
        """Equal on all ranks."""
        tensors = {
            f"{name}.{key}": t for name, module in self.modules.items() for key, t in module.state_dict().items()
        }
        tensors |= {"head.draws": self.head.draws, "optimizer.head.step": self.row_optimizer.step}
        for name, parameter in self.backbone.named_parameters():
            for slot, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    tensors[f"optimizer.backbone.{name}.{slot}"] = value
        return tensors

    def sharded(self) -> Tensors:
        """This rank's class rows with their optimizer slots, and its queue rows; `head.start` says where the rows
        begin.
        """
        tensors = {_HEAD: self.head.weight, "head.start": torch.tensor(self.head.start)}
        tensors |= {f"optimizer.{_HEAD}.{slot}": value for slot, value in self.row_optimizer.slots.items()}
        if self.queue is not None:
            tensors |= {f"queue.{name}": value for name, value in self.queue.state().items()}
            tensors["queue.next_sequence"] = torch.tensor(self.queue.next_sequence)
        return tensors

    def load(self, shared: Tensors, shards: Iterable[Tensors], source: str) -> None:
        """Put back what `shared` and `sharded` of any number of ranks returned.

        Raises:
            CheckpointError: another network, other classes, another pool.
        """
        for name, module in self.modules.items():
            part = {key.removeprefix(f"{name}."): t for key, t in shared.items() if key.startswith(f"{name}.")}
            load_module(module, part, f"{source} ({name})")
        self.head.draws.copy_(shared["head.draws"])
        self.row_optimizer.step.copy_(shared["optimizer.head.step"])
        for name, parameter in self.backbone.named_parameters():
            self._load_slots(parameter, f"optimizer.backbone.{name}.", shared)
        self._load_shards(list(shards), source)

    def _load_slots(self, parameter: nn.Parameter, prefix: str, tensors: Tensors) -> None:
        slots = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
        if slots:  # AdamW keeps its step counter on the CPU
            self.optimizer.state[parameter] = {
                slot: t if slot == "step" else t.to(parameter.device) for slot, t in slots.items()
            }

    def _load_shards(self, shards: list[Tensors], source: str) -> None:
        shards = sorted(shards, key=lambda shard: int(shard["head.start"]))
        saved = sum(len(shard[_HEAD]) for shard in shards)
        if saved != self.head.num_classes or shards[0][_HEAD].shape[1] != self.head.weight.shape[1]:
            raise CheckpointError(
                f"{source} has {saved} classes of dimension {shards[0][_HEAD].shape[1]}, "
                f"the run {self.head.num_classes} of {self.head.weight.shape[1]}"
            )
        self.head.weight.copy_(self._own_rows(shards, _HEAD))
        for slot, value in self.row_optimizer.slots.items():
            value.copy_(self._own_rows(shards, f"optimizer.{_HEAD}.{slot}"))
        if self.queue is not None:
            if any("queue.next_sequence" not in shard for shard in shards):
                raise CheckpointError(f"{source} was saved without a queue")
            state = {name: torch.cat([shard[f"queue.{name}"] for shard in shards]) for name in self.queue.FIELDS}
            self.queue.load_state(state, int(shards[0]["queue.next_sequence"]))

    def _own_rows(self, shards: list[Tensors], name: str) -> torch.Tensor:
        return torch.cat([shard[name] for shard in shards])[self.head.start : self.head.stop]
