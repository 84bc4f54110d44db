"""Process groups: the only file that calls torch.distributed. With one process every function is a local no-op.

Shapes: `b` rows of this rank, `B` rows of all ranks, in rank order.
"""

import atexit
import contextlib
import datetime
import inspect
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

_hosts: list = [None]  # the group for messages between hosts; None: the default group
_joined = False  # whether this process is, or has been, in a group


class World(NamedTuple):
    """Who this process is."""

    rank: int
    size: int
    local_rank: int
    device: torch.device


def share(total: int, part: int, parts: int) -> tuple[int, int]:
    """The half-open range [start, stop) of `total` things that falls to `part` of `parts`: contiguous, sizes differ by
    one at most.
    """
    base, more = divmod(total, parts)
    start = part * base + min(part, more)
    return start, start + base + (part < more)


def own_share(total: int) -> tuple[int, int]:
    """The range of `total` things that falls to this rank."""
    return share(total, rank(), world_size())


def init(device: str = "auto", timeout_minutes: float = 30) -> World:
    """Join the group that torchrun describes in the environment (one process where it does not) and pick this rank's
    device.

    Raises:
        ValueError: `device` asks for a GPU that is not there.
    """
    global _joined
    size, local_rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_RANK", 0))
    chosen = choose_device(device, local_rank)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    timeout = datetime.timedelta(minutes=timeout_minutes)
    if size > 1 and not dist.is_initialized():
        with _ended_by_sigterm():
            dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=timeout)
        _joined = True
    if chosen.type == "cuda" and size > 1:
        _hosts[0] = dist.new_group(backend="gloo", timeout=timeout)
    return World(rank(), world_size(), local_rank, chosen)


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """A process that waits for one which has died does not come back to Python, where a handler could run; there is
    nothing to tidy up yet.
    """
    earlier = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def choose_device(device: str, local_rank: int = 0) -> torch.device:
    """The device that "auto", "cpu" or "cuda" means for this process.

    Raises:
        ValueError: another word, or a GPU that is not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device={device!r}: expected 'auto', 'cpu' or 'cuda'")
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if local_rank >= count:
        raise ValueError(
            f"device={device!r}: process {local_rank} asks for GPU {local_rank} and {count} are visible here; "
            f"use device=cpu, or start at most {max(count, 1)} processes (NPROC={max(count, 1)})"
        )
    return torch.device("cuda", local_rank)


def free_memory(device: torch.device) -> int | None:
    """Bytes that this rank may still take on its device: a CPU's processes share what is there. None: not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []
    available = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return available[0] // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if available else None


def shutdown() -> None:
    """Leave the group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def leave(code: int) -> None:
    """End a process that is or has been in a group, while others may be waiting in it; without a group do nothing.

    What is registered with atexit is done. The interpreter's own end is left out: it can destroy a thread of gloo that
    still waits, or has not ended yet, which aborts the process, and the exit code and the message would be the abort's.
    """
    if _joined:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def may_start_again() -> bool:
    """Whether the launcher starts processes again after a failure, or when machines come and go."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0


def rank() -> int:
    """This process's number, 0 without a group."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait until every rank is here."""
    if world_size() > 1:
        dist.barrier(group=_hosts[0])


def total(x: torch.Tensor) -> torch.Tensor:
    """`x` summed over ranks, in place, without a gradient."""
    if world_size() > 1:
        dist.all_reduce(x)
    return x


def largest(x: torch.Tensor) -> torch.Tensor:
    """The element-wise maximum of `x` over ranks, in place, without a gradient."""
    if world_size() > 1:
        dist.all_reduce(x, op=dist.ReduceOp.MAX)
    return x


def objects(value: object) -> list:
    """`value` of every rank, in rank order (small Python objects: messages, digests)."""
    if world_size() == 1:
        return [value]
    values: list = [None] * world_size()
    dist.all_gather_object(values, value, group=_hosts[0])
    return values


def token() -> str:
    """A word that all ranks have and no other start of the program."""
    return objects(uuid.uuid4().hex)[0]


def most(*values: int) -> list[int]:
    """The largest of each value over ranks; sent between hosts, so a GPU need not wait."""
    if world_size() == 1:
        return list(values)
    together = torch.tensor(values, dtype=torch.int64)
    dist.all_reduce(together, op=dist.ReduceOp.MAX, group=_hosts[0])
    return together.tolist()


def must_agree(what: str, facts: dict[str, object]) -> None:
    """Ranks that would train different things would hang, or worse, not hang.

    Args:
        what: "config", "data": what the facts are about.
        facts: small values that must be alike on every rank.

    Raises:
        ValueError: on every rank, naming the first fact that differs and who has what.
    """
    everyone = objects(facts)
    for other, theirs in enumerate(everyone):
        for name in everyone[0] | theirs:
            ours = everyone[0].get(name)
            if theirs.get(name) != ours:
                raise ValueError(
                    f"{what} differs between processes: {name}={ours!r} on rank 0, {theirs.get(name)!r} on rank "
                    f"{other}; give every machine the same"
                )


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return total(x.clone())

    @staticmethod
    def backward(ctx, grad):
        return grad


def sum_over_ranks(x: torch.Tensor) -> torch.Tensor:
    """The sum of every rank's `x`; what follows is computed alike on all ranks, so each rank's part gets the gradient
    as it is.
    """
    return x if world_size() == 1 else _Sum.apply(x)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, rows, dtype):
        ctx.range, ctx.dtype = share(rows, rank(), world_size()), x.dtype
        return _gather(x, rows).to(dtype)

    @staticmethod
    def backward(ctx, grad):
        start, stop = ctx.range
        return total(grad.contiguous())[start:stop].to(ctx.dtype), None, None


def gather_rows(x_b: torch.Tensor, rows: int, at_least: torch.dtype | None = None) -> torch.Tensor:
    """Every rank's rows, in rank order; rank r holds the range `share(rows, r, world_size())`.

    Each rank computes its own part of the loss from the result (its classes, its queue rows), so the backward pass sums
    the gradient over ranks, in the result's precision, and returns this rank's rows.

    Args:
        x_b: (b, ...), any floating or integer dtype.
        rows: B.
        at_least: a lower precision is sent as it is and widened on arrival.

    Returns:
        (B, ...).
    """
    dtype = x_b.dtype if at_least is None else torch.promote_types(x_b.dtype, at_least)
    if world_size() == 1:
        return x_b.to(dtype)
    return _Gather.apply(x_b, rows, dtype) if x_b.requires_grad else _gather(x_b, rows).to(dtype)


def _gather(x_b: torch.Tensor, rows: int) -> torch.Tensor:
    ranges = [share(rows, r, world_size()) for r in range(world_size())]
    longest = ranges[0][1] - ranges[0][0]
    padded = x_b.detach().new_zeros(longest, *x_b.shape[1:])
    padded[: len(x_b)] = x_b.detach()
    everything = [torch.empty_like(padded) for _ in ranges]
    dist.all_gather(everything, padded)
    return torch.cat([part[: stop - start] for part, (start, stop) in zip(everything, ranges, strict=True)])


def data_parallel(module: nn.Module, device: torch.device) -> nn.Module:
    """`module` with gradients summed over ranks (each rank's loss is already its part of the global mean)."""
    if world_size() == 1:
        return module
    device_ids = [device.index] if device.type == "cuda" else None
    known = inspect.signature(DistributedDataParallel).parameters  # torch 2.13 renames the option
    option = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {option: False}
    wrapped = DistributedDataParallel(module, device_ids=device_ids, **options)
    wrapped.register_comm_hook(None, _sum_hook)
    return wrapped


def _sum_hook(_: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    if bucket.buffer().device.type == "cpu":
        return _sum_each(bucket)
    future = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
    return future.then(lambda done: done.value()[0])


def _sum_each(bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """Each parameter's gradient on its own: a ring adds up the ranks in an order that depends on the place in the
    message, and DDP lays its buckets out anew after the first step, so a resumed run would differ in the last bits.
    """
    sums = [dist.all_reduce(gradient, async_op=True).get_future() for gradient in bucket.gradients()]
    return torch.futures.collect_all(sums).then(lambda _: bucket.buffer())


@torch.no_grad()
def share_buffers(module: nn.Module) -> None:
    """Give every rank rank 0's buffers (running statistics of BatchNorm): for evaluation, all must be one model."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)
