"""A run that is killed again and again until it has ended, and what each kill did."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tools.soak import kills
from tools.soak.compare import faults
from tools.soak.damage import KINDS, damage
from tools.soak.kills import MOMENTS, SIGNALS, Deck, Moment, Plan, strike
from tools.soak.processes import Start
from utils.checkpoint import Checkpoint, check, every

# Seconds until no process is left. After a SIGKILL a rank that still imports notices at the end of its imports only; a
# stop by signal ends the start-up, a step and a checkpoint first.
HARD, SOFT = 30, 120
DAMAGES = 4  # one in so many kills damages a checkpoint too


@dataclass
class Kill:
    """One kill and what came of it."""

    run: int
    kind: str
    moment: str
    ranks: int
    step: int | None  # the last that was finished; None: the start had not begun to train
    whole: int  # step of the newest whole checkpoint that it left, 0 where there was none
    seconds: float  # until all processes had ended
    damaged: str = ""  # what was done to that checkpoint afterwards
    cost: int = 0  # steps from it back to the one before
    resumed: int | None = None  # step the next start went on from
    startup: float | None = None  # seconds that it needed to get there
    faults: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Steps that were finished and must be done again, without those that the damage costs."""
        return 0 if self.step is None else self.step - self.whole


class Soak:
    """What all runs share: the draws, the kills so far, the folder.

    Args:
        folder: of the runs.
        ranks: the choices.
        more: whether there is to be another kill after so many.
        say: prints a line.
    """

    def __init__(
        self,
        folder: Path,
        ranks: list[int],
        rng: random.Random,
        more: Callable[[int], bool],
        say: Callable[[str], None],
    ):
        self.folder, self.ranks, self.rng, self.say = folder, ranks, rng, say
        self.kinds, self.moments, self.damages = Deck(kills.KINDS, rng), Deck(MOMENTS, rng), Deck([*KINDS], rng)
        self.kills: list[Kill] = []
        self.startups: list[float] = []
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self._more, self._current = more, None

    def more(self) -> bool:
        """Whether there is to be another kill."""
        return self._more(len(self.kills))

    def start(self, words: list[str], ranks: int, log: Path) -> Start:
        """Start a run, or go on with it."""
        self._current = Start(words, ranks, log, self.temporary)
        return self._current

    def close(self) -> None:
        """Leave no process behind."""
        if self._current is not None:
            self._current.kill()

    def unused_memory(self) -> list[str]:
        """Shared memory of the last start, which has ended."""
        return [f"{file} was left behind" for file in sorted(self._current.memory) if Path(file).exists()]

    def temporary_files(self) -> list[str]:
        """What is in the folder for temporary files, but for a cache that torch keeps there."""
        paths = [path for path in self.temporary.iterdir() if not path.name.startswith("torchinductor")]
        return [f"{path} was left behind" for path in sorted(paths)]


def reference(soak: Soak, words: list[str], ranks: int, folder: Path) -> Plan:
    """An uninterrupted run; returns what it does.

    Raises:
        ValueError: it failed.
    """
    start = soak.start([*words, f"output={folder}"], ranks, folder.with_name(f"{folder.name}.log"))
    _, left = start.wait(kills.HANGS)
    if left or not start.finished():
        raise ValueError(f"the uninterrupted run on {ranks} failed: {start.last_line()}; see {start.log}")
    soak.startups.append(start.startup)
    state = Checkpoint(every(folder / "checkpoints")[-1]).state
    plan = Plan(state["last_step"], state["config"]["save_every"], state["config"]["verbose"])
    wrong = faults(folder, plan.last_step, plan.verbose)
    if wrong:
        raise ValueError(f"the uninterrupted run on {ranks} is not as it should be: {wrong[0]}; see {folder}")
    return plan


def interrupted(soak: Soak, number: int, words: list[str], fixed: int | None, plan: Plan) -> tuple[Path, list[str]]:
    """Start a run again and again until it has ended; its folder, and why it did not come to its end.

    Args:
        number: of the run.
        fixed: ranks of each start; None: another number at random.
        plan: of the run.
    """
    folder, ranks, starts = soak.folder / f"run_{number}", fixed, 0
    unsettled, said = [], ""  # kills after which no start has begun to train yet, and what those that tried have said
    while True:
        ranks, starts, expected = fixed or another(soak, ranks), starts + 1, newest_whole(folder)
        start = soak.start([*words, f"output={folder}"], ranks, soak.folder / f"run_{number}_{starts}.log")
        kill = one_kill(soak, number, start, folder, plan) if soak.more() else None
        left = [] if kill else start.wait(kills.HANGS)[1]
        said += start.text()
        if start.resumed_from() is not None:
            settle(unsettled, start, expected, said)
            soak.startups.append(start.startup)
            unsettled, said = [], ""
        if kill is None:
            why = f"hangs, processes {left}" if left else f"ended by itself: {start.last_line()}"
            return folder, [] if start.finished() else [f"start {starts} {why}; see {start.log}"]
        kill.faults += judge(kill, start, plan) + soak.unused_memory()
        damage_sometimes(soak, kill, folder)
        soak.kills.append(kill)
        unsettled.append(kill)
        where = "before its first step" if kill.step is None else f"step {kill.step}, {kill.lost} lost"
        after = f"; {kill.damaged}" if kill.damaged else ""
        soak.say(
            f"run {number}, start {starts} on {ranks}: {kill.kind}, {kill.moment}, {where}, "
            f"ended in {kill.seconds:.1f} s{after}" + "".join(f"\n  WRONG: {fault}" for fault in kill.faults)
        )


def another(soak: Soak, ranks: int | None) -> int:
    """Another number of ranks, where there is a choice."""
    return soak.rng.choice([choice for choice in soak.ranks if choice != ranks] or soak.ranks)


def newest_whole(folder: Path) -> int:
    """The step of the newest whole checkpoint, 0 where there is none."""
    whole = [path for path in every(folder / "checkpoints") if not check(path)]
    return int(whole[-1].name.removeprefix("step_")) if whole else 0


def one_kill(soak: Soak, number: int, start: Start, folder: Path, plan: Plan) -> Kill | None:
    """Wait for a moment and strike; None where the run ended before that, or in spite of it."""
    kind, name = soak.kinds.draw(), soak.moments.draw()
    while kind == "SIGKILL loader" and name == "start-up":  # there is none yet
        name = soak.moments.draw()
    recent = soak.startups[-10:]
    moment = Moment(name, plan, sum(recent) / len(recent), soak.rng)
    if not (moment.wait(start, folder) and strike(kind, start, soak.rng)):
        return None
    seconds, left = start.wait(SOFT if kind in SIGNALS else HARD)
    start.kill()
    if not left and start.finished():
        return None
    step = None if start.resumed_from() is None else kills.last_step(folder)
    lived = [f"{len(left)} processes lived on after {seconds:.0f} s; see {start.log}"] if left else []
    return Kill(number, kind, name, start.ranks, step, newest_whole(folder), seconds, faults=lived)


def judge(kill: Kill, start: Start, plan: Plan) -> list[str]:
    """What is wrong with how a start ended: its exit code, its last words, the steps that are lost."""
    code, text, wrong = start.process.returncode, start.text(), []
    stopped = re.search(r"\nstopped     by \S+ at step (\d+)", text)
    if kill.kind in SIGNALS:
        if stopped and code == 0:
            if not int(stopped[1]) == kill.step == kill.whole:
                wrong.append(f"stopped at step {stopped[1]}, the log ends at {kill.step}, saved is {kill.whole}")
        elif not (kill.step is None and code == 128 + SIGNALS[kill.kind]):  # there was nothing to save yet
            wrong.append(f"exit code {code}, expected 0: {start.last_line()}")
    elif kill.lost > 2 * plan.save_every:  # a checkpoint is written while steps go on, until the next one is due
        wrong.append(f"step {kill.step} was finished, but {kill.whole} is the newest whole checkpoint")
    words = {"SIGKILL worker": "ended with signal SIGKILL", "SIGKILL loader": "a loader process ended with code -9"}
    if words.get(kill.kind, "") not in text:
        wrong.append(f"nothing says {words[kill.kind]!r}: {start.last_line()}")
    return wrong + ([f"a traceback; see {start.log}"] if "Traceback" in text else [])


def damage_sometimes(soak: Soak, kill: Kill, folder: Path) -> None:
    """Damage the newest checkpoint now and then, where another one is left."""
    saved = [path for path in every(folder / "checkpoints") if not check(path)]
    if len(saved) > 1 and soak.rng.randrange(DAMAGES) == 0:
        kill.damaged = damage(saved[-1], soak.damages.draw(), soak.rng)
        kill.cost = kill.whole - newest_whole(folder)


def settle(unsettled: list[Kill], start: Start, expected: int, said: str) -> None:
    """A start has begun to train: did it go on from the newest whole checkpoint, and were damaged ones named?"""
    for kill in unsettled:
        kill.resumed, kill.startup = start.resumed_from(), start.startup
        damaged = kill.damaged.partition("/")[0]
        if damaged and f"{damaged} is damaged" not in said:
            kill.faults.append(f"nothing says that {damaged} is damaged; see {start.log}")
    if unsettled and start.resumed_from() != expected:
        kill.faults.append(f"resumed from step {kill.resumed}, the newest whole checkpoint was of {expected}")
