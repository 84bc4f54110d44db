"""The log of a run that is killed and resumed is the log of a run that was not."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.logged import STEPS, curves, drawn, lines, run, same, tear
from utils.append_file import AppendFile
from utils.log import RunLog


@pytest.mark.parametrize("frequent", [1, 3, 5])
def test_a_run_killed_at_any_moment_and_resumed_from_any_checkpoint_logs_as_if_it_had_not_been(
    no_sync, tmp_path, frequent
):
    moments = sum(1 for _ in run(tmp_path / "whole", frequent, {}))
    assert [line["step"] for line in lines(tmp_path / "whole") if "lr" in line][-1] == STEPS
    for moment in range(1, moments + 1):
        killed, checkpoints = tmp_path / f"{moment}", {}
        list(itertools.islice(run(killed, frequent, checkpoints), moment))
        tear(killed)
        for start in [0, *checkpoints]:
            folder = tmp_path / f"{moment}_{start}"
            shutil.copytree(killed, folder)
            before = (folder / "metrics.jsonl").read_text()
            list(run(folder, frequent, dict(checkpoints), start))
            same(folder, tmp_path / "whole")
            kept = [line for line in before.splitlines()[:-1] if json.loads(line)["step"] <= start]
            assert (folder / "metrics.jsonl").read_text().splitlines()[: len(kept)] == kept


def test_a_run_may_be_killed_and_resumed_many_times(no_sync, tmp_path):
    list(run(tmp_path / "whole", 3, {}))
    checkpoints = {}
    for moments in (9, 1, 5, 11, 2):
        start = max([0, *checkpoints])
        list(itertools.islice(run(tmp_path / "killed", 3, checkpoints, start), moments))
        tear(tmp_path / "killed")
    list(run(tmp_path / "killed", 3, checkpoints, 4))
    same(tmp_path / "killed", tmp_path / "whole")
    assert len(list((tmp_path / "killed" / "tensorboard").iterdir())) <= 2  # the file, and an empty one


class Killed(BaseException):
    """Ends a run in the middle of a call."""


def killed_before(monkeypatch, call: int, moments) -> bool:
    """Run until the log is about to change a file for the `call`-th time; False if it ends before."""
    calls = itertools.count(1)

    def patched(change):
        def counted(*arguments):
            if next(calls) == call:
                raise Killed
            return change(*arguments)

        return counted

    with monkeypatch.context() as patch:
        for place, name in ((AppendFile, "update"), (os, "truncate"), (os, "replace")):
            patch.setattr(place, name, patched(getattr(place, name)))
        try:
            list(moments)
        except Killed:
            return True
    return False


def test_a_run_killed_while_it_writes_and_again_while_it_resumes(no_sync, monkeypatch, tmp_path):
    list(run(tmp_path / "whole", 3, {}))
    calls = 0
    for call in itertools.count(1):
        checkpoints, killed = {}, tmp_path / f"{call}"
        killed.mkdir()
        if not killed_before(monkeypatch, call, run(killed, 3, checkpoints)):
            break
        start = max([0, *checkpoints])
        for again in range(1, 9):
            folder = tmp_path / f"{call}_{again}"
            shutil.copytree(killed, folder)
            assert killed_before(monkeypatch, again, run(folder, 3, dict(checkpoints), start))
            list(run(folder, 3, dict(checkpoints), start))
            same(folder, tmp_path / "whole")
        calls += 1
    assert calls > 2 * STEPS


ENDLESS = """
import sys
from pathlib import Path
from utils.log import RunLog

log = RunLog(Path(sys.argv[1]), 10**6, 0, enabled=True)
for step in range(1, 10**6):
    rest = dict.fromkeys(("epoch", "lr", "loss_classification", "loss_contrastive", "lq_pairs"), step / 7)
    log.step(step, 8, rest)
    log.scalars(step, {"val/lfw/accuracy": 1 / step})
"""


def test_sigkill(tmp_path, root):
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)], cwd=root, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (tmp_path / "metrics.jsonl").exists() and (tmp_path / "metrics.jsonl").stat().st_size > 50_000:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    log = RunLog(tmp_path, 10**6, last - 3, enabled=True)
    log.close()
    assert [line["step"] for line in lines(tmp_path)] == [step for step in range(1, last - 2) for _ in range(2)]
    assert curves(tmp_path) == drawn(lines(tmp_path))


def test_an_open_tensorboard_follows_a_resumed_run(no_sync, tmp_path):
    list(itertools.islice(run(tmp_path, 1, checkpoints := {}), 19))
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("train/loss_classification")] == list(range(1, 9))
    list(run(tmp_path, 1, checkpoints, 3))
    board.Reload()
    assert [event.step for event in board.Scalars("train/loss_classification")] == list(range(1, STEPS + 1))
    assert [event.step for event in board.Scalars("val/lfw/accuracy")] == [4, 8]
