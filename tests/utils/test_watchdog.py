"""utils.watchdog: a process that hangs ends with the place where it hangs; one that works or may take long does not."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from utils.watchdog import Watchdog

LIMIT = 0.01  # minutes
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

SCRIPT = """
import threading, time
from utils.watchdog import Watchdog
def hangs():
    threading.Event().wait(60)  # innermost are frames of Python's library
def main():
    dog = Watchdog({limit}, print)
    dog.beat()
    hangs()
main()
"""


@pytest.fixture
def alarms(monkeypatch):
    """The exit codes that watchdogs would have ended this process with."""
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


def test_a_hanging_process_ends_and_names_the_place(tmp_path):
    script = tmp_path / "hangs.py"
    script.write_text(SCRIPT.format(limit=LIMIT))
    done = subprocess.run([sys.executable, str(script)], env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    where = f"{script}:5 hangs (called from {script}:9 main, {script}:10 <module>)"
    assert done.stdout == f"process 0: no step within {LIMIT} minutes; it is in {where}\n"
    assert done.returncode == 1 and done.stderr.startswith("error: process 0 finished no step within 0.01 minutes")


def test_steps_pauses_and_an_end_are_no_reason(alarms):
    said = []
    dog = Watchdog(LIMIT, said.append)
    for _ in range(10):
        time.sleep(0.1)
        dog.beat()
    dog.pause()
    time.sleep(1)
    dog.resume()
    time.sleep(0.3)
    dog.close()
    time.sleep(1)
    Watchdog(None, said.append).beat()
    assert not alarms and not said


def test_after_a_pause_the_time_runs_again(alarms):
    said = []
    dog = Watchdog(LIMIT, said.append)
    dog.pause()
    dog.resume()
    time.sleep(1)
    dog.close()
    assert alarms and set(alarms) == {1} and "test_watchdog.py" in said[0]


def test_a_process_that_was_suspended_goes_on(tmp_path):
    steps = 'print("works", flush=True); time.sleep(0.3); time.sleep(0.5); print("done")'
    script = tmp_path / "steps.py"
    script.write_text(SCRIPT.format(limit=0.02).replace("threading.Event().wait(60)", steps))
    process = subprocess.Popen([sys.executable, str(script)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "works\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=10) == ("done\n", None) and process.returncode == 0


def test_a_run_that_failed_is_watched_no_longer(alarms):
    """Its process may go on, as that of a program which calls `train.main`."""

    def fails() -> None:
        dog = Watchdog(LIMIT, print)
        dog.beat()
        raise ValueError("the run")

    with pytest.raises(ValueError):
        fails()
    time.sleep(1)
    assert not alarms
