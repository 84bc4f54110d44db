"""A training to which something happens at a named point, step and rank; the parts of it are patched from outside.

    python injection.py '[{"at": "forward", "step": 3, "rank": 1, "what": "kill"}]' CONFIG key=value ...

A fault is {"at": point, "step": number (0: before the first), "rank": number, "what": how} and what `how` needs.
Points: "start" (the network is made), "forward", "backward", "evaluation" (its first batch); of the checkpoint of a
step: "before FILE", "half of FILE" (half of its bytes are written), "before the rename", "before pruning", "before
model.pt".
"""

import contextlib
import errno
import io
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch

import train as train_py
from recognition import run as run_py
from utils import parallel
from utils.checkpoint import Saver, saver
from utils.cli import user_errors
from utils.stop import launcher

MINUTE = 60


def kill(fault: dict) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def suspend(fault: dict) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def hang(fault: dict) -> None:
    time.sleep(10 * MINUTE)


def kill_the_launcher(fault: dict) -> None:
    os.kill(launcher().pid, signal.SIGKILL)


def ask_to_stop(fault: dict) -> None:
    """Signal the launcher, and go on when it has heard."""
    os.kill(launcher().pid, getattr(signal, fault["signal"]))
    deadline = time.monotonic() + MINUTE
    while not os.path.exists(launcher().stop_file):
        assert time.monotonic() < deadline, "the launcher has not heard the signal"
        time.sleep(0.005)


def kill_a_loader(fault: dict) -> None:
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)


def fill_the_disk(fault: dict) -> None:
    """What is being written raises; or an open file of that name is on a full disk from now on."""
    if "file" not in fault:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    (handle,) = [name for name in os.listdir("/proc/self/fd") if file_behind(name) == fault["file"]]
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, int(handle))
    os.close(full)


def file_behind(descriptor: str) -> str | None:
    """None: closed since it was listed, by another thread or as the one that listed it."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return None


def remove_the_folder(fault: dict) -> None:
    while os.path.exists(fault["folder"]):  # another thread may be writing into it
        shutil.rmtree(fault["folder"], ignore_errors=True)


def lose_the_other_part(fault: dict) -> None:
    """The folder that both ranks write into goes when the other has written, and is made again."""
    deadline = time.monotonic() + MINUTE
    while not (fault["path"].parent / "rank_1.json").exists():
        assert time.monotonic() < deadline, "the other rank has not written"
        time.sleep(0.005)
    shutil.rmtree(fault["path"].parent)
    fault["path"].parent.mkdir()


HAPPENS = {function.__name__: function for function in (
    kill, suspend, hang, kill_the_launcher, ask_to_stop, kill_a_loader, fill_the_disk, remove_the_folder,
    lose_the_other_part,
)}  # fmt: skip


class Injection:
    """The patched parts; `step` is the one that training is at."""

    def __init__(self, faults: list[dict]):
        self.faults, self.step = list(faults), 0
        self.make_network, self.make_schedule = train_py.get_backbone, train_py.make_schedule
        self.write_tensors, self.write_json, self.prune = saver.write_tensors, saver._write_json, saver.prune
        self.save_model, self.put = run_py.save_model, Saver._put

    def at(self, point: str, step: int) -> list[dict]:
        place = (point, step, parallel.rank())
        return [fault for fault in self.faults if (fault["at"], fault["step"], fault["rank"]) == place]

    def reach(self, point: str, step: int, path: Path | None = None) -> None:
        for fault in self.at(point, step):
            if fault["what"] in HAPPENS:
                self.faults.remove(fault)  # once
                HAPPENS[fault["what"]]({**fault, "path": path})

    def network(self, *arguments, **options) -> torch.nn.Module:
        """With hooks; nothing of it has another name."""
        self.reach("start", 0)
        network = self.make_network(*arguments, **options)
        network.register_forward_pre_hook(self.forward)
        next(network.parameters()).register_hook(lambda gradient: self.reach("backward", self.step))
        return network

    def forward(self, network: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor] | None:
        if not network.training:
            self.reach("evaluation", self.step)
            return None
        self.reach("forward", self.step)
        rows = [fault["row"] for fault in self.at("forward", self.step) if fault["what"] == "nan"]
        return (inputs[0].index_fill(0, torch.tensor(rows), float("nan")),) if rows else None

    def schedule(self, *arguments):
        """Asked for the learning rate of every step, before the rest of it."""
        rate = self.make_schedule(*arguments)

        def noted(steps_taken: int) -> float:
            self.step = steps_taken + 1
            return rate(steps_taken)

        return noted

    def tensors(self, path: Path, tensors: dict) -> None:
        step = step_of(path.parent)
        self.reach(f"before {path.name}", step, path)
        self.write_tensors(path, tensors)
        if self.at(f"half of {path.name}", step):
            os.truncate(path, path.stat().st_size // 2)
            self.reach(f"half of {path.name}", step)

    def json(self, path: Path, value: dict) -> None:
        self.reach(f"before {path.name}", step_of(path.parent))
        self.write_json(path, value)

    def rename(self, _: Saver, beside: Path, final: Path) -> None:
        self.saved = step_of(final)
        self.reach("before the rename", self.saved)
        self.put(_, beside, final)

    def pruning(self, *arguments) -> list[Path]:
        self.reach("before pruning", self.saved)
        return self.prune(*arguments)

    def model(self, *arguments, **options) -> None:
        self.reach("before model.pt", self.saved)
        self.save_model(*arguments, **options)


def step_of(folder: Path) -> int:
    """Of step_00000012 and .step_00000012.abc123."""
    return int(folder.name.lstrip(".").removeprefix("step_").split(".")[0])


@contextlib.contextmanager
def inject(faults: list[dict]) -> Iterator[None]:
    """Let these faults happen within the block."""
    parts = Injection(faults)
    with (
        mock.patch.object(train_py, "get_backbone", parts.network),
        mock.patch.object(train_py, "make_schedule", parts.schedule),
        mock.patch.object(run_py, "save_model", parts.model),
        mock.patch.object(saver, "write_tensors", parts.tensors),
        mock.patch.object(saver, "_write_json", parts.json),
        mock.patch.object(saver, "prune", parts.pruning),
        mock.patch.object(saver, "PATIENCE", 0.5),
        mock.patch.object(Saver, "_put", lambda *arguments: parts.rename(*arguments)),
    ):
        yield


def train(words: list[str], faults: list[dict]) -> tuple[str, str]:
    """For tests/gloo.py: such a run on this group, where no process dies; what it printed, and its error or ""."""
    from tests import ranks

    said, error = io.StringIO(), ""
    with inject(faults), contextlib.redirect_stdout(said):
        try:
            ranks.train(words)
        except (ValueError, OSError) as trouble:
            error = str(trouble)
    return said.getvalue(), error


if __name__ == "__main__":
    with user_errors(), inject(json.loads(sys.argv[1])):
        own = [fault["word"] for fault in json.loads(sys.argv[1]) if fault["rank"] == int(os.environ["RANK"])
               and fault["what"] == "word"]  # fmt: skip
        code = train_py.main([*sys.argv[2:], *own])
        parallel.leave(code)
        sys.exit(code)
