"""What diagnostics say against plain loops in float64, on 1, 2 and 3 ranks, and that looking changes nothing."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from recognition.diagnostics import BINS, histogram
from recognition.quality import NormStatistics, partition
from tests import gloo, ranks
from tests.recognition.test_variant import OFFICIAL

N, D, P, T, INPUTS = 7, 5, 6, 8, 9
VIEWS = ("original", "augmented")


def make_case(**changes) -> dict:
    """Global batches of images of unlike clearness, and a W that drifts from batch to batch."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    W = draw(N, D)
    case = {"N": N, "D": D, "Q": 27, "pool": "proxy", "threshold": 0.45, "every": 2, "batches": [], "W_steps": []}
    for _ in range(T):
        x_PVI = draw(P, 2, INPUTS) * torch.rand(P, 2, 1, generator=generator, dtype=torch.float64) * 4
        case["batches"].append((x_PVI, torch.randint(0, N, (P,), generator=generator), draw(P, D)))
        W = W + 0.3 * draw(N, D)
        case["W_steps"].append(W)
    return case | changes


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm()


def mean(values: list | torch.Tensor) -> float:
    return sum(float(value) for value in values) / len(values) if len(values) else math.nan


def transcription(case: dict) -> list[dict[str, float]]:
    """The numbers of every batch, row by row and pair by pair."""
    backbone, statistics = ranks.first_backbone(INPUTS, D), NormStatistics(0.3, mean=2.0, std=1.0).double()
    pool, acc, stride, rows, report = case["pool"], case.get("acc", 1), case.get("stride", 1), [], []
    count = 0
    for i, ((x_PVI, y_P, key_h_PD), W) in enumerate(zip(case["batches"], case["W_steps"], strict=True)):
        h_PVD = backbone(x_PVI).detach()
        statistics.update(h_PVD.norm(dim=2))
        is_hq_PV, is_lq_P = partition(statistics.indicator(h_PVD.norm(dim=2)), case["threshold"])
        numbers = {f"lq_{view}": 1 - mean(is_hq_PV[:, v]) for v, view in enumerate(VIEWS)}
        numbers["lq_pairs"] = float(is_lq_P.float().mean())
        report.append(numbers)
        if pool == "none":
            continue
        keys = [unit(key_h_PD[p] if pool == "momentum" else h_PVD[p, 0]) for p in range(P)]
        queries = [unit(h_PVD[p, 1]) for p in range(P)]
        if pool == "batch":
            rows = []
        for feature in keys if pool == "momentum" else [*keys, *queries]:
            label = int(y_P[count % P])
            rows.append((count, i // acc, label, feature, W[label]))
            count += 1
        rows = rows if pool == "batch" else rows[max(0, len(rows) - case["Q"]) :]
        numbers["positive_cosine"] = mean([q @ k for q, k in zip(queries, keys, strict=True)])
        numbers["positive_difference"] = mean([(q - k).norm() for q, k in zip(queries, keys, strict=True)])
        numbers["masked_rows"] = mean([sum(label == y for _, _, label, _, _ in rows) for y in y_P.tolist()])
        moves, now, looked_at = [], [], [row for row in rows if row[0] % stride == 0]
        for _, _, label, u, W_then in looked_at:
            move = (W[label] - W_then) / (1.0 if case.get("delta") == "plain" else W_then.norm())
            now.append(unit(u + move) if pool == "proxy" else u)
            moves.append(move.norm() / (W[label].norm() if case.get("delta") == "plain" else 1.0))
        pairs = [
            (q, key) for q, y in zip(queries, y_P.tolist(), strict=True)
            for (_, _, label, _, _), key in zip(looked_at, now, strict=True) if label != y
        ]  # fmt: skip
        numbers["negative_cosine"] = mean([q @ key for q, key in pairs])
        numbers["negative_difference"] = mean([(q - key).norm() for q, key in pairs])
        if pool != "batch":
            ages = [i // acc - step for _, step, *_ in rows]
            numbers["queue_fill"] = len(rows) / case["Q"] if case["Q"] else math.nan
            numbers |= {"queue_age_mean": mean(ages), "queue_age_max": max(ages, default=math.nan)}
        if pool == "proxy" and case["Q"]:
            numbers["proxy_drift"] = mean(moves)
            numbers["key_shift"] = mean([(key - u).norm() for key, (*_, u, _) in zip(now, looked_at, strict=True)])
    return report


def gradients(case: dict) -> list[dict[str, float]]:
    """Those of the classification alone, and what a contrast adds to them."""
    alone, both = (
        [step["gradient"] for step in ranks.diagnosed_steps(case | {"every": 0} | other)]
        for other in ({"weight": 0.0}, {})
    )
    report = []
    for classification, whole in zip(alone, both, strict=True):
        contrastive = whole - classification
        report.append({"grad_norm_classification": float(classification.norm())})
        if case["pool"] != "none":
            product = float(classification.norm() * contrastive.norm())
            report[-1]["grad_norm_contrastive"] = float(contrastive.norm())
            report[-1]["grad_cosine"] = float(classification @ contrastive) / product if product else math.nan
    return report


CASES = {
    "proxy": {},
    "every third row is looked at": {"sample": 9, "stride": 3},
    "two micro-batches, and a scaled loss": {"acc": 2, "scale": 1024.0},
    "no partition": {"threshold": None},
    "no pair is low-quality": {"threshold": 0.0},
    "plain delta": {"delta": "plain"},
    "a queue of less than a batch": {"Q": 5, "sample": 3, "stride": 2},
    "a queue of 0": {"Q": 0},
    "a queue that is never full": {"Q": 1000, "stride": 4},
    "momentum": {"pool": "momentum", "sample": 14, "stride": 2},
    "momentum, two micro-batches": {"pool": "momentum", "acc": 2},
    "batch": {"pool": "batch"},
    "no pool": {"pool": "none"},
    "the released code, and consistency": {
        "variant": OFFICIAL | {"consistency_weight": 0.6}, "same_identity": "zero", "keys": "clamped", "acc": 2,
    },
}  # fmt: skip


@cache
def expectation(name: str) -> tuple[dict, list, list]:
    case = make_case(**CASES[name])
    return case, transcription(case), gradients(case)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("name", CASES)
def test_numbers_are_those_of_plain_loops(name, world_size):
    case, per_batch, per_step = expectation(name)
    acc = case.get("acc", 1)
    for steps in gloo.run(world_size, ranks.diagnosed_steps, case):
        for step, found in enumerate(steps, 1):
            assert (found["seen"] is not None) == (step % case["every"] == 0)
            if found["seen"] is None:
                continue
            batches = per_batch[(step - 1) * acc : step * acc]
            expected = {name: mean([batch[name] for batch in batches]) for name in batches[0]} | per_step[step - 1]
            assert found["seen"][0] == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("pool", ["proxy", "momentum", "batch", "none"])
def test_looking_leaves_the_gradient_as_it_is_to_the_last_bit(pool, world_size):
    case = make_case(pool=pool, acc=2, every=1)
    seen, unseen = (gloo.run(world_size, ranks.diagnosed_steps, case | {"every": every}) for every in (1, 0))
    for one, other in zip(seen, unseen, strict=True):
        assert all(torch.equal(a["gradient"], b["gradient"]) for a, b in zip(one, other, strict=True))
        assert all(step["seen"] for step in one) and not any(step["seen"] for step in other)


@pytest.mark.parametrize("world_size", [1, 2])
def test_histograms_are_of_every_sample_of_the_step(world_size):
    case = make_case(acc=2)
    backbone, statistics, z, z_hat = ranks.first_backbone(INPUTS, D), NormStatistics(0.3, mean=2.0, std=1.0), [], []
    for x_PVI, _, _ in case["batches"]:
        z.append(backbone(x_PVI).detach().norm(dim=2))
        statistics.double().update(z[-1])
        z_hat.append(statistics.indicator(z[-1]))
    for steps in gloo.run(world_size, ranks.diagnosed_steps, case):
        histograms = steps[1]["seen"][1]  # of batches 2 and 3
        for values, name in ((z, "z"), (z_hat, "z_hat")):
            for v, view in enumerate(VIEWS):
                both = torch.cat([values[2][:, v], values[3][:, v]]).numpy()
                found = histograms[f"{name}_{view}"]
                assert sum(found["counts"]) == 2 * P and len(found["counts"]) == BINS
                assert (found["mean"], found["std"]) == pytest.approx((both.mean(), both.std()))
                bounds = (both.min(), both.max()) if name == "z" else (-1, 1)
                assert (found["least"], found["most"]) == pytest.approx(bounds)
        assert len(histograms) == 4


def test_a_histogram_of_equal_values_has_them_all():
    found = histogram(np.full(3, 2.5))
    assert found["least"] < 2.5 < found["most"] and sum(found["counts"]) == 3 == max(found["counts"])
