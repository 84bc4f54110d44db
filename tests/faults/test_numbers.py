"""Numbers that are not finite: process 1 holds samples 6 to 11 of each batch of 12; its second image is bad."""

import pytest
import torch

from tests.faults.conftest import Trial, one_error
from tests.test_resume import log
from tests.test_train import lines

BAD = "the feature is not finite at step 3, in sample"
NETWORK = "network=mini"  # has BatchNorm, whose statistics see what is not finite
DIAGNOSED = "diagnose_every=1"


def bad(*steps: int) -> list[dict]:
    return [{"at": "forward", "step": step, "rank": 1, "what": "nan", "row": 1} for step in steps]


@pytest.fixture(scope="module")
def skipped(data, tmp_path_factory) -> tuple[Trial, str]:
    """An uninterrupted run whose steps 3 and 5 are bad, and what it printed."""
    trial = Trial(data, tmp_path_factory.mktemp("skipped") / "run", NETWORK, "max_step=8", DIAGNOSED)
    said, error = trial.again(*bad(3, 5))
    assert not error
    return trial, said


def test_a_step_that_is_not_finite_is_skipped_and_counted_everywhere(skipped):
    trial, said = skipped
    assert [line["skipped"] for line in lines(trial.folder)] == [0, 0, 1, 1, 2, 2, 2, 2]
    empty = [line["step"] for line in lines(trial.folder) if line["loss_classification"] is None]
    assert empty == [3, 5]
    assert [line["step"] for line in log(trial.folder) if "diag/lq_pairs" in line] == [1, 2, 4, 6, 7, 8]
    notes = [line for line in said.splitlines() if line.startswith("note: the feature is not finite")]
    assert len(notes) == 2 and "at step 3, in sample " in notes[0] and "train.rec: key " in notes[0], said
    model = torch.load(trial.folder / "model.pt", weights_only=True)
    assert all(tensor.isfinite().all() for tensor in model.values() if tensor.is_floating_point())
    counts = {int(value) for name, value in model.items() if name.endswith("num_batches_tracked")}
    assert counts == {6}  # the skipped steps left nothing behind


def test_the_count_of_skipped_steps_survives_a_kill(data, tmp_path, skipped):
    trial = Trial(data, tmp_path / "run", NETWORK, "max_step=8", DIAGNOSED)
    done = trial.ends(*bad(3, 5), {"at": "forward", "step": 7, "rank": 0, "what": "kill"})
    assert done.returncode == 1, done.stderr
    assert trial.steps()[-1] in (4, 6)
    trial.ends_as(skipped[0], *bad(5))


def test_a_run_stops_at_a_bad_step_again_and_again_and_goes_on_where_it_may_skip_it(data, tmp_path):
    trial = Trial(data, tmp_path / "run", NETWORK, "max_step=4")
    done = trial.ends(*bad(3), words=["nonfinite=stop"])
    assert done.returncode == 2 and BAD in one_error(done), done.stderr
    assert trial.steps() == [2]
    _, error = trial.again(*bad(3), words=["nonfinite=stop"])
    assert error == one_error(done) and trial.steps() == [2]
    said, error = trial.again(*bad(3))
    assert not error and f"note: {BAD}" in said and lines(trial.folder)[-1]["skipped"] == 1


def test_a_run_stops_at_too_many_bad_steps(data, tmp_path):
    trial = Trial(data, tmp_path / "run", NETWORK)
    _, error = trial.again(*bad(3, 4), words=["nonfinite_limit=2"])
    assert "the last of 2 skipped steps in a row" in error


def test_a_learning_rate_that_is_far_too_high_ends_with_one_line(data, tmp_path):
    trial = Trial(data, tmp_path / "run", "lr=1e30", "nonfinite_limit=3")
    _, error = trial.again()
    assert "not finite at step" in error and "lower lr" in error
