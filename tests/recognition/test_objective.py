"""The objective against a plain-loop transcription of the paper in float64, value and gradient, on 1, 2 and 3 ranks."""

import pytest
import torch

from recognition.margins import make_margin
from recognition.objective import Objective
from tests import gloo, ranks
from tests.transcription import N, P, T, V, make_case, transcription

CASES = {
    "paper": {},
    "no partition": {"threshold": None},
    "all low quality": {"threshold": 1.0},
    "all high quality": {"threshold": 0.0},
    "Eq. 14 as printed": {"denominator": "negatives"},
    "plain delta": {"delta": "plain"},
    "batch pool": {"pool": "batch"},
    "momentum pool": {"pool": "momentum"},
    "no pool": {"pool": "none"},
    "ArcFace": {"loss": "combined", "margin_list": (1.0, 0.5, 0.0)},
    "CosFace": {"loss": "combined", "margin_list": (1.0, 0.0, 0.4)},
    "CurricularFace": {"loss": "curricularface"},
    "MagFace": {"loss": "magface"},
    "nothing kept": {"budget": 0},
    "a part kept": {"budget": 2 * P * V * 2 * 8},
    "blocks wider than everything": {"block": 64},
    "queue of 0": {"Q": 0},
    "queue of 3, smaller than a batch": {"Q": 3},
    "queue larger than everything": {"Q": 1000},
    "one identity: no negatives": {"identities": 1, "threshold": 1.0},
    "two identities: ranks without a positive": {"identities": 2},
    "fewer classes than ranks": {"N": 2},
}


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_paper(name, world_size):
    case = make_case(**CASES[name])
    expected = transcription(case)
    per_rank = gloo.run(world_size, ranks.objective_steps, case)
    for step in range(T):
        for rank in range(world_size):
            got = per_rank[rank][step]
            torch.testing.assert_close(got["losses"][:3], expected[step]["losses"], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(got["statistics"], expected[step]["statistics"], rtol=1e-9, atol=1e-9)
        for which, key in enumerate(("grad_h", "grad_W")):
            whole = torch.cat([per_rank[rank][step][key] for rank in range(world_size)])
            torch.testing.assert_close(whole, expected[step]["grads"][which], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("world_size", [2, 3, 4])
@pytest.mark.parametrize("pool", ["proxy", "momentum"])
def test_queue_holds_the_newest_rows_whatever_the_ranks(pool, world_size):
    case = make_case(pool=pool)
    alone = gloo.run(1, ranks.objective_steps, case)[0]
    together = gloo.run(world_size, ranks.objective_steps, case)
    for step in range(T):
        parts = [rank[step]["queue"] for rank in together]
        sequence = torch.cat([part["sequence_K"] for part in parts])
        order = sequence.argsort()
        rows = min(case["Q"], (step + 1) * P * (1 if pool == "momentum" else V))
        assert len(sequence) == rows
        for name, value in alone[step]["queue"].items():
            torch.testing.assert_close(torch.cat([part[name] for part in parts])[order], value)


@pytest.mark.parametrize("gate", ["hard", "sigmoid"])
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_sampled_classes_do_not_depend_on_the_ranks(world_size, gate):
    case = make_case(sample_rate=0.4, variant={"quality_gate": gate})
    alone = gloo.run(1, ranks.objective_steps, case)[0]
    together = gloo.run(world_size, ranks.objective_steps, case)
    full = gloo.run(1, ranks.objective_steps, case | {"sample_rate": 1.0})[0]
    for step in range(T):
        torch.testing.assert_close(together[0][step]["losses"], alone[step]["losses"], rtol=1e-9, atol=1e-9)
        for key in ("grad_h", "grad_W"):
            whole = torch.cat([rank[step][key] for rank in together])
            torch.testing.assert_close(whole, alone[step][key], rtol=1e-8, atol=1e-9)
    assert any(a["losses"][1] < f["losses"][1] - 1e-6 for a, f in zip(alone, full, strict=True))


@pytest.mark.parametrize("label", [-1, N])
@pytest.mark.parametrize("world_size", [1, 2])
def test_a_label_that_is_no_class_is_refused_on_every_rank(world_size, label):
    case = make_case()
    h_PVD, y_P, key_h_PD = case["batches"][0]
    case["batches"][0] = (h_PVD, y_P.index_fill(0, torch.tensor([P - 1]), label), key_h_PD)
    for message in gloo.run(world_size, ranks.first_error, case):
        assert message == f"label {label}: expected a class in [0, {N})"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_low_precision_features_are_reduced_in_float32(dtype):
    case = make_case(threshold=None, dtype=torch.float32, h_dtype=dtype)
    case["batches"] = [(h.to(dtype).to(torch.float64), y, k) for h, y, k in case["batches"]]
    expected = transcription(case)
    got = gloo.run(1, ranks.objective_steps, case)[0]
    for step in range(T):
        torch.testing.assert_close(got[step]["losses"][:3], expected[step]["losses"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "change", [{"threshold": 1.5}, {"threshold": -0.1}, {"denominator": "all"}], ids=lambda change: next(iter(change))
)
def test_bad_settings_are_named(change):
    head = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="expected"):
        Objective(head, make_margin("adaface", 0.4, (1, 0, 0)), **change)
    with pytest.raises(ValueError, match="expected"):
        make_margin("sphere", 0.4, (1, 0, 0))
    with pytest.raises(ValueError, match="three numbers"):
        make_margin("combined", 0.4, (1, 0))


def test_the_share_of_low_quality_pairs():
    for changes, expected in (
        ({"pool": "none", "threshold": None}, 0),
        ({"threshold": None}, 1),
        ({"threshold": 1.0}, 1),
    ):
        report = gloo.run(1, ranks.objective_steps, make_case(**changes))[0]
        assert [step["losses"][4] for step in report] == [expected] * T
