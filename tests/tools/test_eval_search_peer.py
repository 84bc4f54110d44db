import numpy as np
import pytest

from eval.identification import cmc, search
from tools.bench.evaluation.search_peer import identify


def test_the_numbers_are_the_peers():
    draw = np.random.default_rng(0)
    gallery_labels = np.r_[draw.integers(0, 120, 200), np.full(1000, -1)]
    probe_labels = draw.choice(gallery_labels[:200], 150)
    centre = draw.normal(size=(120, 32))
    gallery = draw.normal(size=(1200, 32))
    gallery[:200] += centre[gallery_labels[:200]]
    probes = draw.normal(size=(150, 32)) + centre[probe_labels]
    probes, gallery = ((h / np.linalg.norm(h, axis=1)[:, None]).astype(np.float32) for h in (probes, gallery))
    data = (probes, gallery, probe_labels, gallery_labels)
    rates = identify(*data, ranks=(1, 5, 20, 300))
    assert rates == pytest.approx(cmc(search(*data).rank, 300)[[0, 4, 19, 299]], abs=1e-12)
    assert 0.1 < rates[0] < rates[1] < rates[2] < 1
