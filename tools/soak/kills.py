"""How a start is ended, and when."""

import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.soak.compare import read_lines
from tools.soak.processes import Start, send

SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}  # to the launcher; the run saves
TARGETS = {
    "SIGKILL launcher": lambda start: [start.process.pid],
    "SIGKILL worker": lambda start: start.workers(),
    "SIGKILL loader": lambda start: start.loaders(),
}
KINDS = (*TARGETS, "SIGKILL all", *SIGNALS)
MOMENTS = ("start-up", "training", "save", "evaluation", "end")
POLL = 0.02  # seconds
HANGS = 300  # seconds; no start takes so long


class Deck:
    """Draws at random, each of the choices once before any comes again."""

    def __init__(self, choices: Sequence, rng: random.Random):
        self._choices, self._rng, self._left = list(choices), rng, []

    def draw(self):
        if not self._left:
            self._left = self._rng.sample(self._choices, len(self._choices))
        return self._left.pop()


class Plan(NamedTuple):
    """What a run does, from its config."""

    last_step: int
    save_every: int  # steps
    verbose: int  # steps between evaluations


class Moment:
    """Waits for a random moment of a kind.

    Args:
        name: one of MOMENTS.
        plan: of the run.
        startup: seconds that a start needs until its first step, about.
    """

    def __init__(self, name: str, plan: Plan, startup: float, rng: random.Random):
        self.name, self.plan, self.rng = name, plan, rng
        self._pause = rng.uniform(0, {"save": 0.04, "end": 1.5}.get(name, 0.3))
        if name == "start-up":
            self._pause = rng.uniform(0.5, startup)  # before, Python has not even begun to run the launcher
        self._steps = rng.randint(1, plan.last_step // 4)
        if name == "save" and rng.random() < 0.5:
            self._pause = 0.0

    def wait(self, start: Start, folder: Path) -> bool:
        """False: all ended before it came."""
        if self.name != "start-up":
            if not until(lambda: start.resumed_from() is not None, start):
                return False
            begin = start.resumed_from()
            if not until(lambda: self._is_now(folder, begin), start):
                return False
        deadline = time.monotonic() + self._pause
        return until(lambda: time.monotonic() >= deadline, start)

    def _is_now(self, folder: Path, begin: int) -> bool:
        step = last_step(folder)
        if self.name == "end":
            return step >= self.plan.last_step
        if self.name == "evaluation":
            return step > begin and step % self.plan.verbose == 0
        if step < min(begin + self._steps, self.plan.last_step):
            return False
        return self.name == "training" or any((folder / "checkpoints").glob(".step_*"))


def until(condition: Callable[[], bool], start: Start) -> bool:
    """Wait for the condition; False: the start ended first, or hangs."""
    while not start.ended() and time.monotonic() - start.began < HANGS:
        start.resumed_from()  # notes when it begins
        if condition():
            return True
        time.sleep(POLL)
    return False


def last_step(folder: Path) -> int:
    """The newest step in the log, 0 where there is none."""
    steps = [line["step"] for line in read_lines(folder)]
    return max(steps, default=0)


def strike(kind: str, start: Start, rng: random.Random) -> bool:
    """Do it; False where there was nothing to hit."""
    if kind == "SIGKILL all":
        start.kill()
        return True
    if kind in SIGNALS:
        send(start.process.pid, SIGNALS[kind])
        return True
    if not until(lambda: TARGETS[kind](start), start):
        return False
    found = TARGETS[kind](start)
    if found:
        send(rng.choice(found), signal.SIGKILL)
    return bool(found)
