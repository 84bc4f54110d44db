"""Whether a row differs from another one by more than chance: over seeds, and over who is in the test sets.

The two answer different questions. Other seeds would give other models: the paired t-test takes the differences of the
seeds that both rows have, and is weak with three. Other people would give other test sets: the paired bootstrap draws
identities (or pairs, where no identity is known) as eval.compare does, and takes the mean over the seeds of each draw.
"""

import math
import statistics
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import special  # not scipy.stats, which takes half a second to import

from configs.tables import Column
from eval.confidence import p_value
from tools.ablation.results import Reached, split
from tools.ablation.runs import Run

SAME = 1e-9  # percentage points: rounding


class Difference(NamedTuple):
    """In percentage points, over `seeds` that both rows have; p-values are None where they cannot be known."""

    points: float
    seeds: int
    p_seeds: float | None
    p_people: float | None


def compare(reached: Reached, ours: Mapping[int, Run], theirs: Mapping[int, Run], column: Column) -> Difference | None:
    """A row against another in one column; None where no seed has both, evaluated alike."""
    first, second = reached.number(ours, column).by_seed, reached.number(theirs, column).by_seed
    seeds = [seed for seed in first if seed in second]
    if not seeds:
        return None
    differences = [first[seed] - second[seed] for seed in seeds]
    mine, other = (replicates(reached, [runs[seed] for seed in seeds], column) for runs in (ours, theirs))
    p_people = None if mine is None or other is None else p_value(mine, other)
    return Difference(statistics.fmean(differences), len(seeds), paired_t(differences), p_people)


def paired_t(differences: list[float]) -> float | None:
    """Two-sided p-value of Student's paired t-test; None with fewer than two differences, or where all are the same:
    a deviation of 0 is that of a coarse metric, not certainty.
    """
    n = len(differences)
    if n < 2 or max(differences) - min(differences) < SAME:
        return None
    mean, error = statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(n)
    return float(2 * special.stdtr(n - 1, -abs(mean) / error))


def replicates(reached: Reached, runs: list[Run], column: Column) -> np.ndarray | None:
    """(draws,) of the column's mean over runs, all evaluated alike; None where evidence is missing.

    Sets of the same size have the same draws, although their people have nothing to do with each other: those of each
    further target are moved on by one.
    """
    metrics = [split(metric) for metric in column.tested or column.metrics]
    parts, targets = [], list(dict.fromkeys(target for target, _ in metrics))
    for run in runs:
        for target, metric in metrics:
            draws = reached.draws(run, target, metric)
            if draws is None:
                return None
            parts.append(np.roll(draws, targets.index(target)))
    return np.mean(parts, axis=0)
