"""What runs have reached: the numbers of a table's columns, hours and machine."""

import collections
import itertools
import json
import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from configs.tables import Column
from eval.confidence import mean_replicates
from eval.results import read_evidence, read_results
from tools import recorded
from tools.ablation.runs import Run, Study
from utils import project
from utils.log_lines import is_result


class Number(NamedTuple):
    """A row's number in a column, in percent: each seed's that is there."""

    by_seed: dict[int, float]

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.by_seed.values()) if self.by_seed else None

    @property
    def std(self) -> float | None:
        """Of the seeds, unbiased (n - 1); None with fewer than two."""
        return statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else None


def split(metric: str) -> tuple[str, str]:
    """Target and metric of TARGET/METRIC."""
    target, _, name = metric.partition("/")
    return target, name


class Source(NamedTuple):
    """What a target's numbers come from: the data's digest, the protocol's version, and what of OPTIONS differs."""

    digest: str | None
    protocol: int | None
    options: str


OPTIONS = {
    "fusion": "sum",
    "use_norm_score": True,
    "use_detector_score": True,
}  # of an evaluation, as training has them


class Reached:
    """What runs had reached when this was made: each results.json is read once, each draw made once.

    Attributes:
        usual: where most runs have their numbers from, by target: what is from elsewhere cannot be compared.
    """

    def __init__(self, runs: Iterable[Run]):
        runs = [run for run in runs if run.ended]
        self._contents = {run.folder: read_results(run.results) for run in runs}
        self._draws: dict[tuple[Path, str, str], np.ndarray | None] = {}
        found = collections.defaultdict(collections.Counter)
        for run in runs:
            for target in self.targets(run):
                found[target][self.source(run, target)] += 1
        self.usual = {target: sources.most_common(1)[0][0] for target, sources in found.items()}

    def ended(self, run: Run) -> bool:
        """Whether it had ended."""
        return run.folder in self._contents

    def targets(self, run: Run) -> dict[str, dict[str, float]]:
        """Metrics by target; none of a run that had not ended."""
        return self._contents[run.folder]["targets"] if self.ended(run) else {}

    def source(self, run: Run, target: str) -> Source:
        """Where a run has a target's numbers from."""
        where = self._contents.get(run.folder, {}).get("provenance", {}).get(target, {})
        given = where.get("options", {})
        options = ", ".join(f"{key}={given[key]!r}" for key in OPTIONS if given.get(key, OPTIONS[key]) != OPTIONS[key])
        return Source(where.get("data_digest"), where.get("protocol"), options)

    def number(self, runs: Mapping[int, Run], column: Column) -> Number:
        """A column of a row, from its runs by seed."""
        values = {seed: self._value(run, column) for seed, run in runs.items()}
        return Number({seed: x for seed, x in values.items() if x is not None})

    def draws(self, run: Run, target: str, metric: str) -> np.ndarray | None:
        """(draws,) of a metric, each on people drawn anew; None where evidence is missing."""
        key = run.folder, target, metric
        if key not in self._draws:
            self._draws[key] = _draws(run, target, metric)
        return self._draws[key]

    def _value(self, run: Run, column: Column) -> float | None:
        """Percent; None where the run has not ended, or a target is missing or from elsewhere than most runs'."""
        pairs = [split(metric) for metric in column.metrics]
        found = [self.targets(run).get(target, {}).get(name) for target, name in pairs]
        alike = all(self.source(run, target) == self.usual.get(target) for target, _ in pairs)
        return None if None in found or not alike else 100 * statistics.fmean(found)


def _draws(run: Run, target: str, metric: str) -> np.ndarray | None:
    try:
        evidence = read_evidence(run.results, target)
    except ValueError:  # it was removed, to save room
        return None
    if f"replicates/{metric}" in evidence:
        return evidence[f"replicates/{metric}"]
    right = evidence.get(f"right/{metric}")
    return None if right is None else mean_replicates(right)


def best(numbers: Sequence[Number], digits: int = 2) -> list[bool]:
    """Which rows have the highest mean, as it is shown: several may, and none where rows have different seeds."""
    if len({tuple(x.by_seed) for x in numbers if x.by_seed}) > 1:
        return [False] * len(numbers)
    shown = [None if x.mean is None else round(x.mean, digits) for x in numbers]
    highest = max((x for x in shown if x is not None), default=None)
    return [x is not None and x == highest for x in shown]


def notes(study: Study, reached: Reached, digests: Mapping[str, str]) -> list[str]:
    """What makes a table incomplete, its rows incomparable, or a row another than its name says: a line each.

    Args:
        reached: by the study's runs.
        digests: of the targets that are there, by name.
    """
    lines, wanted = [], {split(metric)[0] for column in study.columns for metric in column.metrics}
    expected, most = {target: digest for target, digest in digests.items() if target in wanted}, reached.usual
    for run in [run for run in study.every() if reached.ended(run)]:
        again = [target for target, digest in expected.items() if reached.source(run, target).digest != digest]
        for target in sorted(wanted & set(reached.targets(run))):
            if (own := reached.source(run, target)) != most[target]:
                lines.append(f"{run} is left out of {target}: it has {_shown(own)}, most have {_shown(most[target])}")
        if again:
            model, data = shlex.quote(f"{run.folder}/model.pt"), shlex.quote(run.cfg.val_dir or "FOLDER")
            pairs = f" --pairs {run.cfg.val_pairs}" * any(target.startswith("cross_resolution") for target in again)
            lines.append(
                f"{run} has no {', '.join(again)} of this data; "
                f"{project.shown('eval')} {model} --data {data} --target {shlex.join(again)}{pairs} adds it"
            )
        trained = [line for line in log(run) if "lq_pairs" in line]
        if run.cfg.pool != "none" and trained and all(line["lq_pairs"] == 0 for line in trained):
            lines.append(f"{run}: no pair was found LQ, so that the contrast did nothing; norm_mean and norm_std in "
                         f"{run.folder}/metrics.jsonl may not have settled")  # fmt: skip
    return lines


def _shown(source: Source) -> str:
    digest = source.digest[:8] if source.digest else "none"
    return f"protocol {source.protocol}, {source.options or 'plain'}, data {digest}"


def log(run: Run) -> list[dict]:
    """The lines of metrics.jsonl; none where they cannot be read."""
    try:
        return list(recorded.metrics(run.folder))
    except ValueError:
        return []


def hours(run: Run) -> float | None:
    """Hours of steps and evaluations, without start-up and what a stop took; None without a log.

    Steps from their logged speed; an evaluation from the time since the line before it.
    """
    lines = log(run)
    try:
        images = json.loads((run.folder / "config.json").read_text())
        images = images["total_batch_size"] * images["gradient_acc"]
        seconds, step = 0.0, 0
        for before, line in itertools.pairwise([None, *lines]):
            if any(is_result(name) for name in line):
                seconds += line["time"] - before["time"] if before else 0
            elif "samples_per_s" in line:
                seconds += (line["step"] - step) * images / line["samples_per_s"]
                step = line["step"]
        return seconds / 3600 if lines else None
    except (OSError, ValueError, LookupError, TypeError, ZeroDivisionError):
        return None


def machine(run: Run) -> str:
    """What it was trained on, as its newest checkpoint says."""
    state = run.state()
    return f"{state['machine']}, torch {state['torch']}" if "machine" in state else "-"


def code(run: Run) -> str:
    """The version of the code that it ended with, as its newest checkpoint says."""
    return str(run.state().get("code", "-"))
