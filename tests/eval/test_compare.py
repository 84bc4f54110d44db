import numpy as np
import pytest

from eval.compare import compare, comparison_table
from eval.confidence import mcnemar, mean_replicates, p_value
from eval.protocol import Result
from eval.results import Record


def record(right, tar=None, version=1, data="da7a"):
    """A result of pairs that were right or not; `tar` are per-pair values whose mean is the second metric."""
    metrics, evidence = {"accuracy": float(np.mean(right))}, {"right/accuracy": np.asarray(right)}
    if tar is not None:
        metrics["tar@far=1e-3"] = float(np.mean(tar))
        evidence["replicates/tar@far=1e-3"] = mean_replicates(np.asarray(tar))
    return Record(Result(metrics, tuple(metrics), {}, evidence), version, data, {})


@pytest.fixture
def two():
    draw = np.random.default_rng(0)
    return [(draw.random(200) < share, draw.random(200) < share) for share in (0.9, 0.6)]


def test_differences_and_their_p_values(two):
    ours, theirs = two
    rows, notes = compare({"lfw": record(*ours)}, {"lfw": record(*theirs)})
    assert not notes and [(row.target, row.metric, row.test) for row in rows] == [
        ("lfw", "accuracy", "McNemar"),
        ("lfw", "tar@far=1e-3", "bootstrap"),
    ]
    assert [row.ours for row in rows] == [np.mean(part) for part in ours]
    assert [row.theirs for row in rows] == [np.mean(part) for part in theirs]
    assert rows[0].p == mcnemar(ours[0], theirs[0]) < 1e-4
    assert rows[1].p == p_value(mean_replicates(ours[1]), mean_replicates(theirs[1])) < 0.05
    shown = comparison_table(rows)
    assert "< 0.0001" in shown and f"{100 * (rows[0].ours - rows[0].theirs):+.2f}" in shown


def test_a_model_does_not_differ_from_itself(two):
    rows, _ = compare({"lfw": record(*two[0])}, {"lfw": record(*two[0])})
    assert [row.p for row in rows] == [1.0, 1.0]


def test_what_cannot_be_compared_says_why(two):
    right = two[0][0]
    others = {"lfw": record(right, data="0ther"), "own": record(right, version=0), "plain": record(right)}
    others["tinyface"] = record(right)
    ours = {name: record(right) for name in ("lfw", "own", "scface")}
    plain = record(right)
    plain.result.evidence.clear()
    rows, notes = compare(ours | {"plain": plain}, others)
    assert notes == [
        "lfw is not compared: the other results are of other data",
        "own is not compared: the other results are of version 0 of the protocol, this is 1",
        "scface is not compared: the other results do not have it",
        "tinyface is not compared: only the other results have it",
    ]
    assert [(row.target, row.p) for row in rows] == [("plain", None)] and "plain" in comparison_table(rows)


def test_what_cannot_be_tested_is_compared_and_says_why():
    ours, theirs = record([True, False], [0.5, 0.5]), record([True, True, True], [0.2, 0.4])
    for one in (ours, theirs):
        one.result.evidence["replicates/tar@far=1e-3"] = np.full(3, np.nan)  # of very few units
        one.result.evidence["replicates/map"] = np.ones(3)
    theirs.result.metrics["map"] = 0.5
    rows, notes = compare({"lfw": ours}, {"lfw": theirs})
    assert [(row.metric, row.p, row.test) for row in rows] == [("accuracy", None, ""), ("tar@far=1e-3", None, "")]
    assert notes == [
        "lfw: accuracy is not tested: (2,) bool and (3,) bool: expected (n,) bool twice",
        "lfw: tar@far=1e-3 is not tested: none of 3 bootstrap draws is defined for both models: there are too few "
        "units",
    ]
