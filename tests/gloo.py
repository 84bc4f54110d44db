"""Groups of gloo processes that live through the test session: starting one costs seconds, a call to it
milliseconds.
"""

import contextlib
import os
import tempfile
import traceback
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

_groups: dict[int, "Group"] = {}


def run(world_size: int, function: Callable, *arguments: object) -> list:
    """`function(*arguments)` on every rank of a gloo group; its results in rank order.

    `function` must be importable by name (tests/ranks/ holds them). With one rank it runs in this process, without a
    group.
    """
    if world_size == 1:
        return [function(*arguments)]
    if world_size not in _groups:
        _groups[world_size] = Group(world_size)
    return _groups[world_size].call(function, arguments)


def close() -> None:
    """End all groups."""
    for group in _groups.values():
        group.close()
    _groups.clear()


class Group:
    """`world_size` processes that wait for calls."""

    def __init__(self, world_size: int):
        context = mp.get_context("forkserver")
        context.set_forkserver_preload(["tests.conftest", "tests.ranks"])  # imported once for all, with shapes checked
        self.folder = tempfile.TemporaryDirectory()
        self.pipes, self.processes = [], []
        for rank in range(world_size):
            ours, theirs = context.Pipe()
            arguments = (rank, world_size, os.path.join(self.folder.name, "store"), theirs)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)

    def call(self, function: Callable, arguments: tuple) -> list:
        answers = [(False, "it has ended") for _ in self.pipes]
        with contextlib.suppress(ConnectionError, EOFError):
            for pipe in self.pipes:
                pipe.send((function, arguments))
            answers = [pipe.recv() if pipe.poll(120) else (False, "no answer within 120 s") for pipe in self.pipes]
        failed = [f"rank {rank}: {value}" for rank, (good, value) in enumerate(answers) if not good]
        if failed:
            _groups.pop(len(self.pipes), None)
            self.close()
            raise AssertionError("\n".join(failed))
        return [value for _, value in answers]

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
            process.join()
        self.folder.cleanup()


def _serve(rank: int, world_size: int, store: str, pipe) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    while True:
        function, arguments = pipe.recv()
        try:
            pipe.send((True, function(*arguments)))
        except BaseException:
            pipe.send((False, traceback.format_exc()))
