"""The log of a run that is killed and resumed is the log of a run that was not."""

import errno
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from utils.append_file import AppendFile
from utils.log import Means, RunLog

STEPS, EVALUATE, EPOCH, DIAGNOSE = 10, 4, 5, 5
REST = {"epoch": 0, "lr": 0.1, "skipped": 0, "grad_norm": float("inf")}


def losses(step: int) -> SimpleNamespace:
    parts = (torch.rand(4, generator=torch.Generator().manual_seed(step)) * 1e3).unbind()
    return SimpleNamespace(classification=parts[0], contrastive=parts[1], hq_share=parts[2], lq_pairs=parts[3])


def evaluate(log: RunLog, step: int) -> None:
    log.scalars(step, {"val/lfw/accuracy": 1 / step, "val/lfw/eer": float("nan")})


def diagnosis(step: int) -> tuple[dict, dict]:
    values = [step + number / 7 for number in range(40)]
    mean, std = torch.tensor(values).mean().item(), torch.tensor(values).std(correction=0).item()
    counts = [step, 0, 40 - step]
    histogram = {"least": values[0], "most": values[-1], "mean": mean, "std": std, "counts": counts}
    return {"lq_pairs": 1 / step, "grad_cosine": float("nan")}, {"z_original": histogram, "z_hat_augmented": histogram}


def run(folder: Path, frequent: int, checkpoints: dict[int, str], start: int = 0):
    """A training loop in small; yields at every moment at which it can be killed. A checkpoint is one of each step."""
    log, means = RunLog(folder, STEPS, start, enabled=True), Means()
    if start:
        means.load_state_dict(json.loads(checkpoints[start]))
        if start % EVALUATE == 0 and not log.has_evaluation(start):
            evaluate(log, start)
    yield
    for step in range(start + 1, STEPS + 1):
        means.add([losses(step), losses(-step)])
        log.step(step, 8, {**REST, **means.take()} if step % frequent == 0 or step == STEPS else None)
        yield
        log.diagnosis(step, diagnosis(step) if step % DIAGNOSE == 0 else None)
        if step % DIAGNOSE == 0:
            yield
        if step % EPOCH == 0:
            log.damaged(step, step // EPOCH - 1, ["train.rec: key 3", "train.rec: key \udcff"])
            yield
        log.flush()
        checkpoints[step] = json.dumps(means.state_dict())
        yield
        if step % EVALUATE == 0:
            evaluate(log, step)
            yield
    log.close()


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def lines(folder: Path) -> list[dict]:
    """metrics.jsonl without what differs from run to run."""
    every = read(folder / "metrics.jsonl")
    return [{name: line[name] for name in line if name not in ("time", "samples_per_s")} for line in every]


def events(folder: Path) -> list[tuple]:
    """What is in TensorBoard's files, in their order."""
    files = sorted((folder / "tensorboard").glob("*tfevents*"))
    found = [event for file in files for event in LegacyEventFileLoader(str(file)).Load()]
    return [(event.step, value) for event in found for value in event.summary.value]


def curves(folder: Path) -> list[tuple]:
    """Of these the numbers."""
    found = [(step, value.tag, value.simple_value) for step, value in events(folder) if not value.HasField("histo")]
    return [point for point in found if point[1] != "train/samples_per_s"]


def histograms(folder: Path) -> list[tuple]:
    """Of these the histograms."""
    found = [(step, value) for step, value in events(folder) if value.HasField("histo")]
    return [(step, value.tag, value.histo.min, value.histo.max, [*value.histo.bucket]) for step, value in found]


def drawn(written: list[dict]) -> list[tuple]:
    """What lines of metrics.jsonl are in TensorBoard."""
    return [
        (
            line["step"],
            name if name.startswith(("val/", "diag/")) else f"train/{name}",
            pytest.approx(line[name], rel=1e-6),
        )
        for line in written
        for name in line
        if name not in ("step", "epoch") and line[name] is not None
    ]


def same(folder: Path, whole: Path) -> None:
    assert lines(folder) == lines(whole)
    assert (folder / "damaged.txt").read_bytes() == (whole / "damaged.txt").read_bytes()
    assert curves(folder) == curves(whole) == drawn(lines(whole))
    seen = [(step, diagnosis(step)[1]) for step in range(DIAGNOSE, STEPS + 1, DIAGNOSE)]
    kept = read(folder / "diagnostics.jsonl")
    assert [{name: line[name] for name in line if name != "time"} for line in kept] == [
        {"step": step, **shapes} for step, shapes in seen
    ]
    assert histograms(folder) == [
        (step, f"diag/{name}", shape["least"], shape["most"], shape["counts"])
        for step, shapes in seen
        for name, shape in shapes.items()
    ]


def tear(folder: Path) -> None:
    """The tails that a kill leaves."""
    for name, tail in (
        ("metrics.jsonl", '{"step": 1, "ti'),
        ("damaged.txt", "step 1\tepoch 0\ttrain.r"),
        ("diagnostics.jsonl", '{"step": 1, "time": 1.0, "z_or'),
    ):
        with (folder / name).open("a") as file:
            file.write(tail)
    with max((folder / "tensorboard").iterdir()).open("ab") as file:
        file.write(b"\x18\0\0\0\0\0\0\0\xa3")


@pytest.fixture
def no_sync(monkeypatch):
    """A killed process needs no sync to the disk, which takes most of the time."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


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


def test_an_evaluation_is_written_once(tmp_path):
    log = RunLog(tmp_path, STEPS, 0, enabled=True)
    assert not log.has_evaluation(4)
    evaluate(log, 4)
    log.scalars(4, {"val/lfw/accuracy": 0.5, "val/agedb/accuracy": 0.75})
    assert log.has_evaluation(4)
    log.close()
    assert lines(tmp_path) == [
        {"step": 4, "val/lfw/accuracy": 0.25, "val/lfw/eer": None},
        {"step": 4, "val/agedb/accuracy": 0.75},
    ]


def test_other_ranks_write_nothing(tmp_path):
    log = RunLog(tmp_path, STEPS, 0, enabled=False)
    log.step(1, 8, {**REST})
    evaluate(log, 1)
    log.damaged(1, 0, ["train.rec: key 3"])
    log.diagnosis(1, diagnosis(1))
    log.flush()
    log.close()
    assert not list(tmp_path.iterdir())


def test_a_line_that_cannot_be_read_costs_no_other(tmp_path, capsys):
    list(run(tmp_path, 1, {}))
    whole = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)
    wrong = ["\0\0\0\n", "[1]\n", '{"step": "4", "time": 1.0}\n', '{"step": 4, "time": 1.0, "lr": "low"}\n', "{}\n"]
    (tmp_path / "metrics.jsonl").write_text("".join([*whole[:5], *wrong, *whole[5:]]).rstrip("\n"))
    RunLog(tmp_path, STEPS, STEPS, enabled=True).close()
    assert (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True) == whole
    assert f"{len(wrong)} unreadable lines" in capsys.readouterr().out
    assert curves(tmp_path) == drawn(lines(tmp_path))


# ----- a disk that is full


def fill(folder: Path, name: str) -> None:
    """From now on the open file of that name is on a full disk."""
    (file,) = folder.rglob(name)
    (handle,) = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink() and link.resolve() == file]
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, int(handle.name))
    os.close(full)


def message(name: str, reason: int) -> str:
    return rf"{name}.* cannot be written: {os.strerror(reason)}; make room and start again with the same command$"


@pytest.mark.parametrize("name", ["metrics.jsonl", "events.out.tfevents", "damaged.txt", "diagnostics.jsonl"])
def test_a_full_disk_is_one_error_and_the_next_start_goes_on(no_sync, tmp_path, name):
    list(run(tmp_path / "whole", 1, {}))
    checkpoints = {}
    writing = run(tmp_path / "full", 1, checkpoints)
    list(itertools.islice(writing, 15))  # until something has been written to damaged.txt
    fill(tmp_path / "full", f"{name}*")
    with pytest.raises(OSError, match=message(name, errno.ENOSPC)) as caught:
        list(writing)
    assert "\n" not in str(caught.value)
    list(run(tmp_path / "full", 1, checkpoints, max(checkpoints)))
    same(tmp_path / "full", tmp_path / "whole")


def test_a_run_that_goes_on_after_a_full_disk_has_no_gap(tmp_path):
    log = RunLog(tmp_path, STEPS, 0, enabled=True)
    for step in range(1, 6):
        if step == 3:
            fill(tmp_path, "metrics.jsonl")
            with pytest.raises(OSError, match=message("metrics.jsonl", errno.ENOSPC)):
                evaluate(log, step)
        else:
            evaluate(log, step)
    log.close()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5]


@pytest.fixture
def largest_file():
    """A function that sets the size that files of this process can have: a limit that is met within a line."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_line_that_was_written_in_part_is_dropped(tmp_path, largest_file):
    log = RunLog(tmp_path, STEPS, 0, enabled=True)
    evaluate(log, 1)
    size = (tmp_path / "metrics.jsonl").stat().st_size
    largest_file(size + 10)
    with pytest.raises(OSError, match=message("metrics.jsonl", errno.EFBIG)):
        evaluate(log, 2)
    with pytest.raises(OSError, match=message("metrics.jsonl", errno.EFBIG)):
        log.close()
    largest_file(resource.RLIM_INFINITY)
    assert (tmp_path / "metrics.jsonl").stat().st_size == size + 10
    log = RunLog(tmp_path, STEPS, 1, enabled=True)
    evaluate(log, 2)
    log.close()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


def test_a_resume_on_a_full_disk_leaves_the_files_as_they_were(tmp_path, largest_file):
    list(run(tmp_path, 1, {}))
    before = contents(tmp_path)
    largest_file(100)
    with pytest.raises(OSError, match=message("metrics.jsonl", errno.EFBIG)):
        RunLog(tmp_path, STEPS, 3, enabled=True)
    largest_file(resource.RLIM_INFINITY)
    assert contents(tmp_path) == before


def test_a_disk_that_is_full_when_a_checkpoint_is_taken(tmp_path, monkeypatch):
    log = RunLog(tmp_path, STEPS, 0, enabled=True)
    evaluate(log, 1)

    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=message("metrics.jsonl", errno.ENOSPC)):
        log.flush()


def test_a_checkpoint_syncs_every_file(tmp_path, monkeypatch):
    log = RunLog(tmp_path, STEPS, 0, enabled=True)
    evaluate(log, 1)
    log.damaged(1, 0, ["train.rec: key 3"])
    log.diagnosis(1, diagnosis(1))
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").resolve()))
    log.flush()
    assert set(synced) == set(contents(tmp_path))


# ----- files that disappear


REMOVALS = {
    "the run folder": lambda folder: shutil.rmtree(folder),
    "its TensorBoard": lambda folder: shutil.rmtree(folder / "tensorboard"),
    "metrics.jsonl": lambda folder: (folder / "metrics.jsonl").unlink(),
    "the content of metrics.jsonl": lambda folder: (folder / "metrics.jsonl").write_text(""),
    "diagnostics.jsonl": lambda folder: (folder / "diagnostics.jsonl").unlink(missing_ok=True),
    "damaged.txt": lambda folder: (folder / "damaged.txt").unlink(missing_ok=True),
}


@pytest.mark.parametrize("what", REMOVALS)
def test_what_disappears_at_any_moment_is_written_again(no_sync, tmp_path, what, capsys):
    moments = sum(1 for _ in run(tmp_path / "whole", 3, {}))
    for moment in range(1, moments + 1):
        folder = tmp_path / str(moment)
        writing = run(folder, 3, {})
        list(itertools.islice(writing, moment))
        before = contents(folder)
        REMOVALS[what](folder)
        missed = contents(folder) != before
        capsys.readouterr()
        list(writing)
        same(folder, tmp_path / "whole")
        assert capsys.readouterr().out.count("was written again from memory") == missed


def test_a_folder_that_cannot_be_made_again(tmp_path):
    log = RunLog(tmp_path / "run", STEPS, 0, enabled=True)
    evaluate(log, 1)
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(OSError, match="metrics.jsonl cannot be written: .*; mend that and start again") as caught:
        evaluate(log, 2)
    assert "\n" not in str(caught.value)
    (tmp_path / "run").unlink()
    log.close()
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2]


# ----- means


def test_means_resumed_at_any_step_are_the_same_to_the_last_bit():
    whole = Means()
    for step in range(1, 9):
        whole.add([losses(step), losses(-step)])
    expected = whole.take()
    for cut in range(9):
        first, second = Means(), Means()
        for step in range(1, cut + 1):
            first.add([losses(step), losses(-step)])
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        for step in range(cut + 1, 9):
            second.add([losses(step), losses(-step)])
        assert second.take() == expected
    assert all(value != value for value in second.take().values())


@pytest.mark.parametrize("terminal", (True, False))
def test_a_log_gets_lines_instead_of_a_bar(tmp_path, capsys, monkeypatch, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    list(run(tmp_path, 2, {}, start=0))
    printed, bar = capsys.readouterr()
    steps = [line.split()[:4] for line in printed.splitlines() if line.startswith("step ")]
    assert steps == ([] if terminal else [["step", f"{step}/10", "epoch", "0"] for step in range(2, 11, 2)])
    assert ("loss" in bar and "/10" in bar) == terminal


def test_a_line_says_what_is_left_of_the_run(tmp_path, capsys, monkeypatch):
    clock = itertools.count(0, 60)
    log = RunLog(tmp_path, 1000, 100, enabled=True)
    monkeypatch.setattr("utils.log.time.perf_counter", lambda: next(clock))
    log.clock = next(clock)
    values = {**REST, "loss_classification": 1, "loss_contrastive": 2, "lq_pairs": 0.25}
    for step in (101, 102, 103, 104):
        log.step(step, 30, values if step % 2 == 0 else None)
    log.close()
    assert [line.split("img/s left ") for line in capsys.readouterr().out.splitlines()] == [
        ["step 102/1000 epoch 0 loss 1.000+2.000 lr 0.1 LQ 25% 1 ", "7:29:00"],  # 898 steps at two a minute
        ["step 104/1000 epoch 0 loss 1.000+2.000 lr 0.1 LQ 25% 1 ", "7:28:00"],
    ]
