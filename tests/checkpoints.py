"""Small checkpoints for tests, on one rank or by the ranks of tests/gloo.py."""

import errno
import os
import shutil
import time
from pathlib import Path
from unittest import mock

import torch

from utils import parallel
from utils.checkpoint import Saver, check, every, saver

ROWS = 4  # of each rank


def shared(step: int) -> dict[str, torch.Tensor]:
    """What all ranks have after a step."""
    return {"backbone.weight": torch.arange(300.0).view(3, 100) + step, "count": torch.tensor(step)}


def sharded(step: int, rank: int = 0) -> dict[str, torch.Tensor]:
    """What a rank has after a step."""
    return {"head.weight": torch.full((ROWS, 2), float(10 * step + rank)), "head.start": torch.tensor(ROWS * rank)}


def save(saver: Saver, step: int) -> None:
    """Save what a step left; `finish` waits for it."""
    saver.save(step, shared(step), sharded(step, parallel.rank()), {"number": step})


def write(folder: Path, *steps: int, **options: int) -> list[Path]:
    """Save these steps on one rank; the checkpoints that are there then."""
    saver = Saver(folder, options.pop("keep", 99), **options)
    for step in steps:
        save(saver, step)
        saver.finish()
    return every(folder)


def steps(folder: Path) -> list[int]:
    """The steps of the checkpoints that are there, all of which must be whole."""
    for path in every(folder):
        assert check(path) == [], path
    return [int(path.name[5:]) for path in every(folder)]


def saved_by_ranks(folder: Path, troubles: dict[tuple[int, int], str]) -> dict:
    """On each rank: save step 1, then step 2 while its tensor files make trouble; what it sees.

    Args:
        troubles: (rank, how manieth attempt at step 2, from 1) -> "full": the disk is; "gone": the folder disappears
            when all other ranks have written; "lost": so it did, but another rank has made it again and written;
            "late": it writes when the checkpoint is there, or half a second later.
    """
    rank, attempts, seen = parallel.rank(), [], {"early": False, "done": []}
    made = Saver(folder, 5, done=lambda shared: seen["done"].append(int(shared["count"])))
    save(made, 1)
    made.finish()
    write_tensors = saver.write_tensors

    def writing(path: Path, tensors: dict) -> None:
        if path.name.startswith("rank_"):
            attempts.append(path)
            trouble = troubles.get((rank, len(attempts)))
            if trouble == "full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if trouble in ("gone", "lost"):
                wait(lambda: len(list(path.parent.glob("rank_*.json"))) == parallel.world_size() - 1, 20)
            if trouble == "gone":
                shutil.rmtree(path.parent)
            if trouble == "lost":
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if trouble == "late":
                seen["early"] = wait((folder / "step_00000002").exists, 0.5)
        write_tensors(path, tensors)

    with mock.patch.object(saver, "write_tensors", writing):
        try:
            save(made, 2)
            made.finish()
        except OSError as error:
            seen["error"] = str(error)
    return {**seen, "attempts": len(attempts)}


def wait(condition, seconds: float) -> bool:
    """Until it holds, or so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
