"""Saving: whole or not there, whatever happens in between."""

import errno
import functools
import json
import os
import resource
import shutil
import threading
from pathlib import Path
from unittest import mock

import pytest
import torch

from tests import checkpoints, gloo
from utils.checkpoint import Checkpoint, Saver, check, every, leftovers, newest_whole, saver, tensors


def test_what_is_saved_comes_back(tmp_path):
    made = Saver(tmp_path / "a" / "checkpoints", keep=2)
    transposed = torch.arange(6.0).view(2, 3).t()
    state = {"number": 1, "note": ["n", None, 0.1]}
    made.save(7, {"a": transposed, "b": torch.tensor(3)}, {"head.weight": torch.ones(2, 2)}, state)
    made.finish()
    (path,) = every(tmp_path / "a" / "checkpoints")
    assert path.name == "step_00000007" and check(path) == []
    assert {file.name for file in path.iterdir()} == {
        *("manifest.json", "state.json"), *("shared.safetensors", "rank_0.safetensors")
    }  # fmt: skip
    saved = Checkpoint(path)
    assert saved.state == {"number": 1, "note": ["n", None, 0.1], "step": 7, "ranks": 1} and saved.step == 7
    assert torch.equal(saved.shared["a"], transposed) and saved.shared["b"] == 3
    assert torch.equal(saved.shards[0]["head.weight"], torch.ones(2, 2))


def test_what_changes_after_the_save_does_not_come_in(tmp_path, monkeypatch):
    """The disk is written when the training has gone on already."""
    go, write_tensors = threading.Event(), tensors.write_tensors
    monkeypatch.setattr(saver, "write_tensors", lambda *args: go.wait(20) and write_tensors(*args))
    made, weight = Saver(tmp_path, keep=2), torch.zeros(3)
    made.save(1, {"w": weight}, {"rows": weight}, {})
    weight += 1
    assert every(tmp_path) == []
    go.set()
    made.save(2, {"w": weight}, {"rows": weight}, {})
    made.finish()
    for path, value in zip(every(tmp_path), (0, 1), strict=True):
        saved = Checkpoint(path)
        assert saved.shared["w"].tolist() == saved.shards[0]["rows"].tolist() == [value] * 3


def test_done_is_called_when_the_checkpoint_is_there(tmp_path):
    seen = []
    made = Saver(tmp_path, 2, done=lambda shared: seen.append((int(shared["count"]), checkpoints.steps(tmp_path))))
    for step in (1, 2):
        checkpoints.save(made, step)
    made.finish()
    assert seen == [(1, [1]), (2, [1, 2])]


def test_tensors_may_change_their_shape_between_saves(tmp_path):
    made = Saver(tmp_path, 9)
    for step in (1, 2, 3):  # a queue grows
        made.save(step, {}, {"row_KD": torch.full((step % 3, 2), float(step))}, {})
    made.finish()
    assert [Checkpoint(path).shards[0].shape("row_KD") for path in every(tmp_path)] == [(1, 2), (2, 2), (0, 2)]


@pytest.mark.parametrize("whole", [True, False])
def test_a_checkpoint_of_the_same_step(tmp_path, whole):
    """A whole one stays, a damaged one is replaced."""
    (path,) = checkpoints.write(tmp_path, 5)
    if not whole:
        (path / "shared.safetensors").write_bytes(b"")
    before = path.stat().st_ino
    checkpoints.write(tmp_path, 5)
    assert checkpoints.steps(tmp_path) == [5] and leftovers(tmp_path) == []
    assert (path.stat().st_ino == before) == whole


class Operations:
    """Counts what saving does with files; at the n-th, `end` is called, before it or when it is half done."""

    def __init__(self, monkeypatch, n: int, half: bool, end):
        self.left, self.half, self.end = n, half, end
        for owner, names in (
            (Path, ("mkdir", "touch", "write_text", "rename", "chmod", "unlink")),
            (os, ("fsync",)), (shutil, ("rmtree",)), (tensors, ("save_file",)),
        ):  # fmt: skip
            for name in names:
                monkeypatch.setattr(owner, name, self._counted(getattr(owner, name), name))

    def _counted(self, function, name: str):
        def counted(*args, **options):
            self.left -= 1
            if self.left == 0:
                if self.half:
                    self._do_half(function, name, args, options)
                self.end()
            return function(*args, **options)

        return counted

    @staticmethod
    def _do_half(function, name: str, args: tuple, options: dict) -> None:
        if name == "write_text":
            function(args[0], args[1][: len(args[1]) // 2])
        elif name == "save_file":
            function(*args, **options)
            os.truncate(args[1], os.path.getsize(args[1]) // 2)
        elif name == "rmtree" and args[0].is_dir():
            next(args[0].iterdir()).unlink()


@pytest.mark.parametrize("half", [False, True])
def test_being_killed_anywhere_leaves_whole_checkpoints_only(tmp_path, half):
    """A process that ends at its n-th file operation, for every n; the third save prunes the first one's."""
    n, ended = 0, 9
    while ended == 9:
        n += 1
        folder = tmp_path / str(n)
        checkpoints.write(folder, 1, 2)
        pid = os.fork()
        if pid == 0:
            with pytest.MonkeyPatch.context() as patch:
                Operations(patch, n, half, lambda: os._exit(9))
                checkpoints.write(folder, 3, keep=2)
                os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert checkpoints.steps(folder) in ([1, 2], [1, 2, 3], [2, 3])
        checkpoints.write(folder, 4, keep=2)  # the next start
        assert checkpoints.steps(folder)[-1] == 4 and len(every(folder)) == 2 and leftovers(folder) == []
    assert ended == 0 and n > 20


@pytest.mark.parametrize("half", [False, True])
def test_an_error_anywhere_is_told_and_leaves_whole_checkpoints_only(tmp_path, half):
    def fail():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    n, told = 0, True
    while told:
        n += 1
        folder = tmp_path / str(n)
        checkpoints.write(folder, 1, 2)
        made = Saver(folder, keep=2)
        with pytest.MonkeyPatch.context() as patch:
            operations = Operations(patch, n, half, fail)
            checkpoints.save(made, 3)
            told = ended_with(made)
            reached = operations.left <= 0
        assert told in (None, f"checkpoint {folder}/step_00000003 cannot be written: No space left on device; "
                              f"earlier ones are whole")  # fmt: skip
        assert told or not reached
        assert checkpoints.steps(folder) in ([1, 2], [1, 2, 3], [2, 3])
        if told:
            assert leftovers(folder) == []
    assert n > 20


def ended_with(made: Saver) -> str | None:
    try:
        made.finish()
    except OSError as error:
        return str(error)
    return None


def test_a_full_disk(tmp_path):
    """The system's own answer, in the middle of a file."""
    made = Saver(tmp_path, 5)
    checkpoints.save(made, 1)
    made.finish()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        checkpoints.save(made, 2)
        told = ended_with(made)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert told == f"checkpoint {tmp_path}/step_00000002 cannot be written: File too large; earlier ones are whole"
    assert checkpoints.steps(tmp_path) == [1] and leftovers(tmp_path) == []


def test_a_save_after_a_failed_one_raises_too(tmp_path, monkeypatch):
    """What could not be written is not passed over."""
    made = Saver(tmp_path, 5)
    with monkeypatch.context() as patch:
        patch.setattr(saver, "write_tensors", lambda *_: (_ for _ in ()).throw(ValueError("not a tensor")))
        checkpoints.save(made, 1)
        with pytest.raises(OSError, match="not a tensor; earlier ones are whole"):
            checkpoints.save(made, 2)


@pytest.mark.parametrize("times", [1, 2])
def test_a_folder_that_disappears_is_made_again_once(tmp_path, monkeypatch, times):
    write_tensors, calls = tensors.write_tensors, []

    def writing(path, *args):
        calls.append(path)
        if path.name == "shared.safetensors" and len(calls) <= 2 * times:
            shutil.rmtree(tmp_path / "run")
        write_tensors(path, *args)

    made = Saver(tmp_path / "run" / "checkpoints", 5)
    monkeypatch.setattr(saver, "write_tensors", writing)
    checkpoints.save(made, 1)
    told = ended_with(made)
    if times == 1:
        assert told is None and checkpoints.steps(tmp_path / "run" / "checkpoints") == [1] and len(calls) == 4
    else:
        assert "step_00000001 cannot be written: No such file or directory" in told


def test_a_folder_that_disappears_before_any_operation_is_made_again(tmp_path):
    n, reached = 0, True
    while reached:
        n += 1
        run = tmp_path / str(n)
        checkpoints.write(run / "checkpoints", 1, 2)
        made, lose = Saver(run / "checkpoints", keep=2), functools.partial(shutil.rmtree, run)
        with pytest.MonkeyPatch.context() as patch:
            operations = Operations(patch, n, False, lose)
            checkpoints.save(made, 3)
            told = ended_with(made)
            reached = operations.left <= 0
        assert told is None and leftovers(run / "checkpoints") == []
        assert checkpoints.steps(run / "checkpoints") in ([[3], []] if reached else [[2, 3]]), n
    assert n > 20


def test_a_folder_that_disappears_between_two_ranks_that_make_it(tmp_path, monkeypatch):
    """The other has made it, so that this one cannot, and it goes before this one looks."""
    mkdir, tried = os.mkdir, []

    def made_by_two(path, *arguments):
        if Path(path).name.startswith(".step_"):
            tried.append(path)
        if len(tried) != 2:  # at first its parent is missing
            return mkdir(path, *arguments)
        mkdir(path)
        with pytest.raises(FileExistsError) as caught:
            mkdir(path, *arguments)
        shutil.rmtree(tmp_path / "run")
        raise caught.value

    monkeypatch.setattr(os, "mkdir", made_by_two)
    made = Saver(tmp_path / "run" / "checkpoints", 5)
    checkpoints.save(made, 1)
    made.finish()
    assert checkpoints.steps(tmp_path / "run" / "checkpoints") == [1] and len(tried) == 4


def test_a_folder_that_disappears_after_the_checkpoint_was_there(tmp_path):
    """`done` did not find it: the second attempt needs no second copy."""
    calls = []

    def done(_):
        calls.append(checkpoints.steps(tmp_path))
        if len(calls) == 1:
            raise FileNotFoundError(errno.ENOENT, "gone")

    made = Saver(tmp_path, 1, done=done)
    checkpoints.save(made, 1)
    made.finish()
    assert calls == [[1], [1]] and leftovers(tmp_path) == []


@pytest.mark.parametrize("ranks", [2, 3])
def test_several_ranks(tmp_path, ranks):
    answers = gloo.run(ranks, checkpoints.saved_by_ranks, tmp_path, {})
    assert [answer["done"] for answer in answers] == [[1, 2]] + [[]] * (ranks - 1)
    assert checkpoints.steps(tmp_path) == [1, 2] and leftovers(tmp_path) == []
    saved = Checkpoint(every(tmp_path)[-1])
    assert saved.state["ranks"] == len(saved.shards) == ranks
    assert [shard["head.weight"].tolist() for shard in saved.shards] == [[[20.0 + r] * 2] * 4 for r in range(ranks)]
    files = {f"rank_{rank}.safetensors" for rank in range(ranks)} | {"shared.safetensors", "state.json"}
    assert json.loads((saved.path / "manifest.json").read_text())["files"].keys() == files
    assert {path.name for path in saved.path.iterdir()} == files | {"manifest.json"}


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_one_rank_is_raised_on_all(tmp_path, rank):
    answers = gloo.run(2, checkpoints.saved_by_ranks, tmp_path, {(rank, 1): "full"})
    message = f"checkpoint {tmp_path}/step_00000002 cannot be written: No space left on device; earlier ones are whole"
    assert [answer["error"] for answer in answers] == [message] * 2
    assert checkpoints.steps(tmp_path) == [1] and leftovers(tmp_path) == []


@pytest.mark.parametrize("troubles", [{(0, 1): "gone"}, {(0, 1): "lost", (1, 2): "late"}], ids=["gone", "lost"])
def test_when_the_folder_disappears_all_ranks_write_again(tmp_path, troubles):
    answers = gloo.run(2, checkpoints.saved_by_ranks, tmp_path, troubles)
    assert [answer["attempts"] for answer in answers] == [2, 2] and not any("error" in answer for answer in answers)
    assert not answers[1]["early"]  # the first attempt's note did not stand for the second one's file
    assert checkpoints.steps(tmp_path) == [1, 2] and leftovers(tmp_path) == []


def test_a_new_saver_begins_without_leftovers_and_leaves_the_rest(tmp_path):
    checkpoints.write(tmp_path, 1)
    for name in (".step_00000002.abc", ".step_00000001.removed", "step_00000003.damaged", "notes"):
        (tmp_path / name).mkdir()
    Saver(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "step_00000001", "step_00000003.damaged"]
    assert newest_whole(every(tmp_path), check) == (tmp_path / "step_00000001", [])


def test_a_folder_that_disappears_and_is_made_again_by_a_slower_rank(tmp_path, monkeypatch):
    """Rank 0 finds the other's part there, but its own is gone."""
    made = Saver(tmp_path / "run", 5)
    made.ranks, attempts = 2, []

    def slower_rank(_):
        if not attempts:
            shutil.rmtree(tmp_path / "run")
        attempts.append(f".step_00000007.{made._token}{'.again' if attempts else ''}")
        beside = tmp_path / "run" / attempts[-1]
        beside.mkdir(parents=True, exist_ok=True)
        saver.write_tensors(beside / "rank_1.safetensors", checkpoints.sharded(7, 1))
        saver._write_json(beside / "rank_1.json", saver._entry(beside / "rank_1.safetensors"))

    monkeypatch.setattr(saver, "time", mock.Mock(sleep=slower_rank))
    checkpoints.save(made, 7)
    made.finish()
    assert checkpoints.steps(tmp_path / "run") == [7] and len(attempts) == 2
