import numpy as np
import pytest
import torch

from eval.quality import Curve, error_vs_discard, indicator, norm_rises, pair_quality, pauc, threshold_for_fnmr
from eval.roc import strict_thresholds
from recognition.quality import NormStatistics


def fnmr_by_loops(genuine, quality, threshold, fraction):
    """The rate after discarding the worst groups of equal quality that fit wholly into a fraction of the pairs."""
    cut = -np.inf
    for level in sorted(set(quality)):
        if sum(q < level for q in quality) / len(quality) <= fraction:
            cut = level
    left = [score for score, q in zip(genuine, quality, strict=True) if q >= cut]
    return sum(score <= threshold for score in left) / len(left)


def at(curve, fraction):
    return curve.fnmr[np.searchsorted(curve.discard, fraction, side="right") - 1]


@pytest.mark.parametrize("seed", range(12))
def test_curve_and_area_equal_loops(seed):
    draw = np.random.default_rng(seed)
    n = int(draw.integers(1, 60))
    genuine, quality = draw.normal(0, 1, n), draw.normal(0, 1, n)
    if seed % 2:
        genuine, quality = np.round(genuine, 1).astype(np.float32), np.round(quality).astype(np.float32)
    threshold = threshold_for_fnmr(genuine, 0.3)
    curve = error_vs_discard(genuine, quality, threshold)
    assert curve.discard[0] == 0 and (np.diff(curve.discard) > 0).all() and curve.discard[-1] < 1
    for fraction in [0, *(np.arange(n) / n), 0.999]:
        assert at(curve, fraction) == fnmr_by_loops(genuine.tolist(), quality.tolist(), threshold, fraction)
    # the area by very many thin strips, as the curve is constant in between
    start, strips = curve.fnmr[0], (np.arange(20_000) + 0.5) / 20_000
    for limit in (0.2, 0.55, 1.0):
        area = np.mean([at(curve, x) for x in strips * limit]) * limit
        ideal = np.mean(np.maximum(0, start - strips * limit)) * limit
        assert pauc(curve, limit) == pytest.approx((area - ideal) / (start * limit - ideal), abs=1e-3 / start)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("fnmr", [0.01, 0.05, 0.29, 0.5, 0.99])
def test_threshold_is_the_lowest_that_rejects_enough(seed, fnmr):
    draw = np.random.default_rng(seed)
    genuine = np.round(draw.normal(0, 1, 100), 1 + seed % 2).astype([np.float32, np.float64][seed % 2])
    enough = [t for t in genuine.tolist() if sum(s <= t for s in genuine.tolist()) / 100 >= fnmr]
    assert threshold_for_fnmr(genuine, fnmr) == min(enough)


def test_hand_computed():
    genuine, quality = np.array([0.9, 0.1, 0.8, 0.2, 0.7]), np.array([5, 1, 4, 2, 2])
    curve = error_vs_discard(genuine, quality, 0.2)  # wrong: 0.1 (quality 1) and 0.2 (in a group of two)
    assert curve.discard.tolist() == [0, 0.2, 0.6, 0.8]
    assert curve.fnmr.tolist() == [0.4, 0.25, 0, 0]
    # area up to 0.5: 0.2 * 0.4 + 0.3 * 0.25 = 0.155; ideal 0.4^2 / 2 = 0.08; random 0.2
    assert pauc(curve, 0.5) == pytest.approx((0.155 - 0.08) / (0.2 - 0.08))
    # up to 0.2: 0.08, ideal 0.08 - 0.02, random 0.08: nothing was won yet
    assert pauc(curve, 0.2) == pytest.approx(1)
    assert threshold_for_fnmr(genuine, 0.4) == 0.2 and threshold_for_fnmr(genuine, 0.41) == 0.7
    assert pair_quality(np.array([3.0, 1]), np.array([2.0, 5])).tolist() == [2, 1]


def test_perfect_worst_and_collapsed():
    n = 1000
    score = np.linspace(0, 1, n)
    threshold = threshold_for_fnmr(score, 0.05)
    perfect, worst = (error_vs_discard(score, quality, threshold) for quality in (score, -score))
    assert at(perfect, 0) == at(worst, 0) == 0.05 and at(perfect, 0.05) == 0 and at(worst, 0.95) == 1
    assert 0 < pauc(perfect, 0.2) < 0.02 < 1 < pauc(worst, 0.2)
    level = error_vs_discard(score, np.full(n, 20.0), threshold)
    assert level.discard.tolist() == [0] and level.fnmr.tolist() == [0.05] and pauc(level) == pytest.approx(1)
    # a model whose scores are all equal rejects everything, whatever is discarded
    same = np.full(n, 0.5)
    collapsed = error_vs_discard(same, score, threshold_for_fnmr(same))
    assert (collapsed.fnmr == 1).all() and pauc(collapsed) == pytest.approx(1)
    assert (error_vs_discard(same, score, float(strict_thresholds(same, [1e-3])[0])).fnmr == 1).all()
    # ties in quality: whichever order the pairs have
    order = np.random.default_rng(0).permutation(n)
    halves = (score > 0.5).astype(np.float32)
    for part in range(2):
        expected = error_vs_discard(score, halves, threshold)[part].tolist()
        assert error_vs_discard(score[order], halves[order], threshold)[part].tolist() == expected
    # nothing wrong from the start
    assert pauc(Curve(np.array([0, 0.5]), np.zeros(2))) == 0


def test_random_quality_is_worth_one():
    draw = np.random.default_rng(0)
    score = draw.random(2000)
    threshold = threshold_for_fnmr(score, 0.1)
    areas = [pauc(error_vs_discard(score, draw.random(2000), threshold), 0.3) for _ in range(100)]
    assert np.mean(areas) == pytest.approx(1, abs=0.03)


def test_indicator():
    z = np.array([-5, 0, 0.0005, 10, 20, 50, 100, 1e4], np.float32)
    expected = [min(max(0.333 * (min(max(float(v), 0.001), 100) - 20) / (10 + 0.001), -1), 1) for v in z]
    assert indicator(z, 20, 10).tolist() == pytest.approx(expected, abs=1e-12)
    assert indicator(np.full(3, 20.0), 20, 0).tolist() == [0, 0, 0]
    assert indicator(np.array([20.001]), 20, 0)[0] == pytest.approx(0.333) and indicator(np.array([30.0]), 20, 0) == 1
    assert indicator(np.array([30.0]), 20, 10, c=0.1)[0] == pytest.approx(0.1, rel=1e-3)


def test_indicator_is_that_of_training():
    z = np.random.default_rng(0).uniform(0, 120, 500).astype(np.float32)
    statistics = NormStatistics(mean=22.5, std=4.25)
    assert indicator(z, 22.5, 4.25) == pytest.approx(statistics.indicator(torch.from_numpy(z)).numpy(), abs=1e-6)


def test_norm_rises():
    assert norm_rises([(8, 10.0), (112, 22.0), (16, 15.0)]) is None
    assert norm_rises([]) is None and norm_rises([(112, 20.0)]) is None
    line = norm_rises([(16, 15.0), (8, 15.0), (28, 14.0), (112, 22.0)])
    assert "15 at 8 px, 15 at 16 px; 15 at 16 px, 14 at 28 px" in line and "112" not in line and "\n" not in line
    for wrong in ([(8, 1.0), (8, 2.0)], [(8, np.nan), (16, 1.0)]):
        with pytest.raises(ValueError, match="each resolution once"):
            norm_rises(wrong)


def test_bad_input():
    good = np.arange(4.0)
    with pytest.raises(ValueError, match="1 of 4 genuine scores are not finite"):
        error_vs_discard(np.array([0, 1, 2, np.nan]), good, 1)
    with pytest.raises(ValueError, match="1 of 4 qualities are not finite"):
        error_vs_discard(good, np.array([0, 1, 2, np.inf]), 1)
    with pytest.raises(ValueError, match="4 genuine scores and 3 qualities"):
        error_vs_discard(good, good[:3], 1)
    for fnmr in (0, 1, np.nan):
        with pytest.raises(ValueError, match="fnmr"):
            threshold_for_fnmr(good, fnmr)
    with pytest.raises(ValueError, match="genuine scores of shape"):
        threshold_for_fnmr(np.empty(0))
    for limit in (0, 1.1, np.nan):
        with pytest.raises(ValueError, match="limit"):
            pauc(error_vs_discard(good, good, 0), limit)
    for z, mean, std in ((np.array([np.nan]), 20, 10), (good, np.nan, 10), (good, 20, -1), (good, 20, np.nan)):
        with pytest.raises(ValueError, match="expected finite"):
            indicator(z, mean, std)
