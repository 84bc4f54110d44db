import numpy as np
import pytest

from eval.identification import cmc, search


def loops(probes, gallery, probe_labels, gallery_labels):
    """Rank and average precision by loops in float64; TinyFace's `compute_AP.m` walks the sorted gallery."""

    def unit(h):
        h = np.asarray(h, np.float64)
        return h / np.linalg.norm(h)

    ranks, precisions = [], []
    for probe, label in zip(probes, probe_labels, strict=True):
        scores = [float(np.sum(unit(probe) * unit(image))) for image in gallery]
        mate = [other == label for other in gallery_labels]
        order = sorted(range(len(scores)), key=lambda j: (-round(scores[j], 12), mate[j]))  # of a tie the mate is last
        ranks.append(1 + [mate[j] for j in order].index(True))
        area, found, recall, precision = 0.0, 0, 0.0, 1.0
        for place, j in enumerate(order, 1):
            found += mate[j]
            area += (found / sum(mate) - recall) * (precision + found / place) / 2
            recall, precision = found / sum(mate), found / place
        precisions.append(area)
    return np.array(ranks), np.array(precisions)


def drawn(probes=60, gallery=200, dimension=16, identities=50, seed=0):
    draw = np.random.default_rng(seed)
    centre = draw.normal(size=(identities, dimension))
    gallery_labels = draw.integers(0, identities, gallery)
    probe_labels = draw.choice(gallery_labels, probes)
    noisy = [
        (centre[labels] + draw.normal(size=(len(labels), dimension))) * draw.uniform(0.1, 30, (len(labels), 1))
        for labels in (probe_labels, gallery_labels)
    ]
    return *(h.astype(np.float32) for h in noisy), probe_labels, gallery_labels


@pytest.mark.parametrize("memory", [1, 5000, 1 << 20])
def test_equals_plain_loops(memory):
    data = drawn()
    rank, precision = loops(*data)
    found = search(*data, memory=memory)
    assert found.rank.dtype == np.int32 and np.array_equal(found.rank, rank)
    assert found.precision == pytest.approx(precision, abs=1e-12)
    assert 1 < len(np.unique(rank)) and 0.1 < precision.mean() < 0.9


def test_many_ties_equal_plain_loops():
    draw = np.random.default_rng(1)
    h = draw.choice(np.array([-1, 0, 1], np.float32), (90, 2))  # eight directions
    h[(h == 0).all(axis=1)] = 1
    labels = draw.integers(0, 7, 90)
    data = (h[:30], h[30:], labels[:30], labels[30:])
    rank, precision = loops(*data)
    found = search(*data)
    assert np.array_equal(found.rank, rank) and found.precision == pytest.approx(precision, abs=1e-12)


def test_perfect_and_worst():
    eye = np.eye(4, dtype=np.float32)
    perfect = search(eye * 3, eye, np.arange(4), np.arange(4))
    assert (perfect.rank == 1).all() and (perfect.precision == 1).all()
    worst = search(eye, 1 - 2 * eye, np.arange(4), np.arange(4))
    assert (worst.rank == 4).all() and worst.precision == pytest.approx((0 / 3 + 1 / 4) / 2)


def test_by_hand():
    # cosines 1, 0.8, 0.6, 0 with the probe; mates are the second and the fourth
    gallery = np.array([[2, 0], [8, 6], [3, 4], [0, 1]], np.float32)
    found = search(np.array([[5, 0]], np.float32), gallery, ["a"], ["b", "a", "c", "a"])
    assert found.rank.tolist() == [2]
    assert found.precision == pytest.approx([((0 / 1 + 1 / 2) / 2 + (1 / 3 + 2 / 4) / 2) / 2])


@pytest.mark.parametrize(("other", "rank"), [(2.2e-4, 1), (1.8e-4, 2), (2e-4, 2)])
def test_scores_that_float32_cannot_tell_apart(other, rank):
    """Cosines of 1 - 5e-9 and, some 1e-9 from it, the other's; float32 has 6e-8 there."""
    gallery = np.array([[1, 1 + 2e-4], [1, 1 + other]], np.float32)
    assert search(np.array([[1, 1]], np.float32), gallery, [0], [0, 1]).rank == rank


@pytest.mark.parametrize("vector", ["ones", "drawn"])
@pytest.mark.parametrize("dimension", [7, 64, 512])
@pytest.mark.parametrize("probes", [1, 2, 30])
def test_a_collapsed_model_has_the_worst_ranks(vector, dimension, probes):
    one = np.ones(dimension) if vector == "ones" else np.random.default_rng(dimension).normal(size=dimension)
    h = np.tile(one.astype(np.float32), (probes + 1001, 1))
    labels = np.arange(1001) % 500
    found = search(h[:probes], h[probes:], labels[:probes], labels)
    others = np.array([1001 - np.count_nonzero(labels == label) for label in labels[:probes]])
    assert np.array_equal(found.rank, others + 1)


def test_a_collapse_beyond_what_is_compared_again_is_all_ties():
    h = np.ones((5001, 4), np.float32)
    h += np.random.default_rng(0).normal(0, 1e-8, h.shape).astype(np.float32)
    assert search(h[:1], h[1:], [0], np.arange(5000)).rank == 5000


def test_features_of_zeros_are_ties():
    h = np.zeros((11, 8), np.float32)
    assert search(h[:1], h[1:], [3], np.arange(10)).rank == 10


def test_inputs_stay_as_they_are():
    data = drawn()
    before = [part.copy() for part in data]
    for part in data:
        part.setflags(write=False)
    search(*data)
    assert all(np.array_equal(part, old) for part, old in zip(data, before, strict=True))


def test_cmc():
    rates = cmc(np.array([1, 3, 3, 900], np.int32), 5)
    assert rates.tolist() == [0.25, 0.25, 0.75, 0.75, 0.75]
    assert cmc(np.array([2]), 1).tolist() == [0.0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p, g, pl, gl: (p, g, np.where(np.arange(60) == 7, 99, pl), gl), "probe 7 of 60: identity 99"),
        (lambda p, g, pl, gl: (p, g[:, :5], pl, gl), "16 dimensions and a gallery of 5"),
        (lambda p, g, pl, gl: (p, g, pl[:9], gl), r"labels \(9,\)"),
        (lambda p, g, pl, gl: (p[:0], g, pl[:0], gl), r"probes \(0, 16\)"),
    ],
)
def test_bad_input(change, words):
    with pytest.raises(ValueError, match=words):
        search(*change(*drawn()))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("part", "what"), [(0, "probe 3 of 60"), (1, "gallery image 3 of 200")])
def test_features_that_are_not_finite(value, part, what):
    data = drawn()
    data[part][3, 2] = value
    with pytest.raises(ValueError, match=f"{what} is not finite"):
        search(*data)
