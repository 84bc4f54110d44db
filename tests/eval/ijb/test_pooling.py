"""Templates from image features against InsightFace's loops, in float32 to the bit and in float64."""

import numpy as np
import pytest
from sklearn.preprocessing import normalize

from eval.ijb.pooling import pool


def loops(h, score, template, media, norm, detector, dtype):
    """The scripts' order of operations, one template and one media after the other."""
    x = h.astype(dtype)
    if not norm:
        x = x / np.sqrt(np.sum(x**2, axis=1, keepdims=True))
    if detector:
        x = x * score.astype(dtype)[:, None]
    pooled = np.zeros((template.max() + 1, h.shape[1]))
    for row in range(len(pooled)):
        parts = []
        for one in sorted(set(media[template == row].tolist())):
            frames = x[(template == row) & (media == one)]
            parts.append(frames.mean(axis=0) if len(frames) > 1 else frames[0])
        pooled[row] = np.sum(np.array(parts), axis=0)
    return normalize(pooled)


def case(seed=0, n=900, templates=80, dimension=33):
    generator = np.random.default_rng(seed)
    template = np.append(np.arange(templates), generator.integers(0, templates, n - templates))
    media = generator.integers(0, 6, n)  # media numbers come again in other templates
    generator.shuffle(template)
    h = generator.normal(0, 9, (n, dimension)).astype(np.float32)
    return h, generator.uniform(0.3, 1, n).astype(np.float32), template, media


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("detector", [True, False])
def test_equal_to_the_scripts_float32_to_the_last_bit(monkeypatch, seed, detector):
    monkeypatch.setattr("eval.ijb.pooling.TEMPLATES", 7)
    data = case(seed)
    assert np.array_equal(pool(*data, True, detector), loops(*data, True, detector, np.float32))


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("detector", [True, False])
def test_equal_to_float64_but_for_rounding(norm, detector):
    data = case()
    assert np.allclose(pool(*data, norm, detector), loops(*data, norm, detector, np.float64), rtol=0, atol=3e-7)


def test_by_hand():
    """One template: a photo (0, 5), score 1, and a video of (6, 0) and (2, 0), scores 1 and 0.5."""
    h = np.array([[6, 0], [0, 5], [2, 0]], np.float32)
    score, template, media = np.array([1, 1, 0.5], np.float32), np.zeros(3, int), np.array([9, 4, 9])
    assert np.allclose(pool(h, score, template, media)[0] * np.hypot(3.5, 5), [3.5, 5])
    assert np.allclose(pool(h, score, template, media, use_detector_score=False)[0] * np.hypot(4, 5), [4, 5])
    assert np.allclose(pool(h, score, template, media, use_norm_score=False)[0] * np.hypot(0.75, 1), [0.75, 1])


def test_a_sum_of_zero_stays_zero():
    h = np.array([[1, 2], [-1, -2], [3, 4]], np.float32)
    u = pool(h, np.ones(3, np.float32), np.array([0, 0, 1]), np.array([1, 2, 3]))
    assert u.tolist() == [[0, 0], [0.6, 0.8]]


def test_zero_features_without_their_norm():
    u = pool(np.zeros((2, 4), np.float32), np.ones(2, np.float32), np.array([0, 1]), np.array([1, 2]), False)
    assert not u.any()


def test_what_cannot_be_pooled():
    h, score, template, media = case()
    with pytest.raises(ValueError, match=r"features of shape \(899, 33\) for 900 images"):
        pool(h[:-1], score, template, media)
    h[5, 3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        pool(h, score, template, media)
