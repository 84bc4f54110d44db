"""A process that hangs ends, and says where it was."""

import os
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from utils import cli, parallel
from utils.project import ROOT

LIBRARIES = ("<", os.path.dirname(os.__file__))  # Python's own; where it keeps packages too, but not everywhere
SHOWN = 3  # places of the call stack


class Watchdog:
    """Ends the process with exit code 1 when no step was finished for a time: a lost message, a dead disk.

    A thread of its own counts the time in which it could run itself, so that a machine or a process that was suspended
    is no false alarm. Where the main thread holds Python's lock in a hanging library call, nothing can be said.

    Args:
        minutes: how long a step may take, the first one counted from here; None: any time.
        say: is given the line that names the place.
    """

    def __init__(self, minutes: float | None, say: Callable[[str], None]):
        self._minutes, self._say = minutes, say
        self._beats, self._paused, self._closed = 0, False, threading.Event()
        weakref.finalize(self, self._closed.set)  # a run that failed watches no longer
        if minutes is not None:
            arguments = weakref.ref(self), self._closed, 60 * minutes
            threading.Thread(target=_watch, args=arguments, daemon=True).start()

    def beat(self) -> None:
        """A step was finished. Costs nanoseconds."""
        self._beats += 1

    def pause(self) -> None:
        """What comes now may take any time: an evaluation, a checkpoint."""
        self._paused = True

    def resume(self) -> None:
        """Steps again; the time begins anew."""
        self._beats += 1
        self._paused = False

    def close(self) -> None:
        """Watch no longer."""
        self._closed.set()

    def _end(self, patience: float) -> None:
        rank, limit = parallel.rank(), f"{self._minutes:g} minutes"
        self._say(f"process {rank}: no step within {limit}; it is in {place()}")
        sys.stdout.flush()
        if self._closed.wait(patience):  # the others say where they are too, before the first end stops them
            return
        cli.report(f"process {rank} finished no step within {limit} (step_timeout); above is where each process was")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)  # what is registered with atexit may wait for what hangs


def _watch(watchdog: "weakref.ref[Watchdog]", closed: threading.Event, limit: float) -> None:
    tick, seen, silent = min(1.0, limit / 10), 0, 0.0
    while not closed.wait(tick) and (dog := watchdog()) is not None:
        silent = 0.0 if dog._paused or dog._beats != seen else silent + tick
        seen = dog._beats
        if silent >= limit:
            dog._end(3 * tick)
        del dog  # it may go while this waits


def place() -> str:
    """Where the main thread is: the innermost places of its call stack that are no library's."""
    stack: list[FrameType] = []
    frame: FrameType | None = sys._current_frames()[threading.main_thread().ident or 0]  # it has begun
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    ours = [frame for frame in stack if not _of_a_library(frame.f_code.co_filename)] or stack
    inner, *callers = [_name(frame) for frame in ours[:SHOWN]]
    return f"{inner} (called from {', '.join(callers)})" if callers else inner


def _of_a_library(file: str) -> bool:
    return file.startswith(LIBRARIES) or bool({"site-packages", "dist-packages"} & set(Path(file).parts))


def _name(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return f"{shown}:{frame.f_lineno} {frame.f_code.co_name}"
