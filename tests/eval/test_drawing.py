"""Which charts a target's evidence gives, and which curves they have."""

import numpy as np

from eval.drawing import charts
from eval.protocol import Result


def cmc(results):
    ((kind, make),) = charts("scface", results)
    assert kind == "cmc"
    return [(series.name, series.y[0]) for series in make().series]


def result(ranks, distance=None):
    evidence = {"rank": np.array(ranks)} | ({} if distance is None else {"distance": np.array(distance)})
    return Result({}, (), {}, evidence)


def test_a_curve_for_each_distance_the_models_side_by_side():
    ours, theirs = result([1, 2, 1, 1], [0, 0, 1, 1]), result([2, 2, 1, 2], [0, 0, 1, 1])
    assert cmc({"scface": ours}) == [("clean", 0.5), ("d1", 1)]
    expected = [("clean, z", 0.5), ("clean, a, b", 0), ("d1, z", 1), ("d1, a, b", 0.5)]
    assert cmc({"z": ours, "a, b": theirs}) == expected


def test_the_first_model_is_the_first_curve():
    assert cmc({"z": result([1, 1]), "a": result([1, 2])}) == [("z", 1), ("a", 0.5)]
