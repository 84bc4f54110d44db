"""Which checkpoints go."""

import shutil

import pytest

from tests import checkpoints
from utils.checkpoint import every, expendable, leftovers, prune, remove, remove_leftovers


@pytest.fixture
def folder(tmp_path):
    """Checkpoints 1 to 7 of a run, saved at steps 10 to 70."""
    for number in range(1, 8):
        path = checkpoints.write(tmp_path, 10 * number)[-1]
        state = path / "state.json"
        state.write_text(state.read_text().replace(f'"number": {10 * number}', f'"number": {number}'))
    return tmp_path


@pytest.mark.parametrize(
    ("keep", "keep_every", "stay"),
    [
        (1, None, [70]),
        (3, None, [50, 60, 70]),
        (9, None, [10, 20, 30, 40, 50, 60, 70]),
        (1, 3, [30, 60, 70]),
        (2, 2, [20, 40, 60, 70]),
        (1, 1, [10, 20, 30, 40, 50, 60, 70]),
        (1, 100, [70]),
    ],
)
def test_the_newest_and_each_nth_stay(folder, keep, keep_every, stay):
    gone = expendable(folder, keep, keep_every)
    assert sorted([int(path.name[5:]) for path in gone] + stay) == [10, 20, 30, 40, 50, 60, 70]
    for _ in range(2):
        prune(folder, keep, keep_every)
        assert [int(path.name[5:]) for path in every(folder)] == stay
    assert leftovers(folder) == []


def test_a_saver_prunes_by_the_number_in_the_run(folder):
    """Removing the others did not change which is each third."""
    checkpoints.write(folder, 81, keep=1, keep_every=3)
    checkpoints.write(folder, 90, keep=1, keep_every=3)
    assert [int(path.name[5:]) for path in every(folder)] == [30, 60, 81, 90]


@pytest.mark.parametrize("text", [None, "", "{", '{"ranks": 1, "step": 30}', '{"ranks": 1, "step": 30, "number": "x"}'])
def test_one_whose_number_cannot_be_read_is_no_nth(folder, text):
    state = folder / "step_00000030" / "state.json"
    state.unlink() if text is None else state.write_text(text)
    prune(folder, 1, 3)
    assert [int(path.name[5:]) for path in every(folder)] == [60, 70]


def test_what_is_removed_is_hidden_first(folder, monkeypatch):
    """Nobody finds half a checkpoint; what the system will not remove yet does not stop the run."""
    seen = []
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: seen.append((path.name, ignore_errors)))
    prune(folder, 6)
    assert [int(path.name[5:]) for path in every(folder)] == [20, 30, 40, 50, 60, 70]
    assert seen[-1] == (".step_00000010.removed", True)
    assert [path.name for path in leftovers(folder)] == [".step_00000010.removed"]


def test_one_that_somebody_else_has_removed(folder):
    (path, *_) = every(folder)
    shutil.rmtree(path)
    remove(path)
    assert len(every(folder)) == 6


def test_leftovers_go_and_nothing_else(folder):
    (folder / ".step_00000080.token").mkdir()
    (folder / ".step_00000080.token" / "rank_0.safetensors").write_text("x")
    (folder / ".step_00000010.removed").mkdir()
    (folder / ".other").mkdir()
    remove_leftovers(folder)
    assert leftovers(folder) == [] and (folder / ".other").exists() and len(every(folder)) == 7
    remove_leftovers(folder / "absent")
