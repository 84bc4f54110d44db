"""Two models on the same targets: the difference of each metric, and whether it is more than chance."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from prettytable import PrettyTable

from eval.confidence import mcnemar, p_value
from eval.results import Record


class Difference(NamedTuple):
    """A metric of this model, of the other one, the p-value of their difference (None: not known) and its test."""

    target: str
    metric: str
    ours: float
    theirs: float
    p: float | None
    test: str


def compare(records: Mapping[str, Record], others: Mapping[str, Record]) -> tuple[list[Difference], list[str]]:
    """The headline metrics, and all that have replicates, of targets that another model's results have too.

    Where both kept bootstrap replicates, the paired bootstrap, whose draws keep one person's probes together; else,
    where both kept which pairs they had right, McNemar's exact test, which takes them as independent.

    Returns:
        the differences, and a line for each target that cannot be compared, or metric that cannot be tested.
    """
    rows: list[Difference] = []
    notes = []
    for name, record in records.items():
        why = _incomparable(record, others.get(name))
        if why:
            notes.append(f"{name} is not compared: {why}")
            continue
        numbers, evidence = others[name].result.metrics, others[name].result.evidence
        drawn = [name.removeprefix("replicates/") for name in record.result.evidence if name.startswith("replicates/")]
        for metric in dict.fromkeys((*record.result.headline, *drawn)):
            if metric in numbers and metric in record.result.metrics:
                try:
                    p, test = _test(metric, record.result.evidence, evidence)
                except (ValueError, TypeError) as error:
                    p, test = None, ""
                    notes.append(f"{name}: {metric} is not tested: {error}")
                rows.append(Difference(name, metric, record.result.metrics[metric], numbers[metric], p, test))
    notes += [f"{name} is not compared: only the other results have it" for name in others if name not in records]
    return rows, notes


def comparison_table(rows: list[Difference]) -> str:
    """Rates in percent, the difference in percentage points."""
    table = PrettyTable(["target", "metric", "this %", "other %", "difference", "p", "test"])
    table.align = "r"
    table.align["target"] = table.align["metric"] = table.align["test"] = "l"
    for row in rows:
        p = shown_p(row.p)
        ours, theirs = 100 * row.ours, 100 * row.theirs
        table.add_row([row.target, row.metric, f"{ours:.2f}", f"{theirs:.2f}", f"{ours - theirs:+.2f}", p, row.test])
    return table.get_string()


def shown_p(p: float | None) -> str:
    """Empty where it is not known."""
    return "" if p is None else "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def _incomparable(record: Record, other: Record | None) -> str | None:
    if other is None:
        return "the other results do not have it"
    if other.data_digest != record.data_digest:
        return "the other results are of other data"
    if other.version != record.version:
        return f"the other results are of version {other.version} of the protocol, this is {record.version}"
    return None


def _test(metric: str, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> tuple[float | None, str]:
    right, replicates = f"right/{metric}", f"replicates/{metric}"
    if replicates in ours and replicates in theirs:
        return p_value(ours[replicates], theirs[replicates]), "bootstrap"
    if right in ours and right in theirs:
        return mcnemar(ours[right], theirs[right]), "McNemar"
    return None, ""
