import numpy as np
import pytest
from sklearn.model_selection import KFold

from eval.metrics import fold_accuracies, tar_at_far
from eval.roc import strict_tar


def strict(dist, issame, target=1e-3):
    """The strict rate of distances, as verification takes it."""
    return strict_tar(-dist[issame], -dist[~issame], [target])[0]


def published_accuracies(dist, issame, folds):
    """The published protocol, a threshold and a fold at a time."""
    thresholds = np.arange(0, 4, 0.01)
    accuracy, chosen = [], []
    for train, test in KFold(folds, shuffle=False).split(dist):
        on_train = [np.mean((dist[train] < threshold) == issame[train]) for threshold in thresholds]
        best = thresholds[int(np.argmax(on_train))]
        accuracy.append(np.mean((dist[test] < best) == issame[test]))
        chosen.append(best)
    return np.array(accuracy), np.array(chosen)


def published_tar(dist, issame, far_target, folds, threshold_of):
    thresholds, tar, far = np.arange(0, 4, 0.001), [], []
    for train, test in KFold(folds, shuffle=False).split(dist):
        impostors = dist[train][~issame[train]]
        rates = np.array([np.sum(impostors < threshold) / len(impostors) for threshold in thresholds])
        threshold = threshold_of(rates, thresholds, far_target) if rates.max() >= far_target else 0.0
        accepted = dist[test] < threshold
        tar.append(accepted[issame[test]].mean())
        far.append(accepted[~issame[test]].mean())
    return np.mean(tar), np.std(tar), np.mean(far)


def real_shaped(seed, pairs=600, noise=0.35):
    """Distances like those of a trained model, in blocks of matched and mismatched pairs as LFW has them."""
    draw = np.random.default_rng(seed)
    issame = np.tile(np.repeat([True, False], pairs // 20), 10)
    dist = np.where(issame, draw.normal(0.9, noise, pairs), draw.normal(1.9, 0.15, pairs)).clip(0, 4)
    return dist, issame


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("folds", [2, 3, 10])
def test_accuracies_equal_the_published_loop(seed, folds):
    draw = np.random.default_rng(seed)
    n = int(draw.integers(folds, 80))
    cases = [
        real_shaped(seed),
        (draw.uniform(0, 4.2, n), draw.random(n) < 0.5),
        (draw.integers(0, 400, n) * 0.01, draw.random(n) < 0.7),  # on the thresholds themselves
        (np.arange(0, 4, 0.01)[draw.integers(0, 400, n)], draw.random(n) < 0.3),
        (np.round(draw.uniform(0, 4, n), 1), draw.random(n) < 0.5),  # many ties
    ]
    for dist, issame in cases:
        accuracy, threshold = fold_accuracies(dist, issame, folds)
        expected, expected_threshold = published_accuracies(dist, issame, folds)
        assert accuracy.tolist() == expected.tolist()
        assert threshold.tolist() == expected_threshold.tolist()


def test_float32_distances_are_compared_in_double():
    dist, issame = real_shaped(7)
    dist = np.round(dist, 2).astype(np.float32)
    expected = published_accuracies(dist.astype(np.float64), issame, 10)
    assert [part.tolist() for part in fold_accuracies(dist, issame)] == [part.tolist() for part in expected]


def test_perfect():
    issame = np.tile([True, False], 50)
    dist = np.where(issame, 0.5, 1.5)
    accuracy, threshold = fold_accuracies(dist, issame)
    assert accuracy.tolist() == [1.0] * 10 and threshold.tolist() == [np.arange(0, 4, 0.01)[51]] * 10
    assert tar_at_far(dist, issame) == (1.0, 0.0, 0.0)
    assert strict(dist, issame) == 1.0


def test_worst():
    issame = np.tile([True, False], 50)
    dist = np.where(issame, 1.5, 0.5)
    assert fold_accuracies(dist, issame)[0].tolist() == [0.5] * 10  # everything rejected is the best there is
    assert tar_at_far(dist, issame) == (0.0, 0.0, 0.0)
    assert strict(dist, issame) == 0.0


@pytest.mark.parametrize("value", [0.0, 1e-14, 0.5, 2.0, 4.0])
def test_collapsed_model_is_never_better_than_chance(value):
    issame = np.tile(np.repeat([True, False], 30), 10)
    dist = np.full(600, value)
    assert fold_accuracies(dist, issame)[0].tolist() == [0.5] * 10
    assert tar_at_far(dist, issame) == (0.0, 0.0, 0.0)
    assert strict(dist, issame) == 0.0


def test_hand_computed():
    # folds of 2 pairs; each is judged by the threshold that is first best on the other one
    dist = np.array([0.105, 0.205, 0.305, 0.155])
    issame = np.array([True, False, True, False])
    accuracy, threshold = fold_accuracies(dist, issame, folds=2)
    assert threshold.round(2).tolist() == [
        0.0,
        0.11,
    ]  # fold 1 alone: reject all (half right); fold 0 alone: above 0.105
    assert accuracy.tolist() == [0.5, 0.5]
    # strict: 5 mismatched pairs; a rate of 0.2 allows one of them, so the threshold is the second, 0.4
    dist = np.array([0.1, 0.35, 0.4, 0.5, 0.3, 0.4, 0.6, 0.7, 0.8])
    issame = np.array([True] * 4 + [False] * 5)
    assert strict(dist, issame, 0.2) == 0.5
    assert strict(dist, issame, 0.19) == 0.25
    assert strict(dist, issame, 0.4) == 1.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("target", [1e-3, 0.01, 0.1, 0.29, 0.5])
def test_strict_rate_equals_trying_every_threshold(seed, target):
    draw = np.random.default_rng(seed)
    issame = draw.random(200) < 0.5
    dist = np.round(draw.uniform(0, 2, 200) + ~issame * 0.5, 2)  # ties within and across kinds
    best = 0.0
    for threshold in [0.0, *dist, 5.0]:
        accepted = dist < threshold
        if accepted[~issame].sum() <= target * (~issame).sum() + 1e-9:
            best = max(best, accepted[issame].mean())
    assert strict(dist, issame, target) == best


def test_strict_rate_at_an_exact_fraction():
    # 0.29 * 100 is 28.999... in floating point, yet 29 of 100 is a rate of 0.29
    dist = np.concatenate([[0.285], np.arange(100) / 100])
    issame = np.array([True] + [False] * 100)
    assert strict(dist, issame, 0.29) == 1.0
    assert strict(dist, issame, 0.28) == 0.0


@pytest.mark.parametrize("target", [1e-3, 0.01, 0.2])
def test_tar_on_flat_stretches(target):
    def largest(rates, thresholds, target):
        return max(threshold for rate, threshold in zip(rates, thresholds, strict=True) if rate <= target)

    for seed in range(2):
        dist, issame = real_shaped(seed, pairs=400)
        assert tar_at_far(dist, issame, target) == pytest.approx(
            published_tar(dist, issame, target, 10, largest), abs=0
        )


def test_tar_where_the_published_interpolation_works():
    """A mismatched pair between any two thresholds: the rate rises at each step, as SciPy needs it."""
    interpolate = pytest.importorskip("scipy.interpolate")

    def slinear(rates, thresholds, target):
        return float(interpolate.interp1d(rates, thresholds, kind="slinear")(target))

    draw, dist = np.random.default_rng(0), []
    for _ in range(2):
        cells = np.concatenate([np.arange(4000), draw.integers(0, 4000, 4000)])
        dist += [draw.uniform(0, 1, 1000), cells * 0.001 + 0.0005]
    dist, issame = np.concatenate(dist), np.tile(np.arange(9000) < 1000, 2)
    for target in (1e-3, 0.0123, 0.2345):
        expected = published_tar(dist, issame, target, 2, slinear)
        assert tar_at_far(dist, issame, target, 2) == pytest.approx(expected, abs=1e-12)


def test_rate_that_is_never_reached_accepts_nothing():
    issame = np.tile([True, False], 50)
    dist = np.where(issame, 0.5, 4.0)  # no mismatched pair is below the last threshold
    assert tar_at_far(dist, issame) == (0.0, 0.0, 0.0)


def test_folds_without_matched_pairs():
    issame = np.repeat([True, False], 50)
    dist = np.where(issame, 0.5, 1.5)
    assert tar_at_far(dist, issame) == (1.0, 0.0, 0.0)
    assert fold_accuracies(dist, issame)[0].tolist() == [1.0] * 10


@pytest.mark.parametrize("measure", [fold_accuracies, tar_at_far])
def test_bad_input(measure):
    dist, issame = real_shaped(0)
    broken = dist.copy()
    broken[[3, 5, 8]] = np.nan, np.inf, np.nan
    with pytest.raises(ValueError, match="3 of 600 distances are not finite"):
        measure(broken, issame)
    with pytest.raises(ValueError, match="expected"):
        measure(dist, issame[:-1])
    with pytest.raises(ValueError, match="bool"):
        measure(dist, issame.astype(int))
    for folds in (0, 1, 601):
        with pytest.raises(ValueError, match=f"600 pairs cannot be cut into {folds} folds"):
            measure(dist, issame, folds=folds)
    if measure is tar_at_far:
        with pytest.raises(ValueError, match="none of 600 pairs is mismatched"):
            measure(dist, np.ones(600, bool))
        with pytest.raises(ValueError, match="none of 600 pairs is matched"):
            measure(dist, np.zeros(600, bool))
        for target in (0.0, 1.0, 10, np.nan):
            with pytest.raises(ValueError, match="far_target"):
                measure(dist, issame, target)
