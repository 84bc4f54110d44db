"""The bench's baselines and our numbers agree, so that the bench compares two ways to one result."""

import numpy as np

from eval.metrics import fold_accuracies, tar_at_far
from eval.roc import auc, insightface_tar
from tools.bench.evaluation import folds_peer as peer


def pairs(n=300, noise=0.8):
    draw = np.random.default_rng(0)
    issame = np.tile(np.repeat([True, False], n // 20), 10)
    first = draw.standard_normal((n, 16))
    second = np.where(issame[:, None], first + noise * draw.standard_normal((n, 16)), draw.standard_normal((n, 16)))
    first, second = (h / np.linalg.norm(h, axis=1, keepdims=True) for h in (first, second))
    return first, second, issame


def test_folds():
    first, second, issame = pairs()
    dist = np.square(first - second).sum(axis=1)
    accuracy, tar = peer.verification(first, second, issame)
    assert 0.6 < accuracy.mean() < 1
    assert fold_accuracies(dist, issame)[0].tolist() == accuracy.tolist()
    assert tar_at_far(dist, issame) == tar


def test_folds_where_scipy_can_interpolate():
    draw, dist = np.random.default_rng(0), []
    for _ in range(2):  # a mismatched pair between any two thresholds: the rate rises at each step
        dist += [draw.uniform(0, 1, 500), np.arange(4000) * 0.001 + 0.0005]
    dist, issame = np.concatenate(dist), np.tile(np.arange(4500) < 500, 2)
    assert np.allclose(
        peer.tar_at_far(dist, issame, 0.0123, 2), tar_at_far(dist, issame, 0.0123, 2), rtol=0, atol=1e-12
    )


def test_ijb_table():
    draw = np.random.default_rng(1)
    genuine, impostor = (draw.normal(mean, 0.2, n).astype(np.float32) for mean, n in ((0.6, 300), (0, 5000)))
    label = np.repeat([1, 0], [300, 5000])
    fars = (1e-3, 1e-2, 0.1)
    tar, far, area = peer.ijb_table(label, np.append(genuine, impostor).astype(np.float64), fars)
    assert [part.tolist() for part in insightface_tar(genuine, impostor, fars)] == [tar, far]
    assert abs(auc(genuine, impostor) - area) < 1e-12
