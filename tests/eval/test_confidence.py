from math import comb, sqrt

import numpy as np
import pytest

from eval.confidence import interval, mcnemar, mean_replicates, p_value, standard_error, tar_replicates


def drawn_units(units, draws, seed):
    """The units of each draw, as the definition says: as many as there are, with replacement."""
    return np.random.default_rng(seed).integers(0, units, (draws, units)).tolist()


def mean_by_loops(values, unit, draws, seed):
    for drawn in drawn_units(max(unit) + 1, draws, seed):
        taken = [value for u in drawn for value, owner in zip(values, unit, strict=True) if owner == u]
        yield sum(taken) / len(taken)


def tar_by_loops(scores, issame, left, right, far, draws, seed):
    """Each draw's pairs written out: every copy of a unit is another person."""
    for drawn in drawn_units(int(max(left.max(), right.max())) + 1, draws, seed):
        kinds = {True: [], False: []}
        for score, same, u, v in zip(scores, issame, left, right, strict=True):
            for i, a in enumerate(drawn):
                for j, b in enumerate(drawn):
                    if (a, b) == (u, v) and (u != v or i == j):
                        kinds[bool(same)].append(score)
        genuine, impostor = kinds[True], kinds[False]
        if not genuine or not impostor:
            yield float("nan")
            continue
        thresholds = [-np.inf, *impostor]
        allowed = [t for t in thresholds if sum(s > t for s in impostor) / len(impostor) <= far]
        yield max(sum(s > t for s in genuine) / len(genuine) for t in allowed)


def verification(seed, subjects=8, templates=3, genuine_shift=1.0, decimals=2):
    """Pairs of templates, and the subject of each."""
    draw = np.random.default_rng(seed)
    subject = np.repeat(np.arange(subjects), templates)
    left, right = np.triu_indices(len(subject), 1)
    issame = subject[left] == subject[right]
    keep = issame | (draw.random(len(left)) < 0.4)
    left, right, issame = left[keep], right[keep], issame[keep]
    scores = np.round(draw.normal(0, 0.5, len(left)) + genuine_shift * issame, decimals).astype(np.float32)
    return scores, issame, left, right, subject


def test_standard_error():
    assert standard_error([0.9, 1.0]) == pytest.approx(0.05)
    assert standard_error([1, 2, 3, 4]) == pytest.approx(sqrt(5 / 3) / 2)
    assert standard_error(np.full(10, 0.75)) == 0
    with pytest.raises(ValueError, match="two folds"):
        standard_error([0.9])


@pytest.mark.parametrize("seed", range(3))
def test_mean_replicates_equal_loops(seed):
    draw = np.random.default_rng(seed + 10)
    values, unit = draw.random(40), draw.permutation(np.append(np.arange(9), draw.integers(0, 9, 31)))
    expected = list(mean_by_loops(values, unit.tolist(), 30, seed))
    assert mean_replicates(values, unit, 30, seed) == pytest.approx(expected, abs=1e-12)
    assert mean_replicates(values, unit * 7 - 9, 30, seed) == pytest.approx(expected, abs=1e-12)  # any numbers
    right = values > 0.4
    expected = list(mean_by_loops(right.tolist(), list(range(40)), 30, seed))
    assert mean_replicates(right, None, 30, seed) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("of", ["subjects", "templates"])
def test_tar_replicates_equal_loops(seed, of):
    scores, issame, left, right, subject = verification(seed, subjects=6)
    if of == "subjects":
        left, right = subject[left], subject[right]
    fars = [0.01, 0.1, 0.29, 0.5]
    result = tar_replicates(scores, issame, left, right, fars, 6, seed)
    for column, far in zip(result.T, fars, strict=True):
        assert column.tolist() == list(tar_by_loops(scores, issame, left, right, far, 6, seed))


def test_highest_scores_alone_tell_the_same():
    """More pairs than are looked at at first; the highest ones all of one person, who may never be drawn."""
    draw = np.random.default_rng(0)
    units, n = 12, 20_000
    left = draw.integers(0, units, n)
    right = (left + draw.integers(1, units, n)) % units
    scores = draw.normal(0, 1, n) + 5 * (left == 0)
    issame = np.arange(n) < 500
    scores[issame] += 2
    fars = [1e-3, 0.01]
    result = tar_replicates(scores, issame, left, right, fars, 20, 1)
    for drawn, row in zip(drawn_units(units, 20, 1), result, strict=True):
        weight = np.bincount(drawn, minlength=units)
        weight = weight[left] * weight[right]
        genuine, impostor = (np.repeat(scores[kind], weight[kind]) for kind in (issame, ~issame))
        impostor = np.sort(impostor)[::-1]
        for far, tar in zip(fars, row, strict=True):
            allowed = max(k for k in range(int(len(impostor) * far) + 2) if k / len(impostor) <= far)
            assert tar == (genuine > impostor[allowed]).mean()


def test_perfect_worst_and_collapsed():
    scores, issame, left, right, subject = verification(1, genuine_shift=100)
    for score, expected in ((scores, 1.0), (-scores, 0.0), (np.zeros_like(scores), 0.0)):
        result = tar_replicates(score, issame, subject[left], subject[right], [1e-3, 0.1], 50)
        assert (result == expected).all()
        assert interval(result[:, 0]) == (expected, expected)
    assert interval(mean_replicates(np.ones(50, bool))) == (1, 1)
    assert interval(mean_replicates(np.zeros(50))) == (0, 0)


def test_draws_depend_on_seed_and_units_only():
    values = np.arange(30.0)
    assert mean_replicates(values).tolist() == mean_replicates(values).tolist()
    assert mean_replicates(values).tolist() != mean_replicates(values, seed=1).tolist()
    assert mean_replicates(values + 1) == pytest.approx(mean_replicates(values) + 1)


def test_interval_covers_as_often_as_it_says():
    draw = np.random.default_rng(5)
    inside = 0
    for seed in range(200):
        low, high = interval(mean_replicates(draw.random(400) < 0.8, draws=400, seed=seed))
        inside += low <= 0.8 <= high
    assert 0.9 <= inside / 200 <= 0.99


def test_probes_of_one_identity_are_no_independent_ones():
    identity = np.repeat(np.arange(60), 10)
    right = np.repeat(np.random.default_rng(2).random(60) < 0.7, 10)  # all or none of a person's probes
    wide, narrow = (np.diff(interval(mean_replicates(right, unit))) for unit in (identity, None))
    assert 2.5 < wide / narrow < 4  # sqrt(10)


def test_interval_is_that_of_the_percentiles():
    replicates = np.random.default_rng(0).permutation(np.arange(1001.0))
    assert interval(replicates) == pytest.approx((25, 975))
    assert interval(replicates, 0.5) == pytest.approx((250, 750))
    assert interval(np.append(replicates, [np.nan, np.nan])) == pytest.approx((25, 975))
    with pytest.raises(ValueError, match="none of 3 bootstrap draws is defined"):
        interval(np.full(3, np.nan))


def mcnemar_by_sums(b, c):
    n = b + c
    chance = [comb(n, k) / 2**n for k in range(n + 1)]
    return min(1, sum(p for p in chance if p <= chance[b] * (1 + 1e-7)))


@pytest.mark.parametrize("b, c", [(0, 1), (0, 5), (5, 0), (3, 3), (1, 9), (10, 4), (0, 20), (30, 50)])
def test_mcnemar(b, c):
    first = np.array([True] * 7 + [True] * b + [False] * c + [False] * 4)
    second = np.array([True] * 7 + [False] * b + [True] * c + [False] * 4)
    assert mcnemar(first, second) == pytest.approx(mcnemar_by_sums(b, c), rel=1e-9)
    assert mcnemar(first, second) == mcnemar(second, first)


def test_mcnemar_hand_computed_and_undefined():
    assert mcnemar(np.array([True] * 5), np.array([False] * 5)) == 2 / 32
    same = np.array([True, False, True])
    assert mcnemar(same, same) == 1
    assert mcnemar(np.zeros(0, bool), np.zeros(0, bool)) == 1


def test_paired_p_value():
    base = np.linspace(0, 1, 99)
    assert p_value(base, base) == 1
    assert p_value(base + 1e-9, base) == p_value(base, base + 1e-9) == 2 / 100
    mixed = np.where(np.arange(99) < 9, -0.1, 0.1)
    assert p_value(base + mixed, base) == pytest.approx(2 * 10 / 100)
    assert p_value(np.append(base, np.nan), np.append(base, 0.3)) == 1
    scores, issame, left, right, subject = verification(3, subjects=20, decimals=6)
    left, right = subject[left], subject[right]
    noise = np.random.default_rng(9).normal(0, 0.5, len(scores))
    models = [tar_replicates(s, issame, left, right, [0.05], 200)[:, 0] for s in (scores + 3 * issame, scores + noise)]
    assert p_value(*models) == pytest.approx(2 / 201)


def test_bad_input():
    scores, issame, left, right, subject = verification(0)
    with pytest.raises(ValueError, match="impostor pairs have one unit on both sides"):
        tar_replicates(scores, issame, np.zeros_like(left), np.zeros_like(left), [0.1])
    with pytest.raises(ValueError, match="0 of .* pairs are genuine"):
        tar_replicates(scores, np.zeros_like(issame), left, right, [0.1])
    with pytest.raises(ValueError, match="finite"):
        tar_replicates(np.full_like(scores, np.nan), issame, left, right, [0.1])
    for wrong in (left[:-1], left - 1, left / 1):
        with pytest.raises(ValueError, match="units .* expected .*integers"):
            tar_replicates(scores, issame, wrong, right, [0.1])
    for wrong in (np.arange(3), np.arange(4) / 1):
        with pytest.raises(ValueError, match=r"units .* expected \(4,\) integers"):
            mean_replicates(np.ones(4), wrong)
    for values in (np.empty(0), np.array([0.5, np.nan]), np.ones((2, 2))):
        with pytest.raises(ValueError, match="finite numbers"):
            mean_replicates(values)
    with pytest.raises(ValueError, match="same units and seed"):
        p_value(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="too few units"):
        p_value(np.full(3, np.nan), np.zeros(3))
    for first, second in ((np.ones(3, bool), np.ones(4, bool)), (np.ones(3), np.ones(3))):
        with pytest.raises(ValueError, match="bool twice"):
            mcnemar(first, second)


def test_a_draw_without_genuine_pairs_is_undefined():
    # one genuine pair, of units 0 and 1; a draw without either has none
    scores, issame = np.array([0.9, 0.1, 0.2]), np.array([True, False, False])
    left, right = np.array([0, 0, 1]), np.array([1, 2, 2])
    result = tar_replicates(scores, issame, left, right, [0.5], 40)[:, 0]
    expected = list(tar_by_loops(scores, issame, left, right, 0.5, 40, 0))
    assert np.array_equal(result, expected, equal_nan=True) and 0 < np.isnan(result).sum() < 40
