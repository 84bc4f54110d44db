import numpy as np
import pytest

from eval import distances
from eval.distances import identify
from eval.features import checked


def features(h):
    return checked(np.asarray(h, np.float32))


def example(seed=0, people=6, each=4, size=8):
    """A gallery of one image each, and probes at two distances."""
    rng = np.random.default_rng(seed)
    identity = np.concatenate([np.arange(people), np.tile(np.repeat(np.arange(people), each), 2)])
    level = np.repeat([0, 1, 2], [people, people * each, people * each])
    centre = rng.normal(size=(people, size))
    h = centre[identity] + np.array([0, 2.0, 0.7])[level][:, None] * rng.normal(size=(len(level), size))
    return features(h), level == 0, identity, {"d1": level == 1, "d2": level == 2}


def test_similarities_by_loops():
    found, gallery, identity, names = example()
    result = identify(found, gallery, identity, names)
    u = found.h.astype(float) / np.linalg.norm(found.h.astype(float), axis=1, keepdims=True)
    for name, images in names.items():
        matched, unmatched, right = [], [], 0
        for probe in np.flatnonzero(images):
            cosines = [float(u[probe] @ u[other]) for other in np.flatnonzero(gallery)]
            matched.append(cosines[identity[probe]])
            unmatched.append(max(c for other, c in enumerate(cosines) if other != identity[probe]))
            right += matched[-1] > unmatched[-1]
        assert result.evidence[f"matched/{name}"] == pytest.approx(matched, abs=1e-6)
        assert result.evidence[f"unmatched/{name}"] == pytest.approx(unmatched, abs=1e-6)
        assert result.metrics[name] == right / len(matched)
    assert 0 < result.metrics["d1"] < result.metrics["d2"] <= 1


def test_blocks_change_nothing(monkeypatch):
    whole = identify(*example()).evidence
    monkeypatch.setattr(distances, "BLOCK", 20)  # three probes
    parts = identify(*example()).evidence
    for name in ("matched/d1", "unmatched/d2"):
        assert np.allclose(whole[name], parts[name], atol=1e-7)


def test_the_best_of_several_gallery_images_counts():
    h = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]]
    gallery = np.array([True, True, True, False])
    result = identify(features(h), gallery, np.array([0, 0, 1, 0]), {"d1": ~gallery})
    assert result.evidence["matched/d1"].tolist() == [1] and result.evidence["unmatched/d1"].tolist() == [0]


def test_the_average_is_drawn_by_person():
    """A person's probes of all distances together: its replicates are those of the mean over the distances."""
    found, gallery, identity, names = example()
    result = identify(found, gallery, identity, names)
    replicates = [result.evidence[f"replicates/{name}"] for name in ("d1", "d2", "average")]
    assert np.allclose(replicates[2], (replicates[0] + replicates[1]) / 2)
    assert result.metrics["average"] == pytest.approx((result.metrics["d1"] + result.metrics["d2"]) / 2)
    low, high = result.intervals["average"]
    assert low < result.metrics["average"] < high


def test_no_interval_of_an_average_over_different_people():
    found, gallery, identity, names = example()
    lacking = names | {"d2": names["d2"] & (identity > 0)}
    kept = gallery | lacking["d1"] | lacking["d2"]
    result = identify(
        features(found.h[kept]), gallery[kept], identity[kept], {name: images[kept] for name, images in lacking.items()}
    )
    assert "average" in result.metrics
    assert "average" not in result.intervals and "replicates/average" not in result.evidence


def test_a_distance_that_is_not_there():
    found, gallery, identity, names = example()
    result = identify(found, gallery, identity, names | {"d3": np.zeros(len(identity), bool)})
    assert result.headline == ("d1", "d2")
    assert "average" not in result.metrics and "matched/d3" not in result.evidence
