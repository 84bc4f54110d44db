"""The state of a run, saved and loaded in every format, on one process or on two."""

import multiprocessing
import os
import shutil
import socket
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn.functional import normalize

from recognition.backbones import get_backbone
from recognition.head import ClassShard
from recognition.margins import make_margin
from recognition.objective import Objective
from recognition.pools import ProxyQueue
from recognition.row_optimizer import RowOptimizer
from recognition.state import TrainingState
from tools.bench.measure import MIB, peak_mib, seconds
from utils import parallel

D = 512
Found = dict[str, dict[str, float]]  # format -> what was measured: seconds and MiB


class Sizes(NamedTuple):
    """What is saved, and how often."""

    network: str
    classes: int
    runs: int


def make_state(sizes: Sizes) -> TrainingState:
    """The state of a run, with a full queue whose newest rows go round the end of the ring, as they mostly do."""
    torch.manual_seed(0)
    backbone = get_backbone(sizes.network, D)
    optimizer = torch.optim.SGD(backbone.parameters(), 0.1, 0.9)
    for parameter in backbone.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    head = ClassShard(sizes.classes, D)
    queue = ProxyQueue(sizes.classes, head, D)
    filler = normalize(torch.randn(1024, 1, D), dim=2)
    for y in (torch.arange(sizes.classes * 3 // 2) % sizes.classes).split(1024):
        queue.enqueue(filler[: len(y)], y)
    objective = Objective(head, make_margin("adaface"), queue)
    return TrainingState(backbone, objective, optimizer, RowOptimizer("sgd", head.weight, 0.9, 5e-4))


def save_and_load(state: TrainingState, folder: Path, runs: int) -> Found:
    """Save in every format and load it again; the last save of each stays in `folder`. All ranks together."""
    from tools.bench.checkpoint.formats import formats  # slow to import

    made = [kind(state, folder / kind.name) for kind in formats()]
    peaks, times, found = {}, {way.name: [] for way in made}, {}
    for _ in range(runs):
        for way in made:
            _renew(folder / way.name)
            peak = peak_mib(lambda way=way: times[way.name].append(_save(way)))
            peaks.setdefault(way.name, max(parallel.objects(peak)))  # of the first: ours keeps the memory of its copies
            times[way.name][-1] = max(parallel.objects(times[way.name][-1]))
    for name, pairs in times.items():
        stops, writes = map(statistics.median, zip(*pairs, strict=True))
        size = sum(path.stat().st_size for path in (folder / name).rglob("*") if path.is_file())
        found[name] = {"stops": stops, "writes": writes, "peak": peaks[name], "files": size / MIB}
    del made, way
    for name, values in time_loads(state, folder, runs, resharded=False).items():
        found[name] |= values
    return found


def _renew(folder: Path) -> None:
    parallel.barrier()
    if parallel.rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    parallel.barrier()


def _save(way) -> tuple[float, float]:
    """Seconds until training may go on, and until all is on the disk."""
    start = time.perf_counter()
    way.save()
    stops = time.perf_counter() - start
    way.finish()
    return stops, time.perf_counter() - start


def time_loads(state: TrainingState, folder: Path, runs: int, resharded: bool) -> Found:
    """Load what `save_and_load` left in `folder`, saved by as many ranks or, `resharded`, by another number."""
    from tools.bench.checkpoint.formats import formats

    made = [kind(state, folder / kind.name) for kind in formats() if kind.loads and (kind.reshards or not resharded)]
    for way in made:
        _must_come_back(state, way)

    def load(way) -> None:
        parallel.barrier()
        way.load()
        parallel.barrier()

    took = seconds({way.name: lambda way=way: load(way) for way in made}, runs, 0)
    return {name: {"load": value} for name, value in took.items()}


def _must_come_back(state: TrainingState, way) -> None:
    """A load that puts nothing back would be the fastest."""
    some = state.head.weight[:: max(len(state.head.weight) // 7, 1)]
    before = some.clone()
    state.head.weight.zero_()
    way.load()
    if not torch.equal(some, before):
        raise AssertionError(f"{way.name} did not put W back")


def on_two_ranks(sizes: Sizes, own: Path, other: Path) -> tuple[Found, Found]:
    """Save and load on two new processes in `own`, and load what one process has saved in `other`.

    Raises:
        RuntimeError: one of them ended without an answer; it has said why.
    """
    context = multiprocessing.get_context("spawn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free.getsockname()[1]}
    answer, answers = context.Pipe(duplex=False)
    processes = [
        context.Process(target=_rank, args=(where | {"RANK": rank, "LOCAL_RANK": rank}, answers, sizes, own, other))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    answers.close()
    try:
        return answer.recv()
    except EOFError:
        raise RuntimeError("the benchmark has failed on two ranks") from None
    finally:
        for process in processes:
            process.join()


def _rank(where: dict[str, object], answers: Connection, sizes: Sizes, own: Path, other: Path) -> None:
    torch.set_num_threads(max(torch.get_num_threads() // 2, 1))
    os.environ.update({key: str(value) for key, value in where.items()})
    parallel.init("cpu")
    state = make_state(sizes)
    found = save_and_load(state, own, sizes.runs), time_loads(state, other, sizes.runs, resharded=True)
    if parallel.rank() == 0:
        answers.send(found)
    parallel.shutdown()
