"""A disk that is full, and files that disappear."""

import errno
import itertools
import os
import resource
import shutil
from pathlib import Path

import pytest

from tests.logged import STEPS, contents, diagnosis, evaluate, lines, run, same
from utils.log import RunLog


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
