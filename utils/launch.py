"""Start a script on every device: torchrun, with one line instead of a report where a process fails.

    python utils/launch.py --standalone --nproc-per-node 2 train.py configs/demo.py

The arguments are torchrun's. SIGTERM, SIGHUP and the first Ctrl-C ask the workers to stop (`utils.stop.Stop`); the
launcher waits until they have ended by themselves, however long that takes. A script that does not ask goes on. A
second Ctrl-C kills the workers, as does torchrun when one of them fails. Workers end when their launcher is gone.

The exit code is that of the worker that failed first; 0 after a clean stop, or STOP_EXIT_CODE for those who have to
tell a stop from the end of a run; 128 + the signal where workers had nothing to save yet; 130 after a second Ctrl-C.
"""

import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from utils.scratch import scratch
from utils.stop import RESTART, SECOND, Launcher, announce_stop, name_of, stop_signals

STOPPED = {130, 143, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}  # how a worker ends that does not know Stop


class Leave(BaseException):
    """Raised in the main thread by a signal: end now."""

    def __init__(self, code: int):
        self.code = code


class Job:
    """What the main thread, which gets the signals, shares with the thread that runs torchrun."""

    def __init__(self, folder: Path):
        self.stop_file = folder / "stop"  # exists once the run was asked to stop; holds the reason
        self.elastic = False  # the number of machines may change
        self.workers: list[int] = []  # process ids, each with a process group of its own
        self.starting = False  # workers may run whose ids are not known yet
        self.finished = False  # all of them ended well
        self.signal: int | None = None  # the first
        self._interrupted: float | None = None
        self._began = time.monotonic()

    def launcher(self) -> Launcher:
        return Launcher(os.getpid(), str(self.stop_file), self._began, self.elastic)

    def note(self, number: int, _: FrameType | None) -> None:
        """The handler of every signal that asks to stop."""
        if number == signal.SIGINT:
            now = time.monotonic()
            if self._interrupted is not None and now - self._interrupted >= SECOND:
                self.kill()
                raise Leave(130)
            if self._interrupted is None and self.workers and not self.finished:
                announce_stop()
            self._interrupted = self._interrupted or now
        if self.signal is None:
            self.signal = number
            new = self.stop_file.with_suffix(".new")
            new.write_text(name_of(number))
            new.rename(self.stop_file)
            if self.finished or not (self.workers or self.starting):
                raise Leave(0 if self.finished else 128 + number)

    def kill(self) -> None:
        """End the workers and what they started."""
        for pid in self.workers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def main(arguments: list[str]) -> int:
    """Run and return the exit code."""
    with scratch("qgface-") as folder:
        job = Job(folder)
        tempfile.tempdir = str(folder)  # torchrun leaves its own behind
        try:
            for number in stop_signals():
                signal.signal(number, job.note)
            trouble = in_a_thread(arguments, job)
        except Leave as leave:
            trouble = leave
        for number in stop_signals():
            signal.signal(number, signal.SIG_IGN)  # the end is near
        stopped = int(os.environ.get("STOP_EXIT_CODE") or 0) if job.launcher().stopped_file.exists() else 0
    sys.stdout.flush()
    if isinstance(trouble, Leave):
        os._exit(trouble.code)  # the other thread cannot be stopped
    return (explain(trouble, job) if trouble else 0) or stopped


def in_a_thread(arguments: list[str], job: Job) -> BaseException | None:
    """Run torchrun outside the main thread, where it leaves signals alone; returns what it raised."""
    raised = []

    def body() -> None:
        try:
            _torchrun()(arguments, job)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(1)
    return raised[0] if raised else None


def _torchrun() -> Callable[[list[str], Job], None]:
    """Import it: that takes seconds, in which a signal may come. One line of ours says what went wrong, not torch."""
    logging.disable(logging.ERROR)
    level = os.environ.pop("TORCH_CPP_LOG_LEVEL", None)
    os.environ["TORCH_CPP_LOG_LEVEL"] = "FATAL"  # read at the import; workers have the user's
    from utils.agent import torchrun

    del os.environ["TORCH_CPP_LOG_LEVEL"]
    os.environ |= {} if level is None else {"TORCH_CPP_LOG_LEVEL": level}
    return torchrun


def explain(trouble: BaseException, job: Job) -> int:
    """Say what went wrong in one line and return the exit code."""
    from torch.distributed import DistNetworkError
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError

    if isinstance(trouble, ChildFailedError):
        return _failed(*trouble.get_first_failure(), job)
    if isinstance(trouble, SignalException):  # the agent's, of a machine that leaves an elastic run
        return 0 if job.finished else 128 + (job.signal or signal.SIGTERM)
    if isinstance(trouble, DistNetworkError):
        print(f"error: the processes cannot meet: {str(trouble).splitlines()[0]}", file=sys.stderr, flush=True)
        return 2
    if isinstance(trouble, RendezvousError):
        print(f"error: {_why(trouble)}", file=sys.stderr, flush=True)
        return 1
    raise trouble


def _failed(rank: int, failure, job: Job) -> int:
    written = failure.error_file_data if isinstance(failure.error_file_data, dict) else {}
    message = written.get("message", "<NONE>")
    if message == "<NONE>":  # torch's word for a process that left none
        if job.signal is not None and failure.exitcode == RESTART:
            return 0  # another worker of this machine was the first to know: all have saved
        if job.signal is not None and failure.exitcode in STOPPED:
            return 128 + job.signal
        message = f"process {rank} ended with {_reason(failure.exitcode)}; the others were stopped"
    if failure.exitcode != 130:
        print(f"error: {message}", file=sys.stderr, flush=True)
    return failure.exitcode if failure.exitcode > 0 else 1


def _reason(exitcode: int) -> str:
    return f"exit code {exitcode}" if exitcode >= 0 else f"signal {signal.Signals(-exitcode).name}"


def _why(trouble: Exception) -> str:
    from torch.distributed.elastic.rendezvous.api import RendezvousClosedError, RendezvousTimeoutError

    if isinstance(trouble, RendezvousClosedError):
        return "the run that this machine waited for has ended"
    if isinstance(trouble, RendezvousTimeoutError):
        return "too few machines came: NNODES says how many are needed"
    return (
        "the connection to MASTER_ADDR, where the machines of an elastic run meet, failed or was lost; "
        "the same command goes on from the newest checkpoint"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
