"""A run is asked to stop: it saves, exits with 0, says how it goes on, and goes on."""

import shlex

import pytest

from recognition.run import stopped_at
from tests.faults.conftest import Trial
from utils.stop import STOPPING

TARGETS = ["val_targets=['pairs','more']", "verbose=4"]


def stopped(done, trial: Trial, why: str, words: tuple = ()) -> int:
    """It ended well and said so; returns the step."""
    assert done.returncode == 0, done.stderr
    end = done.stdout.splitlines()[-2:]
    assert end[1] == f"resume with: ./run.sh {shlex.join([*trial.words, *words])}"
    *_, step = trial.steps()
    assert end[0] == f"stopped     by {why} at step {step} of 12; everything is saved"
    return step


@pytest.mark.parametrize(
    ("name", "rank", "point", "step", "why"),
    [
        ("SIGTERM", 0, "forward", 5, "SIGTERM"),
        ("SIGINT", 1, "backward", 9, "Ctrl-C"),
        ("SIGTERM", 0, "start", 0, "SIGTERM"),
    ],
)
def test_a_signal_saves_the_step_that_it_meets(trial, reference, name, rank, point, step, why):
    fault = {"at": point, "step": step, "rank": rank, "what": "ask_to_stop", "signal": name}
    done = trial.ends(fault)
    assert stopped(done, trial, why) == max(step, 1)
    assert (STOPPING in done.stderr) == (name == "SIGINT")
    trial.ends_as(reference)


@pytest.mark.slow
def test_a_signal_during_an_evaluation_leaves_it_to_the_next_start(data, trial, tmp_path):
    """The other target is not begun; what there is of the first is not told, as the next start evaluates both."""
    whole = Trial(data, tmp_path / "whole", *TARGETS)
    assert whole.again()[1] == ""
    trial.words += TARGETS
    fault = {"at": "evaluation", "rank": 1, "what": "ask_to_stop", "signal": "SIGTERM"}
    for step in (4, 0):  # the second start has taken no step of its own yet, and must not take one
        assert stopped(trial.ends(fault | {"step": step}), trial, "SIGTERM") == 4
        assert "val/" not in (trial.folder / "metrics.jsonl").read_text()
    trial.ends_as(whole)
    results = [(folder / "results.json").read_text() for folder in (whole.folder, trial.folder)]
    assert results[0].replace(str(whole.folder), "") == results[1].replace(str(trial.folder), "")


def test_a_config_that_begins_anew_is_told_how_it_goes_on():
    """As those of arcface_torch: the same command would be refused."""
    told = stopped_at(3, 12, "SIGTERM", ["a.py", "lr=1", "resume=False"], goes_on=False)
    assert told.splitlines()[1] == "resume with: ./run.sh a.py lr=1 resume=auto"


@pytest.mark.slow
def test_a_run_whose_time_is_over_goes_on(trial, reference):
    words = ["max_time=0.02"]  # over before the first step
    for step in (1, 2):
        assert stopped(trial.ends(words=words), trial, "max_time of 0.02 minutes", words) == step
    trial.ends_as(reference)
