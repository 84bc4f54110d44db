"""A process hangs, loses its loader or its launcher: all end, and the same command goes on."""

import signal
import time

import pytest

from tests.faults.conftest import one_error, processes

HANGS = "step_timeout=0.1"


@pytest.mark.slow
def test_a_process_that_hangs_is_found_and_each_says_where_it_was(trial, reference):
    done = trial.ends({"at": "forward", "step": 5, "rank": 1, "what": "hang"}, words=[HANGS])
    assert done.returncode == 1, done.stderr
    assert "finished no step within 0.1 minutes (step_timeout); above is where each process was" in one_error(done)
    places = dict(line.split(": no step within 0.1 minutes; it is in ") for line in done.stdout.splitlines()
                  if ": no step within 0.1 minutes" in line)  # fmt: skip
    assert places.keys() == {"process 0", "process 1"}, done.stdout
    assert "injection.py" in places["process 1"].split()[0] and places["process 1"].split()[1] == "hang"
    assert "utils/parallel.py" in places["process 0"] or "recognition/" in places["process 0"]
    assert 2 in trial.steps()
    trial.ends_as(reference)


@pytest.mark.slow  # torchrun gives it 30 seconds to end by itself
def test_a_process_that_is_suspended_is_found(trial, reference):
    done = trial.ends({"at": "forward", "step": 5, "rank": 1, "what": "suspend"}, words=[HANGS])
    assert done.returncode == 1, done.stderr
    assert one_error(done).startswith("process 0 finished no step within 0.1 minutes")
    assert "process 0: no step within 0.1 minutes; it is in " in done.stdout
    trial.ends_as(reference)


def test_a_loader_that_is_killed_ends_the_run_with_one_line(trial, reference):
    done = trial.ends({"at": "forward", "step": 5, "rank": 1, "what": "kill_a_loader"}, words=["num_workers=1"])
    assert done.returncode == 1, done.stderr
    assert one_error(done).startswith("a loader process ended with code -9")
    trial.ends_as(reference)


def test_nothing_outlives_a_launcher_that_is_killed(trial, reference):
    """Not even a process that hangs."""
    here = {"at": "forward", "step": 5, "rank": 0}
    process = trial.start({**here, "what": "kill_the_launcher"}, {**here, "what": "hang"}, words=["num_workers=1"])
    assert process.wait(90) == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while processes(trial.folder):
        assert time.monotonic() < deadline, "a process still runs"
        time.sleep(0.1)
    process.communicate()
    assert 2 in trial.steps()
    trial.ends_as(reference)
