import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from eval.roc import auc, fars_for, insightface_tar, roc_points, strict_tar, strict_thresholds

FARS = [1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.25, 0.5, 0.9]


def labelled(genuine, impostor):
    return np.repeat([1, 0], [len(genuine), len(impostor)]), np.concatenate([genuine, impostor]).astype(np.float64)


def printed(genuine, impostor, fars):
    """What InsightFace's IJB scripts compute from sklearn's curve."""
    fpr, tpr, _ = roc_curve(*labelled(genuine, impostor))
    fpr, tpr = np.flipud(fpr), np.flipud(tpr)
    nearest = [min(zip(np.abs(fpr - x), range(len(fpr)), strict=True))[1] for x in fars]
    return tpr[nearest].tolist(), fpr[nearest].tolist()


def printed_by_loops(genuine, impostor, fars):
    """The same from the definition of the curve, a point at a time."""
    points = [(sum(s >= t for s in impostor), sum(s >= t for s in genuine))
              for t in sorted({*genuine, *impostor}, reverse=True)]  # fmt: skip
    kept = [(0, 0)]
    for i, (accepted, right) in enumerate(points):
        if 0 < i < len(points) - 1:
            before, after = points[i - 1], points[i + 1]
            if (accepted - before[0], right - before[1]) == (after[0] - accepted, after[1] - right):
                continue
        kept.append((accepted, right))
    best = []
    for x in fars:
        chosen = None
        for accepted, right in reversed(kept):
            distance = abs(accepted / len(impostor) - x)
            if chosen is None or distance < chosen[0]:
                chosen = distance, right / len(genuine), accepted / len(impostor)
        best.append(chosen[1:])
    return [tar for tar, _ in best], [far for _, far in best]


def strict_by_loops(genuine, impostor, far):
    thresholds = [-np.inf, *genuine, *impostor]
    allowed = [t for t in thresholds if sum(s > t for s in impostor) / len(impostor) <= far]
    return max(sum(s > t for s in genuine) / len(genuine) for t in allowed)


def cases(seed):
    draw = np.random.default_rng(seed)
    g, n = (int(draw.integers(1, most)) for most in (30, 120))
    genuine, impostor = draw.normal(0.5, 0.3, g), draw.normal(0, 0.3, n)
    yield genuine, impostor
    yield genuine.astype(np.float32), impostor.astype(np.float32)
    yield np.round(genuine, 1), np.round(impostor, 1)  # ties within and across
    yield np.round(genuine, 2).astype(np.float32), np.round(impostor, 2).astype(np.float32)
    yield genuine + 9, impostor  # perfect
    yield genuine - 9, impostor  # worst
    yield draw.integers(0, 3, g) / 2, draw.integers(0, 3, n) / 2
    yield np.zeros(g), np.zeros(n)  # collapsed
    yield genuine.astype(np.float32), impostor.astype(np.float64)
    yield genuine[:1], impostor[:1]


@pytest.mark.parametrize("seed", range(40))
def test_insightface_points_are_sklearns_to_the_last_bit(seed):
    for genuine, impostor in cases(seed):
        tar, far = insightface_tar(genuine, impostor, FARS)
        assert tar.dtype == far.dtype == np.float64
        assert (tar.tolist(), far.tolist()) == printed(genuine, impostor, FARS)
        if seed < 5:
            assert (tar.tolist(), far.tolist()) == printed_by_loops(genuine.tolist(), impostor.tolist(), FARS)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("decimals", [2, 3, 9])
def test_insightface_points_where_only_the_top_is_sorted(seed, decimals):
    draw = np.random.default_rng(seed)
    genuine, impostor = draw.normal(0.4, 0.2, 300), draw.normal(0, 0.1, 30_000)
    if seed % 3 == 1:
        genuine += 2  # perfect: one straight stretch, whose far end is the nearest point
    if seed % 3 == 2:
        genuine -= 2
    genuine, impostor = (np.round(part, decimals).astype(np.float32) for part in (genuine, impostor))
    for fars in ([1e-4], [1e-3, 1e-4], [0.0123, 1e-5], [0.4]):
        tar, far = insightface_tar(genuine, impostor, fars)
        assert (tar.tolist(), far.tolist()) == printed(genuine, impostor, fars)
        in_order = insightface_tar(np.sort(genuine), np.sort(impostor), fars)
        assert [part.tolist() for part in in_order] == [tar.tolist(), far.tolist()]


def test_many_equal_top_scores():
    genuine, impostor = np.array([0.5, 0.7, 0.9]), np.repeat([0.9, 0.8, 0.1], [5000, 3000, 2000])
    for fars in ([1e-3], [0.3], [0.7]):
        tar, far = insightface_tar(genuine, impostor, fars)
        assert (tar.tolist(), far.tolist()) == printed(genuine, impostor, fars)


def test_hand_computed():
    # falling: G .9, I .8, G .7, I .6, I .5, G .5, I .4
    genuine, impostor = np.array([0.7, 0.9, 0.5]), np.array([0.5, 0.8, 0.6, 0.4])
    assert strict_thresholds(impostor, [0.2, 0.25, 0.5, 0.8]).tolist() == [0.8, 0.6, 0.5, 0.4]
    assert strict_tar(genuine, impostor, [0.2, 0.25, 0.5, 0.8]).tolist() == [1 / 3, 2 / 3, 2 / 3, 1]
    # the nearest point to 0.2 has a FAR of 0.25, and so for 0.3; 0.375 is half-way: the higher FAR wins
    tar, far = insightface_tar(genuine, impostor, [0.1, 0.2, 0.3, 0.375])
    assert far.tolist() == [0, 0.25, 0.25, 0.5] and tar.tolist() == [1 / 3, 2 / 3, 2 / 3, 2 / 3]
    # of 12 pairs genuine is above in 4 + 3 + 1, and level in one
    assert auc(genuine, impostor) == 8.5 / 12
    far, tar = roc_points(genuine, impostor)
    assert far.tolist() == [0, 0.25, 0.5, 0.75, 1] and tar.tolist() == [1 / 3, 2 / 3, 2 / 3, 1, 1]


def test_perfect_worst_and_collapsed():
    high, low, level = np.linspace(0.6, 0.9, 50), np.linspace(-0.2, 0.3, 400), np.full(400, 0.5)
    assert strict_tar(high, low, FARS).tolist() == [1.0] * len(FARS) and auc(high, low) == 1
    assert [part.tolist() for part in roc_points(high, low, 2)] == [[0, 1 / 400, 1], [1, 1, 1]]
    assert strict_tar(low, high, FARS).tolist() == [0.0] * len(FARS) and auc(low, high) == 0
    assert [part.tolist() for part in roc_points(low, high, 1)] == [[0, 1 / 50, 1], [0, 0, 1]]
    assert strict_tar(level, level, FARS).tolist() == [0.0] * len(FARS) and auc(level, level) == 0.5
    assert [part.tolist() for part in roc_points(level, level)] == [[0, 1], [0, 1]]


@pytest.mark.parametrize("seed", range(8))
def test_strict_rates_auc_and_points_equal_loops(seed):
    for genuine, impostor in cases(seed):
        assert strict_tar(genuine, impostor, FARS).tolist() == [strict_by_loops(genuine, impostor, x) for x in FARS]
        assert auc(genuine, impostor) == pytest.approx(roc_auc_score(*labelled(genuine, impostor)), abs=1e-12)
        far, tar = roc_points(genuine, impostor, 20)
        assert (far[0], far[-1], tar[-1]) == (0, 1, 1) and (np.diff(far) > 0).all() and (np.diff(tar) >= 0).all()
        for x, y in zip(far[:-1], tar, strict=False):
            assert y == strict_by_loops(genuine, impostor, x)
            assert x in [(impostor > t).mean() for t in impostor]  # a rate that some threshold really has


def test_a_product_that_is_rounded():
    # 0.29 * 100 is 28.999... in floating point, yet 29 of 100 is a rate of 0.29
    impostor = -np.arange(100.0)
    assert strict_thresholds(impostor, [0.28, 0.29, 0.57, 0.58]).tolist() == [-28, -29, -57, -58]


def test_inputs_are_left_alone_and_their_order_does_not_matter():
    draw = np.random.default_rng(3)
    genuine, impostor = draw.normal(1, 1, 50), draw.normal(0, 1, 3000)
    kept = genuine.copy(), impostor.copy()
    for function, more in ((insightface_tar, [FARS]), (strict_tar, [FARS]), (roc_points, []), (auc, [])):
        result = function(genuine, impostor, *more)
        assert np.array_equal(result, function(np.sort(genuine), np.sort(impostor), *more))
        assert np.array_equal(result, function(genuine[::-1], impostor[::-1], *more))
    assert np.array_equal(genuine, kept[0]) and np.array_equal(impostor, kept[1])


def test_fars():
    assert fars_for(3000) == fars_for(300) == fars_for(99_999) == (1e-3,)
    assert fars_for(100_000) == (1e-3, 1e-4) and fars_for(8_000_000) == (1e-3, 1e-4, 1e-5)
    with pytest.raises(ValueError, match="0 impostor pairs"):
        fars_for(0)


@pytest.mark.parametrize("function", [insightface_tar, strict_tar, roc_points, auc])
def test_bad_input(function):
    fars = [[1e-3]] if function in (insightface_tar, strict_tar) else []
    good, broken = np.arange(5.0), np.array([0.1, np.nan, np.inf, 0.2, -np.inf], np.float32)
    with pytest.raises(ValueError, match="3 of 5 genuine scores are not finite"):
        function(broken, good, *fars)
    with pytest.raises(ValueError, match="3 of 5 impostor scores are not finite"):
        function(good, broken, *fars)
    for wrong in (np.empty(0), np.ones((2, 2))):
        with pytest.raises(ValueError, match="impostor scores of shape"):
            function(good, wrong, *fars)
    if fars:
        for wrong in ([0.0], [1.0], [], [np.nan], [1e-3, 2]):
            with pytest.raises(ValueError, match="expected fractions"):
                function(good, good, wrong)


@pytest.mark.slow
def test_as_many_pairs_as_a_real_set_in_single_precision():
    draw = np.random.default_rng(0)
    impostor = (draw.standard_normal(2_000_000) * 0.08).astype(np.float32)
    genuine = (0.6 + draw.standard_normal(2500) * 0.15).astype(np.float32)
    tar, far = insightface_tar(genuine, impostor, FARS[:6])
    assert (tar.tolist(), far.tolist()) == printed(genuine, impostor, FARS[:6])
