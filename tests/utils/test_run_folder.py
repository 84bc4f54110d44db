import json
import multiprocessing
import time
from pathlib import Path
from unittest import mock

import pytest

from tests import gloo, ranks
from utils import run_folder
from utils.run_folder import CONTENTS, RunFolder


def fill(path, mark: str) -> None:
    (path / "checkpoints" / "step_1").mkdir(parents=True)
    (path / "checkpoints" / "step_1" / "state.json").write_text(mark)
    for name in ("config.json", "metrics.jsonl", "results.json", "model.pt"):
        (path / name).write_text(mark)


def contents(path) -> dict[str, str]:
    return {str(p.relative_to(path)): p.read_text() for p in path.rglob("*") if p.is_file()}


def opened(path) -> RunFolder:
    """As a run does it."""
    folder = RunFolder(path)
    folder.restore()
    folder.open()
    return folder


@pytest.fixture
def earlier(tmp_path):
    fill(tmp_path, "old")
    (tmp_path / "notes.txt").write_text("the user's own")
    return contents(tmp_path)


def test_a_new_run_starts_with_its_config(tmp_path):
    opened(tmp_path / "a" / "run").begin({"lr": 0.1}, overwrite=False)
    assert [path.name for path in (tmp_path / "a" / "run").iterdir()] == ["config.json"]
    assert json.loads((tmp_path / "a" / "run" / "config.json").read_text()) == {"lr": 0.1}


@pytest.mark.parametrize("name", CONTENTS)
def test_any_earlier_result_stops_a_run_that_may_not_overwrite(tmp_path, name):
    (tmp_path / name).mkdir() if "." not in name else (tmp_path / name).write_text("old")
    with pytest.raises(ValueError, match=f"holds {name} of a run; resume='auto' continues"):
        opened(tmp_path).begin({}, overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_earlier_results_go_when_the_new_run_has_a_checkpoint(tmp_path, earlier):
    folder = opened(tmp_path)
    folder.begin({}, overwrite=True)
    assert not (tmp_path / "model.pt").exists()
    (tmp_path / "model.pt").write_text("new")
    folder.keep()
    assert contents(tmp_path) == {"config.json": "{}\n", "model.pt": "new", "notes.txt": "the user's own"}


def test_a_run_that_was_killed_right_after_its_first_checkpoint_has_replaced_the_earlier_one(tmp_path, earlier):
    opened(tmp_path).begin({}, overwrite=True)
    (tmp_path / "checkpoints" / "step_00000007").mkdir(parents=True)
    opened(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "config.json", "notes.txt"]


def test_earlier_results_come_back_when_the_new_run_fails(tmp_path, earlier):
    folder = opened(tmp_path)
    folder.begin({}, overwrite=True)
    fill(tmp_path, "half")
    folder.restore()
    assert contents(tmp_path) == earlier
    folder.restore()
    assert contents(tmp_path) == earlier


@pytest.mark.parametrize("moves", range(1, 12))
def test_being_killed_while_files_move_loses_nothing(tmp_path, earlier, monkeypatch, moves):
    """The process ends at the n-th rename of a start or of a restore; the next run finds the earlier results."""
    rename, left = Path.rename, [moves]

    def killed(path, target):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            folder = opened(tmp_path)
            folder.begin({}, overwrite=True)
            (tmp_path / "metrics.jsonl").write_text("new")
            folder.restore()
            raise AssertionError("fewer renames than expected")
    with pytest.raises(ValueError, match="holds a run|holds config.json"):
        opened(tmp_path).begin({}, overwrite=False)
    assert contents(tmp_path) == earlier


@pytest.mark.parametrize("shared", [True, False])
def test_every_rank_must_see_the_same_folder(tmp_path, shared):
    answers = gloo.run(2, ranks.open_folders, [str(tmp_path / "0"), str(tmp_path / ("0" if shared else "1"))])
    if shared:
        assert answers == ["", ""]
    else:
        assert all("is not there for process 1: several machines need a shared folder" in answer for answer in answers)


def test_what_a_killed_process_had_begun_to_write_goes(tmp_path, earlier):
    (tmp_path / "tensorboard").mkdir()
    for name in (".model.pt.17.part", "tensorboard/.events.17.part", ".writable.17", f".token.{'0' * 32}"):
        (tmp_path / name).write_text("half")
    (tmp_path / ".film.part").write_text("the user's own")
    RunFolder(tmp_path).open()
    assert contents(tmp_path) == {**earlier, ".film.part": "the user's own"}


def hold(path: Path, answers, how: str) -> None:
    """Another training, in a process of its own: it has the folder until it is killed, or closes it after a while."""
    folder = opened(path)
    answers.send("mine")
    if how == "closes":
        time.sleep(1.5)
        folder.close()
    time.sleep(60)


@pytest.fixture
def other(tmp_path):
    """Start another training on `tmp_path`."""
    context, begun = multiprocessing.get_context("fork"), []

    def start(how: str):
        answer, answers = context.Pipe(duplex=False)
        begun.append(context.Process(target=hold, args=(tmp_path, answers, how)))
        begun[-1].start()
        assert answer.recv() == "mine"
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.join()


@pytest.mark.parametrize("step", ["restore", "open"])
def test_a_folder_that_another_training_writes_into_is_refused(tmp_path, monkeypatch, capsys, earlier, other, step):
    monkeypatch.setattr(run_folder, "PATIENCE", 0.5)
    monkeypatch.setattr(run_folder, "AT_ONCE", 0.2)
    other("stays")
    with pytest.raises(ValueError, match="another training writes into it; wait until that has ended, or output="):
        getattr(RunFolder(tmp_path), step)()
    assert capsys.readouterr().out.count("note: another training") == 1
    assert contents(tmp_path) == earlier


def test_a_folder_is_free_when_the_other_training_has_been_killed(tmp_path, monkeypatch, other):
    monkeypatch.setattr(run_folder, "PATIENCE", 0.0)
    process = other("stays")
    process.kill()
    process.join()
    opened(tmp_path)


def test_the_end_of_another_training_is_awaited(tmp_path, capsys, other):
    other("closes")
    opened(tmp_path)
    assert "waiting 20 s for its end" in capsys.readouterr().out


def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder.fcntl, "flock", mock.Mock(side_effect=OSError(9, "Bad file descriptor")))
    opened(tmp_path)
