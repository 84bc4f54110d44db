"""When a training process should stop early: a signal, the launcher's word, or the time it was given.

utils/launch.py tells its workers about itself in one environment variable, and creates a file when it is asked to stop:
a worker that still imports finds the file later, and a signal sent to the launcher alone reaches every worker.
"""

import json
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import NamedTuple

RESTART = 75  # exit code of a worker that wants to be started again; EX_TEMPFAIL of sysexits.h
SECOND = 1.0  # seconds: a Ctrl-C that comes sooner belongs to the one before it
STOPPING = "stopping after this step and saving; Ctrl-C again stops at once"
VARIABLE = "QGFACE_LAUNCHER"


class Launcher(NamedTuple):
    """What a worker knows of the utils/launch.py that started it."""

    pid: int
    stop_file: str  # appears when the launcher is asked to stop; holds the reason
    began: float  # time.monotonic() at its start
    elastic: bool  # the number of machines may change: NNODES=1:2

    def announce(self) -> None:
        """Put this into the environment that workers inherit."""
        os.environ[VARIABLE] = json.dumps(self)

    @property
    def stopped_file(self) -> Path:
        """Where workers note that they stopped before the end of the run."""
        return Path(self.stop_file).with_name("stopped")


def launcher() -> Launcher | None:
    """The launcher of this process, None where it was started otherwise."""
    text = os.environ.get(VARIABLE)
    return Launcher(*json.loads(text)) if text else None


def end_with_launcher() -> None:
    """See that this process does not outlive its launcher, which may be killed without a chance to end its workers."""
    above = launcher()
    if above is not None and not (os.getppid() != above.pid and _exists(above.pid)):  # else a worker's own child
        threading.Thread(target=_wait_for_the_end_of, args=(above.pid,), daemon=True).start()


def _wait_for_the_end_of(pid: int) -> None:
    while os.getppid() == pid:
        time.sleep(0.5)
    os._exit(1)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def stop_signals() -> list[signal.Signals]:
    """The signals that ask a run to stop; SIGHUP is none under nohup."""
    hangup = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGTERM, signal.SIGINT, *hangup]


def name_of(number: int) -> str:
    """ "SIGTERM", "SIGHUP", "Ctrl-C"."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def announce_stop() -> None:
    """Say what the first Ctrl-C does; from a signal handler, where `print` may meet itself half way through a line."""
    os.write(2, f"{chr(10) if os.isatty(2) else ''}{STOPPING}\n".encode())


class Stop:
    """Notes that this run should stop; the loop asks once a step.

    SIGTERM, SIGINT and SIGHUP (unless it is ignored) are only noted. A second Ctrl-C, a second or more after the first,
    raises KeyboardInterrupt; further SIGTERMs change nothing (Slurm sends several). A context manager; `close` restores
    the earlier handlers. Made in the main thread.

    Args:
        max_minutes: stop after this time, counted from the launcher's start, so that an elastic run's restarts do not
            begin it anew; without a launcher from now. None: no limit.
    """

    terminated = (
        False  # SIGTERM has come to this process; where a rank waits for another, perhaps long before it is seen
    )

    def __init__(self, max_minutes: float | None = None):
        self._launcher, self._max_minutes = launcher(), max_minutes
        began = self._launcher.began if self._launcher else time.monotonic()
        self._deadline = None if max_minutes is None else began + 60 * max_minutes
        self._reason: str | None = None
        self._interrupted: float | None = None
        self._earlier = {number: signal.signal(number, self._note) for number in stop_signals()}

    def asked(self) -> str | None:
        """Why the run should stop: "SIGTERM", "SIGHUP", "Ctrl-C", "max_time of 90 minutes"; None while it should not.
        A reason stays. Costs microseconds.
        """
        if self._reason is None:
            if self._launcher and os.path.exists(self._launcher.stop_file):
                self._reason = Path(self._launcher.stop_file).read_text()
            elif self._deadline is not None and time.monotonic() >= self._deadline:
                self._reason = f"max_time of {self._max_minutes:g} minutes"
        return self._reason

    def close(self) -> None:
        """Give the signals back to the handlers that were there before."""
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        self._earlier = {}

    def __enter__(self) -> "Stop":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT:
            now = time.monotonic()
            if self._interrupted is None:
                self._interrupted = now
                if self._launcher is None and os.environ.get("RANK", "0") == "0":
                    announce_stop()
            elif now - self._interrupted >= SECOND:
                raise KeyboardInterrupt
        if number == signal.SIGTERM:
            Stop.terminated = True
        if self._reason is None:
            self._reason = name_of(number)


def exit_code(stop: Stop, agreed: str | None = None) -> int:
    """What a worker exits with after it has saved.

    0, except in an elastic run that another machine leaves: the workers of those that stay exit with `RESTART`, and
    their launchers start them again with fewer processes. The launcher is told that the run was stopped before its
    end (STOP_EXIT_CODE).

    Args:
        stop: this process's.
        agreed: the reason for which all processes stop, perhaps another's; a max_time ends the run on every machine.
    """
    above = launcher()
    if above is None:
        return 0
    if above.elastic and not stop.asked() and not (agreed or "").startswith("max_time"):
        return RESTART
    above.stopped_file.touch()
    return 0
