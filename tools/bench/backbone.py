"""Backbones: samples a second of every way to run one, against the plain one, and the share of the machine's peak.

The peak is that of a large matrix product in the same process, dtype and number of threads, in turn with the rest.
FLOPs are those of convolutions and matrix products, two for each multiplication and addition: those that a pass needs.
"""

import copy
from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from recognition.backbones import get_backbone
from tools.bench.measure import Row, Step, seconds
from utils import parallel

D, SIDE = 512, 112
NETWORKS = ("small", "r34")
PASSES = ("forward", "forward and backward")


class Way(NamedTuple):
    """A copy of the network, and how it is run."""

    network: nn.Module
    memory_format: torch.memory_format = torch.contiguous_format
    dtype: torch.dtype = torch.float32


def rows(quick: bool, networks: tuple[str, ...] = ()) -> list[Row]:
    """Network by network, forward alone and with its backward pass."""
    device = parallel.choose_device("auto")
    names = networks or (("tiny",) if quick else NETWORKS)
    return [row for name in names for both in (False, True) for row in of_network(name, both, device, quick)]


def of_network(name: str, backward: bool, device: torch.device, quick: bool) -> list[Row]:
    """Every way against the plain one, then each way's share of the peak."""
    batch, side, runs = (2, 256, 2) if quick else (32, 2048 if device.type == "cpu" else 8192, 5)
    case, flops = f"{name}, {PASSES[backward]}", batch * flops_of_a_sample(name, backward)
    x = torch.randn(batch, 3, SIDE, SIDE, device=device)
    ways = _ways(get_backbone(name, D).to(device).train(backward), device, compiled=not quick)
    steps = {way: partial(_run, made, x.contiguous(memory_format=made.memory_format), backward)
             for way, made in ways.items()}  # fmt: skip
    steps = {way: step for way, step in steps.items() if _works(f"{case}: {way}", step)}
    dtypes = {ways[way].dtype for way in steps}
    took = seconds(steps | {str(dtype): _product(side, dtype, device) for dtype in dtypes}, runs)
    print(f"{case}: {flops / batch / 1e9:.3g} GFLOP a sample, batch {batch}, {device}")
    speed = {way: batch / took[way] for way in steps}
    rows = [Row(f"{case}: {way}", "1/s", speed["plain"], speed[way], higher=True) for way in steps if way != "plain"]
    for way in steps:
        peak = 2 * side**3 / took[str(ways[way].dtype)]
        rows.append(Row(f"{case}: {way}, of the peak", "GFLOP/s", peak / 1e9, flops / took[way] / 1e9, higher=True))
    return rows


def flops_of_a_sample(name: str, backward: bool) -> int:
    """Counted on shapes alone."""
    with torch.device("meta"):
        network, x = get_backbone(name, D).eval(), torch.empty(1, 3, SIDE, SIDE)
    with FlopCounterMode(display=False) as counter:
        h = network(x)
        if backward:
            h.sum().backward()
    return counter.get_total_flops()


def _ways(network: nn.Module, device: torch.device, compiled: bool) -> dict[str, Way]:
    last = torch.channels_last
    ways = {"plain": Way(network), "channels_last": Way(copy.deepcopy(network).to(memory_format=last), last)}
    ways["bfloat16, channels_last"] = Way(copy.deepcopy(network).to(memory_format=last), last, torch.bfloat16)
    if compiled:
        ways["compiled"] = Way(torch.compile(copy.deepcopy(network)))
        made = torch.compile(copy.deepcopy(network).to(memory_format=last))
        ways["compiled, channels_last"] = Way(made, last)
        ways["compiled, bfloat16, channels_last"] = Way(made, last, torch.bfloat16)
    return ways


def _run(way: Way, x: torch.Tensor, backward: bool) -> None:
    """One pass, waited for."""
    with (
        torch.set_grad_enabled(backward),
        torch.autocast(x.device.type, way.dtype, enabled=way.dtype != torch.float32),
    ):
        h = way.network(x)
    if backward:
        h.float().square().mean().backward()
        way.network.zero_grad()
    float(h.detach()[0, 0])  # a GPU answers when it is ready


def _works(name: str, step: Step) -> bool:
    """Run it once; a way that this machine lacks something for is left out, and said."""
    try:
        step()
    except Exception as error:  # the compiler's own classes, or a CPU without bfloat16
        print(f"skipped {name}: {' '.join(str(error).split())[:200] or type(error).__name__}")
        if name.endswith(": plain"):
            raise
        return False
    return True


def _product(side: int, dtype: torch.dtype, device: torch.device) -> Step:
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))

    def product() -> None:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32  # as convolutions compute
        float((a @ b)[0, 0])
        torch.backends.cuda.matmul.allow_tf32 = before

    return product
