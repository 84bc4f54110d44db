"""What steps and checkpoints hold in memory and send."""

import weakref
from pathlib import Path
from unittest import mock

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recognition.backbones import get_backbone
from recognition.momentum import MomentumEncoder
from recognition.row_optimizer import RowOptimizer
from recognition.state import TrainingState
from tests.ranks.objective import make_objective, small_blocks
from utils import parallel
from utils.checkpoint import Saver


class Live(TorchDispatchMode):
    """Counts the bytes of tensors that are made while it is on: `now` those still alive, `peak` the most there were."""

    def __init__(self):
        super().__init__()
        self.now, self.peak, self.sizes = 0, 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self._note((args, kwargs), made=False)
        result = func(*args, **(kwargs or {}))
        self._note(result, made=True)
        self.peak = max(self.peak, self.now)
        return result

    def _note(self, tree, made: bool) -> None:
        for tensor in tree_leaves(tree):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self.sizes:
                storage = tensor.untyped_storage()
                self.sizes[storage._cdata] = storage.nbytes() * made
                self.now += storage.nbytes() * made
                weakref.finalize(storage, self._drop, storage._cdata)

    def _drop(self, address: int) -> None:
        self.now -= self.sizes.pop(address)


def storage_of_steps(case: dict) -> dict:
    """Train a few float32 steps; the bytes of what is there then, and of all tensors at the peak of the last step and
    of all steps.

    `case`: see `make_objective`, and P, steps, optimizer, block. Every rank owns about as many labels of each batch.
    """
    P, live, highest = case["P"], Live(), 0
    start, stop = parallel.share(P, parallel.rank(), parallel.world_size())
    with small_blocks(case.get("block", 64)), live:
        objective = make_objective(case | {"dtype": torch.float32})
        head, pool = objective.head, objective.pool
        optimizer = RowOptimizer(case.get("optimizer", "sgd"), head.weight, 0.9, 5e-4)
        for t in range(case["steps"]):
            h_pVD = torch.randn(P, 2, case["D"], generator=torch.Generator().manual_seed(t))[start:stop].clone()
            key_h_pD = h_pVD[:, 0].clone() if case["pool"] == "momentum" else None
            highest, live.peak = max(highest, live.peak), live.now
            y_p = (torch.arange(start, stop) + t * P) * 100 % case["N"]
            objective(h_pVD.requires_grad_(), y_p, key_h_pD, P).total.backward()
            kept, columns = head._traces[0].spent, head._traces[0].columns.count
            head.step(optimizer, 0.1)
    fields = [getattr(pool, name) for name in getattr(pool, "FIELDS", ())]
    return {
        "W": head.weight.nbytes,
        "slots": sum(slot.nbytes for slot in optimizer.slots.values()),
        "kept": kept,
        "columns": columns,
        "scratch": {name: flat.nbytes for name, flat in head.scratch.flats.items()},
        "pool scratch": {} if pool is None else {name: flat.nbytes for name, flat in pool.scratch.flats.items()},
        "queue": sum(field.nbytes for field in fields),
        "slots of the queue": len(fields[0]) if fields else 0,
        "rows": pool.count if fields else 0,
        "peak": live.peak + head.weight.nbytes,  # numpy made W
        "highest": max(highest, live.peak) + head.weight.nbytes,
    }


def copies_of_a_checkpoint(case: dict, folder: Path) -> dict[str, int]:
    """The bytes of each tensor that a rank copies for a checkpoint, with a queue that is full and goes round its ring.

    `case`: see `make_objective`, and optimizer.
    """
    objective = make_objective(case | {"dtype": torch.float32})
    head, pool, kind = objective.head, objective.pool, case.get("optimizer", "sgd")
    backbone = get_backbone("tiny", case["D"])
    parameters = list(backbone.parameters())
    optimizer = torch.optim.AdamW(parameters) if kind == "adamw" else torch.optim.SGD(parameters, 0.1, 0.9)
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    if pool is not None:
        for y_P in (torch.arange(4 * case["Q"]) * 7 % case["N"]).split(30):
            pool.enqueue(torch.ones(len(y_P), 1, case["D"]), y_P)
    encoder = MomentumEncoder(backbone, 0.999) if case["pool"] == "momentum" else None
    rows = RowOptimizer(kind, head.weight, 0.9, 5e-4)
    state = TrainingState(backbone, objective, optimizer, rows, encoder)
    saver = Saver(folder, keep=1)
    saver.save(1, state.shared(), state.sharded(), {})
    saver.finish()
    return {name: copy.nbytes for name, copy in saver._copies.items()}


def collectives_of_a_step(case: dict) -> tuple[list[tuple[str, int]], int]:
    """What this rank hands to which collective in a step of objective and backbone and after it, in order; the number
    of LQ pairs.

    `case`: see `make_objective`, and P, h_dtype.
    """
    P, calls = case["P"], []
    objective = make_objective(case | {"dtype": torch.float32})
    start, stop = parallel.share(P, parallel.rank(), parallel.world_size())
    torch.manual_seed(0)
    backbone = nn.Linear(3, 2 * case["D"])
    network = parallel.data_parallel(backbone, torch.device("cpu"))
    images, y_P = torch.randn(P, 3), torch.randint(0, case["N"], (P,))

    def counted(kind: str, call, sent: int):
        def counting(*arguments, **options):
            calls.append((kind, arguments[sent].nbytes))
            return call(*arguments, **options)

        return mock.patch.object(parallel.dist, kind, counting)

    all_reduce, all_gather = parallel.dist.all_reduce, parallel.dist.all_gather
    with counted("all_reduce", all_reduce, 0), counted("all_gather", all_gather, 1):
        h_pVD = network(images[start:stop]).view(-1, 2, case["D"]).to(case.get("h_dtype", torch.float32))
        key_h_pD = h_pVD[:, 0].detach() if case["pool"] == "momentum" else None
        losses = objective(h_pVD, y_P[start:stop], key_h_pD, P)
        losses.total.backward()
        parallel.most(False, False)  # as train.py ends a step
    return calls, round(float(losses.lq_pairs) * P)
