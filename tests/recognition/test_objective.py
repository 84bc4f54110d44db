"""The objective against a plain-loop transcription of the paper in float64, value and gradient, on 1, 2 and 3 ranks."""

import math

import pytest
import torch

from recognition.margins import make_margin
from recognition.objective import Objective
from tests import gloo, ranks

N, D, P, V, T = 7, 5, 5, 2, 6


def make_case(**changes) -> dict:
    """Random global batches of a few identities, norms of both kinds, and a W that drifts from step to step."""
    generator = torch.Generator().manual_seed(changes.pop("seed", 0))

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    n = changes.get("N", N)
    W = draw(n, D)
    case = {"N": n, "D": D, "Q": 13, "pool": "proxy", "threshold": 0.45, "batches": [], "W_steps": []}
    for _ in range(T):
        norms = torch.rand(P, V, 1, generator=generator, dtype=torch.float64) * 4
        y_P = torch.randint(0, changes.get("identities", n), (P,), generator=generator)
        case["batches"].append((draw(P, V, D) * norms, y_P, draw(P, D)))
        W = W + 0.3 * draw(n, D)
        case["W_steps"].append(W.clone())
    return case | changes


def unit(x):
    return x / x.norm()


def transcription(case: dict) -> list[dict]:
    """The paper with loops: one scalar at a time, every proxy and feature of the queue kept whole."""
    s, b, m = case.get("s", 16.0), case["threshold"], 0.4
    mean, std, queue, report = torch.tensor(2.0).double(), torch.tensor(1.0).double(), [], []
    loss, t = case.get("loss", "adaface"), 0.0  # t of CurricularFace
    for (h_PVD, y_P, key_h_PD), W in zip(case["batches"], case["W_steps"], strict=True):
        h = h_PVD.clone().requires_grad_()
        W = W.clone().requires_grad_()
        z = torch.stack([h[p, v].norm() for p in range(len(y_P)) for v in range(V)]).detach().clamp(0.001, 100)
        ema = case.get("ema", 0.3)
        mean, std = mean + ema * (z.mean() - mean), std + ema * (z.std() - std)
        z_hat = [max(-1.0, min(1.0, float(0.333 * (value - mean) / (std + 0.001)))) for value in z]
        indicator = [[(z_hat[p * V + v] + 1) / 2 for v in range(V)] for p in range(len(y_P))]

        rows = [(p, v) for p in range(len(y_P)) for v in range(V)]
        cosine = {(p, v, j): torch.dot(unit(h[p, v]), unit(W[j])) for p, v in rows for j in range(case["N"])}
        t = t + 0.01 * (sum(float(cosine[p, v, int(y_P[p])].detach()) for p, v in rows) / len(rows) - t)
        classification = torch.zeros((), dtype=torch.float64)
        for p, v in rows:
            if b is not None and indicator[p][v] <= b:
                continue
            target = cosine[p, v, int(y_P[p])]
            theta = torch.acos(target.clamp(-0.999, 0.999))
            penalty = 0.0
            if loss == "adaface":
                g_angle, g_add = -m * z_hat[p * V + v], m * z_hat[p * V + v] + m
                f = torch.cos((theta + g_angle).clamp(0.001, math.pi - 0.001)) - g_add
            elif loss == "curricularface":
                f = torch.cos(theta + m)
            elif loss == "magface":
                a = h[p, v].norm().clamp(1.0, 5.0)
                f = torch.cos(theta + (a - 1.0) / 4.0 * (0.8 - 0.45) + 0.45)
                penalty = 3.0 * (1 / a + a / 25.0)
            else:
                m1, m2, m3 = case["margin_list"]
                f = (torch.cos(m1 * theta + m2) if (m1, m2) != (1, 0) else target) - m3
            below = torch.exp(s * f)
            for j in range(case["N"]):
                if j != y_P[p]:
                    c = cosine[p, v, j]
                    below = below + torch.exp(s * (c * (t + c) if loss == "curricularface" and c > f else c))
            classification = classification - torch.log(torch.exp(s * f) / below) + penalty
        classification = classification / len(rows)

        momentum = case["pool"] == "momentum"
        if case["pool"] == "batch":
            queue = []
        for v in range(1 if momentum else V):
            for p in range(len(y_P)):
                feature = key_h_PD[p] if momentum else h[p, v].detach()
                queue.append((int(y_P[p]), unit(feature), W[y_P[p]].detach().clone()))
        if case["pool"] != "batch":
            queue = queue[len(queue) - case["Q"] :] if len(queue) > case["Q"] else queue

        contrastive = torch.zeros((), dtype=torch.float64)
        for p in range(len(y_P)) if case["pool"] != "none" else []:
            if b is not None and min(indicator[p]) > b:
                continue
            q = unit(h[p, 1])
            positive = torch.exp(s * torch.dot(q, unit(key_h_PD[p] if momentum else h[p, 0].detach())))
            negatives = []
            for label, u, W_then in queue:
                if label == int(y_P[p]):
                    continue
                if case["pool"] == "proxy":
                    ratio = 1.0 if case.get("delta") == "plain" else u.norm() / W_then.norm()
                    u = unit(u + ratio * (W[label].detach() - W_then))
                negatives.append(torch.exp(s * torch.dot(q, u)))
            if not negatives:
                continue
            below = sum(negatives) + (positive if case.get("denominator", "infonce") == "infonce" else 0)
            contrastive = contrastive - torch.log(positive / below)
        contrastive = contrastive / len(y_P)

        total = classification + case.get("weight", 0.7) * contrastive
        grads = torch.autograd.grad(total, (h, W), allow_unused=True) if total.requires_grad else (None, None)
        grads = [torch.zeros_like(x) if g is None else g for g, x in zip(grads, (h, W), strict=True)]
        report.append(
            {"losses": [float(x.detach()) for x in (total, classification, contrastive)], "grads": grads,
             "statistics": (float(mean), float(std))}
        )  # fmt: skip
    return report


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


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_sampled_classes_do_not_depend_on_the_ranks(world_size):
    case = make_case(sample_rate=0.4)
    alone = gloo.run(1, ranks.objective_steps, case)[0]
    together = gloo.run(world_size, ranks.objective_steps, case)
    full = gloo.run(1, ranks.objective_steps, make_case())[0]
    for step in range(T):
        torch.testing.assert_close(together[0][step]["losses"], alone[step]["losses"], rtol=1e-9, atol=1e-9)
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
