"""A disk is full or a folder disappears."""

import json

import pytest

from tests.faults.conftest import one_error
from tests.test_resume import assert_ended_alike

FULL = "No space left on device"


def test_a_full_disk_of_the_log_is_one_line_and_the_run_goes_on(trial, reference):
    log = trial.folder / "metrics.jsonl"
    done = trial.ends({"at": "forward", "step": 5, "rank": 0, "what": "fill_the_disk", "file": str(log)})
    assert done.returncode == 2, done.stderr
    remedy = "make room and start again with the same command"
    assert one_error(done) == f"{log} cannot be written: {FULL}; {remedy}"
    trial.ends_as(reference)


def written(trial) -> str:
    return f"checkpoint {trial.checkpoints / 'step_00000006'} cannot be written: {FULL}; earlier ones are whole"


def test_a_full_disk_of_the_checkpoints_is_one_line(trial, reference):
    done = trial.ends({"at": "half of rank_1.safetensors", "step": 6, "rank": 1, "what": "fill_the_disk"})
    assert done.returncode == 2 and one_error(done) == written(trial), done.stderr
    assert trial.steps() == [2, 4] and not list(trial.checkpoints.glob(".*"))
    trial.ends_as(reference)


@pytest.mark.parametrize(
    ("point", "rank", "kept"),
    [
        ("half of rank_0.safetensors", 0, [2, 4]),
        ("before shared.safetensors", 0, [2, 4]),
        ("half of shared.safetensors", 0, [2, 4]),
        ("before rank_1.json", 1, [2, 4]),
        ("before manifest.json", 0, [2, 4]),
        ("before the rename", 0, [2, 4]),
    ],
)
def test_wherever_the_disk_is_full_earlier_checkpoints_stay(trial, reference, point, rank, kept):
    _, error = trial.again({"at": point, "step": 6, "rank": rank, "what": "fill_the_disk"})
    assert error == written(trial)
    assert trial.steps() == kept and not list(trial.checkpoints.glob(".*"))
    trial.ends_as(reference)


def test_a_checkpoint_that_is_complete_stays_where_the_disk_has_no_room_for_the_model(trial, reference):
    _, error = trial.again({"at": "before model.pt", "step": 6, "rank": 0, "what": "fill_the_disk"})
    assert FULL in error and trial.steps() == [4, 6]
    trial.ends_as(reference)


@pytest.mark.parametrize(
    ("point", "rank", "step"),
    [
        *(("forward", 0, 1), ("forward", 1, 5), ("forward", 0, 12)),
        *(("before rank_1.json", 1, 6), ("half of shared.safetensors", 0, 6), ("before manifest.json", 0, 6)),
        *(("before the rename", 0, 6), ("before pruning", 0, 6), ("before model.pt", 0, 6), ("before model.pt", 0, 12)),
    ],
)
def test_a_folder_that_disappears_is_made_again(trial, reference, point, rank, step):
    fault = {"at": point, "step": step, "rank": rank, "what": "remove_the_folder", "folder": str(trial.folder)}
    _, error = trial.again(fault)
    assert not error and trial.steps()[-1] == 12 and not list(trial.checkpoints.glob(".*"))
    assert json.loads((trial.folder / "config.json").read_text())["max_step"] == 12
    assert_ended_alike(reference.folder, trial.folder, exact=True)


def test_a_rank_whose_part_has_disappeared_is_not_waited_for(trial, reference):
    """Rank 1 has written its part; the folder goes and is made again before rank 0 looks."""
    fault = {"at": "before rank_0.safetensors", "step": 6, "rank": 0, "what": "lose_the_other_part"}
    _, error = trial.again(fault)
    assert not error and trial.steps() == [10, 12]
    assert_ended_alike(reference.folder, trial.folder, exact=True)
