"""utils.stop: which signals ask a process to stop, what it says, and what it exits with. No launcher here."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT, usual_signals
from utils.stop import RESTART, STOPPING, VARIABLE, Launcher, Stop, exit_code

# A run of many steps that tells what it was asked; "ready" once its handlers are there.
LOOP = """
import sys, time
from utils.stop import Stop
try:
    with Stop() as stop:
        print("ready", flush=True)
        while not stop.asked():
            time.sleep(0.02)
        print(stop.asked(), flush=True)
        time.sleep(float(sys.argv[1]))
        print("saved", flush=True)
except KeyboardInterrupt:
    sys.exit(130)
"""


def loop(saving: float = 0, **options) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop(VARIABLE, None)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP, str(saving)], env=environment, **{"preexec_fn": usual_signals, **pipes, **options}
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture
def launcher(monkeypatch, tmp_path):
    """A launcher that began 30 minutes ago, of a run whose machines may come and go."""
    above = Launcher(os.getpid(), str(tmp_path / "stop"), time.monotonic() - 1800, True)
    monkeypatch.setenv(VARIABLE, "")  # so that it is put back
    above.announce()
    return above


@pytest.mark.parametrize(("number", "name"), [("SIGTERM", "SIGTERM"), ("SIGHUP", "SIGHUP"), ("SIGINT", "Ctrl-C")])
def test_a_signal_is_noted_and_the_run_saves(number, name):
    process = loop()
    process.send_signal(getattr(signal, number))
    stdout, stderr = process.communicate(timeout=20)
    assert (process.returncode, stdout) == (0, f"{name}\nsaved\n")
    assert stderr == (f"{STOPPING}\n" if name == "Ctrl-C" else "")


def test_a_second_ctrl_c_stops_at_once_and_one_that_bounces_does_not():
    process = loop(saving=60)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "Ctrl-C\n"
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=10)
    assert (process.returncode, stderr) == (130, f"{STOPPING}\n")


def test_further_sigterms_change_nothing():
    process = loop(saving=1.5)
    process.terminate()
    assert process.stdout.readline() == "SIGTERM\n"
    time.sleep(1.1)
    process.terminate()
    stdout, _ = process.communicate(timeout=20)
    assert (process.returncode, stdout) == (0, "saved\n")


def test_a_hangup_that_is_ignored_stays_ignored():
    process = loop(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.terminate()
    assert process.communicate(timeout=20)[0] == "SIGTERM\nsaved\n"


def test_the_earlier_handlers_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    with Stop():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before


def test_time_is_a_reason():
    with Stop(max_minutes=90) as long, Stop(max_minutes=0.001) as short, Stop() as none:
        time.sleep(0.1)
        assert long.asked() is None and none.asked() is None
        assert short.asked() == "max_time of 0.001 minutes"


def test_time_counts_from_the_launchers_start(launcher):
    with Stop(max_minutes=29) as over, Stop(max_minutes=31) as left:
        assert over.asked() == "max_time of 29 minutes" and left.asked() is None


def test_the_launchers_word_is_heard_and_stays(launcher, tmp_path):
    with Stop() as stop:
        assert stop.asked() is None
        (tmp_path / "stop").write_text("SIGTERM")
        assert stop.asked() == "SIGTERM"
        (tmp_path / "stop").unlink()
        assert stop.asked() == "SIGTERM"


@pytest.mark.parametrize(
    ("elastic", "own", "agreed", "expected"),
    [
        (False, None, "SIGTERM", 0),
        (True, None, "SIGTERM", RESTART),
        (True, "SIGTERM", "SIGTERM", 0),
        (True, None, "max_time of 90 minutes", 0),
    ],
)
def test_workers_of_a_machine_that_stays_ask_to_be_started_again(launcher, tmp_path, elastic, own, agreed, expected):
    launcher._replace(elastic=elastic).announce()
    with Stop() as stop:
        if own:
            (tmp_path / "stop").write_text(own)
        assert exit_code(stop, agreed) == expected


def test_without_a_launcher_a_stop_is_a_good_end(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with Stop() as stop:
        assert exit_code(stop, "SIGTERM") == 0


LOST = """
import os, signal, sys
from utils.cli import user_errors
from utils.stop import Stop
signal.sigtimedwait = lambda numbers, seconds: print("waits", seconds, flush=True)
with user_errors(), Stop():
    if sys.argv[1] == "told":
        os.kill(os.getpid(), signal.SIGTERM)
    raise RuntimeError("Connection closed by peer [127.0.0.1]:1")
"""


@pytest.mark.parametrize(("how", "waits"), [("told", 0), ("not yet", 10)])
def test_a_rank_that_lost_another_does_not_wait_where_the_launcher_has_said_so(how, waits):
    """Ranks that wait for one another lose their connections one after the other: each would wait 10 seconds."""
    done = subprocess.run(
        [sys.executable, "-c", LOST, how], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, f"waits {waits}\n"), done.stderr
    assert done.stderr == "error: the connection to another process was lost\n"
