"""Each way in which the authors' released code departs from the paper, against plain loops in float64, value and
gradient, alone and together, on 1, 2 and 3 ranks.
"""

import pytest
import torch

from tests import gloo, ranks
from tests.transcription import T, make_case, transcription

OFFICIAL = {
    "quality_gate": "sigmoid", "contrast_gate": "constant", "contrast_queries": "both", "positive_gradient": "kept",
    "contrast_rescale": True,
}  # fmt: skip
CASES = {
    "sigmoid gate": {"variant": {"quality_gate": "sigmoid"}},
    "sigmoid gate, nothing kept": {"variant": {"quality_gate": "sigmoid"}, "budget": 0},
    "sigmoid gate with MagFace": {"variant": {"quality_gate": "sigmoid"}, "loss": "magface"},
    "sigmoid gate without a threshold": {"variant": {"quality_gate": "sigmoid"}, "threshold": None},
    "HQ pairs constant": {"variant": {"contrast_gate": "constant"}},
    "HQ pairs constant, Eq. 14 as printed": {"variant": {"contrast_gate": "constant"}, "denominator": "negatives"},
    "statistics of each rank": {"statistics": "rank"},
    "gradient of the original": {"variant": {"positive_gradient": "kept"}},
    "queries both": {"variant": {"contrast_queries": "both"}},
    "queries both, gradient of both": {"variant": {"contrast_queries": "both", "positive_gradient": "kept"}},
    "same identity 0": {"same_identity": "zero"},
    "same identity 0, Eq. 14 as printed": {"same_identity": "zero", "denominator": "negatives"},
    "same identity 0, one identity": {"same_identity": "zero", "identities": 1},
    "same identity 0, batch pool": {"same_identity": "zero", "pool": "batch"},
    "same identity 0, empty queue": {"same_identity": "zero", "Q": 0},
    "keys clamped": {"keys": "clamped"},
    "keys clamped, plain delta": {"keys": "clamped", "delta": "plain"},
    "loss weight by the queue": {"variant": {"contrast_rescale": True}},
    "loss weight by an empty queue": {"variant": {"contrast_rescale": True}, "Q": 0},
    "momentum classifies the originals": {"variant": {"classified_views": "originals"}, "pool": "momentum"},
    "all of them": {"variant": OFFICIAL, "statistics": "rank", "same_identity": "zero", "keys": "clamped"},
    "all of them, batch pool": {"variant": OFFICIAL, "statistics": "rank", "same_identity": "zero", "pool": "batch"},
}  # fmt: skip


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("name", CASES)
def test_equals_its_description(name, world_size):
    case = make_case(**CASES[name])
    if case.get("identities") == 1:
        case["threshold"] = 1.0
    expected = transcription(case, world_size)
    per_rank = gloo.run(world_size, ranks.objective_steps, case)
    for step in range(T):
        for rank in per_rank:
            torch.testing.assert_close(rank[step]["losses"][:3], expected[step]["losses"], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(rank[step]["statistics"], expected[step]["statistics"], rtol=1e-9, atol=1e-9)
        for which, key in enumerate(("grad_h", "grad_W")):
            whole = torch.cat([rank[step][key] for rank in per_rank])
            torch.testing.assert_close(whole, expected[step]["grads"][which], rtol=1e-8, atol=1e-9)


NO_GRADIENT = ("HQ pairs constant", "HQ pairs constant, Eq. 14 as printed")


@pytest.mark.parametrize("name", [name for name in CASES if "without" not in name and "empty" not in name])
def test_it_is_not_the_paper(name):
    """Every option changes the gradient of some step, but for the one that cannot."""
    changes = dict(CASES[name])
    paper = {key: value for key, value in changes.items() if key in ("pool", "budget", "loss", "denominator", "delta")}
    paper |= {key: value for key, value in changes.items() if key == "identities"}
    ranks_ = 2 if "statistics" in changes else 1
    ours, theirs = (transcription(make_case(**case), ranks_) for case in (paper, changes))
    moved = [not torch.equal(a["grads"][0], b["grads"][0]) for a, b in zip(ours, theirs, strict=True)]
    assert any(moved) != (name in NO_GRADIENT)
    assert any(a["losses"] != b["losses"] for a, b in zip(ours, theirs, strict=True))
