"""Exact search against every cosine in float64."""

import numpy as np
import pytest

from utils import nearest as module
from utils.nearest import nearest


def brute(probes, gallery, k):
    """Rows and cosines by a stable sort of all float64 cosines."""
    u, v = (h.astype(np.float64) for h in (probes, gallery))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v /= np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-300)
    cosines = u @ v.T
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(cosines, order, 1)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks of gallery and probes, the last ones not full."""
    monkeypatch.setattr(module, "BLOCK", 4 * 16 * 50)
    monkeypatch.setattr(module, "PROBES", 7)


@pytest.mark.parametrize(("rows", "k"), [(1030, 5), (1030, 1), (1030, 200), (30, 30), (30, 99), (1, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_the_rows_are_those_of_float64(rows, k, dtype):
    rng = np.random.default_rng(rows)
    gallery = (rng.normal(size=(rows, 16)) * rng.uniform(0.1, 30, (rows, 1))).astype(dtype)
    probes = rng.normal(size=(23, 16)).astype(np.float32)
    found, cosines = nearest(probes, gallery, k)
    expected, exact = brute(probes, gallery, k)
    assert np.array_equal(found, expected) and np.allclose(cosines, exact, rtol=0, atol=1e-12)
    assert found.dtype == np.int64 and cosines.dtype == np.float64


def test_cosines_that_float32_cannot_tell_apart():
    """Copies of a row, each turned by less than a product's rounding: float64 orders them."""
    rng = np.random.default_rng(5)
    gallery = rng.normal(size=(400, 16))
    gallery[[10, 120, 230, 399]] = gallery[10] + rng.normal(0, 2e-8, (4, 16))
    probes = gallery[[10]] + 0.1
    found, _ = nearest(probes, gallery, 4)
    assert np.array_equal(found, brute(probes, gallery, 4)[0]) and set(found[0]) == {10, 120, 230, 399}


def test_ties_keep_the_gallerys_order_and_zeros_are_like_nothing():
    gallery = np.tile(np.eye(3, 16, dtype=np.float32), (4, 1))
    gallery[2] = 0
    found, cosines = nearest(gallery[[1]], gallery, 12)
    assert list(found[0][:4]) == [1, 4, 7, 10] and list(cosines[0]) == [1.0] * 4 + [0.0] * 8


def test_a_mapped_file_is_searched_and_stays_as_it_is(tmp_path):
    gallery = np.random.default_rng(1).normal(size=(300, 16)).astype(np.float32)
    np.save(tmp_path / "g.npy", gallery)
    for mode in ("r", "c"):
        mapped = np.load(tmp_path / "g.npy", mmap_mode=mode)
        assert np.array_equal(nearest(gallery[:9], mapped, 3)[0], brute(gallery[:9], gallery, 3)[0])
    assert np.array_equal(np.load(tmp_path / "g.npy"), gallery)


def test_what_cannot_be_searched():
    good = np.ones((60, 16), np.float32)
    for probes, gallery, k in ((good, good[:, :3], 1), (good, good[:0], 1), (good[0], good, 1), (good, good, 0)):
        with pytest.raises(ValueError, match="expected"):
            nearest(probes, gallery, k)
    for value in (np.nan, np.inf):
        bad = good.copy()
        bad[57, 3] = value
        with pytest.raises(ValueError, match="gallery row 57 .* not finite"):
            nearest(good, bad, 1)
        with pytest.raises(ValueError, match="probe 57 .* not finite"):
            nearest(bad, good, 1)
