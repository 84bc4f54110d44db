"""What the gloo processes of tests/gloo.py are asked to do; each function runs alike on 1 and on N ranks."""

import contextlib
import functools
import weakref
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import train as train_py
from eval.features import extract
from recognition import build, pool_diagnostics, sharded
from recognition.backbones import get_backbone
from recognition.diagnostics import Diagnostics
from recognition.direction import DirectionStatistics
from recognition.guard import Guard
from recognition.head import ClassShard
from recognition.margins import make_margin
from recognition.momentum import MomentumEncoder
from recognition.objective import Objective
from recognition.outcome import Losses, NotFiniteError
from recognition.pools import make_pool
from recognition.quality import NormStatistics
from recognition.row_optimizer import RowOptimizer
from recognition.state import TrainingState
from recognition.variant import Variant
from tests.numbered import Numbered, number
from utils import parallel, resume, run_folder
from utils.checkpoint import Saver
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


def head_steps(case: dict) -> list[dict]:
    """Let the classifier take steps; before the first and after each: W, its slots; of each: sampled classes, bytes
    kept, the budget.

    `case`: N, D, optimizer (arguments of RowOptimizer), steps [(lr, [(u_BD, y_B)] micro-batches)], and may have
    sample_rate, budget (MiB), block, scale (of the loss), forgotten (micro-batches whose gradient each step drops).
    """
    rate, budget, scale = case.get("sample_rate", 1.0), case.get("budget", 1), case.get("scale", 1.0)
    head = ClassShard(case["N"], case["D"], rate, seed=3, memory_budget=budget).double()
    head.weight.mul_(100)  # rows of about unit norm: the decay is felt beside the gradient
    kind, *options = case["optimizer"]
    optimizer = RowOptimizer(kind, head.weight, *options)

    def now(**more) -> dict:
        slots = {name: slot.clone() for name, slot in optimizer.slots.items()}
        return {"W": head.weight.clone(), "slots": slots, **more}

    report = [now()]
    for lr, micro_batches in case["steps"]:
        with small_blocks(case.get("block", 3)):
            for i, (u_BD, y_B) in enumerate(micro_batches):
                if i == case.get("forgotten", 0):
                    head.forget()
                u_BD = u_BD.clone().requires_grad_()
                target_B = head.target(u_BD, y_B) - 0.2
                loss = sharded.softmax_loss(16 * target_B, head.negatives(u_BD, y_B, 16.0)).mean()
                (loss * scale).backward()
            traces = head._traces[:]
            sampled = [trace.columns.ids_S for trace in traces]
            kept = [[e.nbytes for e, _ in trace.kept.values()] for trace in traces]
            head.step(optimizer, lr, scale)
        sampled = [None if ids is None else ids + head.start for ids in sampled]
        report.append(now(sampled=sampled, kept=kept, budget=head.budget))
    return report


def initial_weight(num_classes: int) -> torch.Tensor:
    """This rank's rows of a new classifier."""
    return ClassShard(num_classes, 4, seed=3).weight


def queue_steps(case: dict) -> list[dict]:
    """Enqueue given global batches while W drifts; after each: the rows as saved and as keys, their slots, an answer.

    `case`: N, D, Q, steps [(W, u_PVD, y_P)], queries (q_LD, y_L), and may have pool, delta, dtype, queue_dtype, s,
    start (rows and next_sequence as saved).
    """
    dtype = case.get("dtype", torch.float64)
    head = ClassShard(case["N"], case["D"]).to(dtype)
    stored, delta = case.get("queue_dtype", "float32"), case.get("delta", "broadface")
    queue = make_pool(case.get("pool", "proxy"), head, case["D"], case["Q"], delta, stored)
    if stored == "float32":
        queue = queue.to(dtype)
    if "start" in case:
        queue.load_state(*case["start"])
    report = []
    for W, u_PVD, y_P in case["steps"]:
        head.weight.copy_(W[head.start : head.stop])
        queue.enqueue(u_PVD.to(dtype), y_P)
        with small_blocks(case.get("block", 5)):
            lse_L = queue(case["queries"][0].to(dtype), case["queries"][1], case.get("s", 16.0))
        parts = [queue.keys(*segment)[0].clone() for segment in queue.segments()]
        report.append(
            {
                "state": queue.state(),
                "next_sequence": queue.next_sequence,
                "key_KD": nn.functional.normalize(torch.cat(parts)),
                "slots": [slot for segment in queue.segments() for slot in range(*segment)],
                "bytes": queue.row_KD.nbytes,
                "lse_L": lse_L,
            }
        )
    return report


def bad_feature(case: dict, bad: list[tuple[int, int, float]]) -> dict:
    """A step of the objective after a good one, with numbers that are not finite; what it raised, what it changed.

    `case`: as for `objective_steps`, with two batches; `bad`: (pair of the global batch, view, its first number), the
    view after the last one being the momentum encoder's feature.
    """
    objective = make_objective(case)

    def state() -> dict:
        values = {name: value.clone() for name, value in objective.state_dict().items()}
        values |= objective.pool.state()
        return values | {"next_sequence": torch.tensor(objective.pool.next_sequence)}

    before, error = {}, None
    for batch, (h_PVD, y_P, key_h_PD) in enumerate(case["batches"]):
        before, everything = state(), torch.cat([h_PVD, key_h_PD[:, None]], 1)
        for pair, view, value in bad if batch == 1 else []:
            everything[pair, view, 0] = value
        start, stop = parallel.share(len(y_P), parallel.rank(), parallel.world_size())
        h_pVD, key_h_pD = everything[start:stop, :-1].clone(), everything[start:stop, -1]
        key_h_pD = key_h_pD if case["pool"] == "momentum" else None
        try:
            objective(h_pVD.requires_grad_(), y_P[start:stop], key_h_pD, len(y_P))
        except NotFiniteError as raised:
            error = raised
    after = state()
    return {
        "what": error and error.what,
        "is_bad": error and error.is_bad.tolist(),
        "changed": [name for name, value in before.items() if not torch.equal(value, after[name])],
    }


def checked_step(case: dict) -> dict | None:
    """What `Guard.check` says of a step of two micro-batches, and what `Guard.skip` then tells.

    `case`: per_pair, gradients (of the features of pairs): two lists of the global batch, total (two losses), norm.
    """
    said: list[str] = []
    guard = Guard([], str, say=said.append)
    start, stop = parallel.share(len(case["per_pair"][0]), parallel.rank(), parallel.world_size())
    features, parts, nothing = [], [], torch.zeros(())
    for total, per_pair, gradients in zip(case["total"], case["per_pair"], case["gradients"], strict=True):
        h_pVD = torch.zeros(stop - start, 2, 3)
        h_pVD.grad = torch.tensor(gradients[start:stop])[:, None, None].expand(-1, 2, 3).clone()
        features.append(h_pVD)
        parts.append(Losses(torch.tensor(total), *[nothing] * 4, torch.tensor(per_pair)))
    try:
        guard.check(parts, features, torch.tensor(case["norm"]))
    except NotFiniteError as error:
        numbers = torch.arange(len(case["per_pair"][0]))[start:stop]
        guard.skip(7, error, [numbers, 100 + numbers])
        return {"is_bad": error.is_bad.tolist(), "said": said}
    return None


def skipped_steps(case: dict) -> dict:
    """Skip steps ("bad", or "expected" for an overflow) and take others ("good") while a BatchNorm sees features.

    `case`: steps, pairs (of each rank), bad (pairs of each rank), options (of Guard).
    """
    norm, said, error = nn.BatchNorm1d(2), [], None
    guard = Guard([norm], lambda i: f"face {i}", say=said.append, **case.get("options", {}))
    rank, pairs = parallel.rank(), case.get("pairs", 3)
    numbers, kept = 10 * rank + torch.arange(pairs), []
    is_bad = torch.isin(torch.arange(pairs), torch.tensor(case["bad"][rank]))
    for step, kind in enumerate(case["steps"], 1):
        guard.remember()
        before = [buffer.clone() for buffer in norm.buffers()]
        norm(torch.full((2, 2), float(step)) if kind == "good" else torch.full((2, 2), torch.nan))
        if kind == "good":
            guard.check([Losses(*[torch.zeros(())] * 5, torch.zeros(0))], [], torch.ones(()))
        else:
            try:
                guard.skip(step, NotFiniteError("the loss", is_bad), [numbers], kind == "expected")
            except ValueError as raised:
                error = str(raised)
        kept.append(all(torch.equal(*both) for both in zip(before, norm.buffers(), strict=True)))
        if error:
            break
    return {"kept": kept, "said": said, "error": error, "skipped": guard.skipped, "in_a_row": guard.in_a_row}


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


def first_error(case: dict) -> str:
    """What `objective_steps` complains about."""
    try:
        objective_steps(case)
    except ValueError as error:
        return str(error)
    return ""


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
        RunFolder(Path(paths[parallel.rank()])).open()
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


def features_of_numbers(count, fails=None):
    """First coordinates of the features that a rank gets of numbered images; or what it says of the one that fails."""
    try:
        return extract(number, Numbered(count, fails), "none").h[:, 0].tolist()
    except ValueError as error:
        return str(error)


def agree(facts):
    """What `must_agree` says to this rank, whose facts are at its place in the list."""
    try:
        parallel.must_agree("val_dir", facts[parallel.rank()])
    except ValueError as error:
        return str(error)
    return None


def messages_between_hosts() -> list[bool]:
    """Whether what is no tensor of a device goes through the group of the hosts, where there is one."""
    names = ("barrier", "all_gather_object", "all_reduce")
    with mock.patch.object(parallel, "_hosts", [dist.new_group()]), contextlib.ExitStack() as stack:
        spies = [stack.enter_context(mock.patch.object(dist, name, wraps=getattr(dist, name))) for name in names]
        parallel.barrier()
        parallel.must_agree("number", {"size": parallel.objects(parallel.rank())})
        parallel.most(parallel.rank())
        return [call.kwargs["group"] is parallel._hosts[0] for spy in spies for call in spy.call_args_list]


def find_checkpoint(folders):
    """The checkpoint that this rank goes on from, in the run folder at its place in the list."""
    return str(resume.find(Path(folders[parallel.rank()]) / "checkpoints", "auto", print).path)


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
    """`train` with a torch.compile that traces and makes no code, which would take a minute."""
    with mock.patch.object(torch, "compile", functools.partial(torch.compile, backend="eager")):
        return train(words)


def copies(tensors: dict) -> dict[str, torch.Tensor]:
    """Of a run's state; what comes in pieces is joined."""
    return {name: (torch.cat(x) if isinstance(x, list) else x).detach().clone() for name, x in tensors.items()}
