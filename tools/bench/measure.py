"""Time and memory of steps, in one process and in turn; the table and the file of `python -m tools.bench`."""

import ctypes
import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from prettytable import PrettyTable

Step = Callable[[], object]
MIB = 2**20


class Row(NamedTuple):
    """A line of the table; `ratio` is ours over the baseline."""

    case: str
    unit: str
    baseline: float
    ours: float
    target: float | None = None  # what the ratio must not exceed; None: for information
    higher: bool = False  # True: more is better, and the ratio must reach the target

    @property
    def ratio(self) -> float:
        return self.ours / self.baseline

    @property
    def ok(self) -> bool | None:
        if self.target is None:
            return None
        return self.ratio >= self.target if self.higher else self.ratio <= self.target


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, as run.sh does for training. Without it every large array is made of fresh
    pages, which cost more than the arithmetic on them.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(-4, 0)  # M_MMAP_MAX
    libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def seconds(steps: dict[str, Step], runs: int, warmup: int = 1) -> dict[str, float]:
    """Median time of each step, run in turn: a slow moment of the machine meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for run in range(-warmup, runs):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if run >= 0:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def peak_mib(step: Step) -> float:
    """MiB that a step needs at its peak above what was there before it (Linux)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = _status("VmRSS")
    step()
    return (_status("VmHWM") - before) / 1024


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def compare(
    case: str,
    ours: Step,
    baseline: Step,
    runs: int,
    time_target: float | None = None,
    memory_target: float | None = None,
    release: Step = lambda: None,
    warmup: int = 1,
) -> list[Row]:
    """Time and extra memory of ours against the baseline's; `release` gives up what ours keeps from step to step."""
    took = seconds({"baseline": baseline, "ours": ours}, runs, warmup)
    release()
    needs = {"baseline": peak_mib(baseline), "ours": peak_mib(ours)}
    return [
        Row(case, "s", took["baseline"], took["ours"], time_target),
        Row(case, "MiB", needs["baseline"], needs["ours"], memory_target),
    ]


def compare_speed(
    case: str,
    ours: Step,
    baseline: Step,
    runs: int,
    speed_target: float | None = None,
    memory_target: float | None = None,
) -> list[Row]:
    """As `compare`, without a warm-up, the time as its inverse: the ratio is how many times faster ours is."""
    time, memory = compare(case, ours, baseline, runs, memory_target=memory_target, warmup=0)
    return [Row(case, "1/s", 1 / time.baseline, 1 / time.ours, speed_target, higher=True), memory]


def report(rows: list[Row], path: str | None) -> None:
    """Print the rows, and write them to `path`."""
    table = PrettyTable(["case", "unit", "baseline", "ours", "ratio", "target", ""])
    table.align = "r"
    table.align["case"] = "l"
    for row in rows:
        target = "" if row.target is None else f"{'>=' if row.higher else '<='} {row.target:g}"
        verdict = {None: "", True: "ok", False: "MISSED"}[row.ok]
        table.add_row(
            [row.case, row.unit, f"{row.baseline:.4g}", f"{row.ours:.4g}", f"{row.ratio:.3f}", target, verdict]
        )
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n{table}")
    if path:
        names = ("case", "unit", "baseline", "ours", "ratio", "target", "ok")
        lines = [{name: getattr(row, name) for name in names} for row in rows]
        Path(path).write_text(json.dumps(lines, indent=1) + "\n")
