"""The tables and the JSON file of a soak."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from prettytable import PrettyTable

from tools.soak.kills import KINDS, MOMENTS, SIGNALS
from tools.soak.run import Kill


@dataclass
class Comparison:
    """A run that has ended, compared with the uninterrupted one."""

    run: int
    ranks: int | None  # of every start; None: of each another number
    kills: int
    exact: bool  # to the last bit
    distance: float  # the largest |difference| / |tensor|
    faults: list[str] = field(default_factory=list)


def tables(kills: Sequence[Kill]) -> str:
    """How each kind and each moment of kills went."""
    return f"{_table('kind', KINDS, kills)}\n{_table('moment', MOMENTS, kills)}"


def _table(by: str, names: Sequence[str], kills: Sequence[Kill]) -> PrettyTable:
    columns = ("kills", "steps lost", "most", "s until all ended", "longest", "s until training again")
    table = PrettyTable([by, *columns], align="r")
    table.align[by] = "l"
    for name in (*names, "all"):
        chosen = [kill for kill in kills if name in ("all", getattr(kill, by))]
        lost, seconds = [kill.lost for kill in chosen if kill.step is not None], [kill.seconds for kill in chosen]
        startups = [kill.startup for kill in chosen if kill.startup is not None]
        longest = f"{max(seconds):.1f}" if seconds else "-"
        table.add_row([name, len(chosen), mean(lost), max(lost, default="-"), mean(seconds), longest, mean(startups)])
    return table


def mean(values: Sequence[float]) -> str:
    """One decimal; "-" of nothing."""
    return f"{sum(values) / len(values):.1f}" if values else "-"


def verdicts(kills: Sequence[Kill], runs: Sequence[Comparison]) -> list[str]:
    """A line for each thing that was proven, or was not."""
    damaged = [kill for kill in kills if kill.damaged]
    signals = [kill.lost for kill in kills if kill.kind in SIGNALS]
    unnamed = sum("is damaged" in fault for kill in damaged for fault in kill.faults)
    lines = [
        f"{len(damaged)} damaged checkpoints cost {sum(kill.cost for kill in damaged)} steps, {unnamed} were not named"
        if damaged
        else "no checkpoint was damaged",
        f"{len(signals)} stops by signal lost {sum(signals)} steps",
    ]
    for exact, words in ((True, "bit for bit on as many ranks"), (False, "but for rounding on other numbers of ranks")):
        chosen = [run for run in runs if run.exact == exact]
        if chosen:
            same, largest = sum(not run.faults for run in chosen), max(run.distance for run in chosen)
            lines.append(
                f"{same} of {len(chosen)} runs as the uninterrupted one, {words}; largest distance {largest:.2g}"
            )
    return lines


def wrong(kills: Sequence[Kill], runs: Sequence[Comparison]) -> list[str]:
    """Everything that was not as it should be."""
    found = [f"run {kill.run}, {kill.kind}, {kill.moment}: {fault}" for kill in kills for fault in kill.faults]
    return found + [f"run {run.run}: {fault}" for run in runs for fault in run.faults]


def as_json(facts: dict, kills: Sequence[Kill], runs: Sequence[Comparison]) -> dict:
    """What report.json holds: `facts` of the soak, each kill, each run, the faults."""
    each = [asdict(kill) | {"lost": kill.lost} for kill in kills]
    return {**facts, "wrong": wrong(kills, runs), "runs": [asdict(run) for run in runs], "kills": each}


def shown(path: Path) -> str:
    """A path as short as it can be."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
