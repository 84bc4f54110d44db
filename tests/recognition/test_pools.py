"""The queues against the paper's words: every feature and its proxy kept whole, the newest Q of them."""

import pytest
import torch

from recognition.head import ClassShard
from recognition.pools import make_pool
from tests import gloo, ranks

N, D, P, V, L = 11, 6, 4, 2, 5
normalize = torch.nn.functional.normalize


def make_case(steps: int = 20, labels=lambda step, y_P: y_P, **changes) -> dict:
    """Unit features of random classes while W drifts; `labels` may change a step's classes."""
    generator = torch.Generator().manual_seed(changes.pop("seed", 0))
    n, d, p = changes.get("N", N), changes.get("D", D), changes.pop("P", P)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    W, batches = draw(n, d), []
    for step in range(steps):
        y_P = labels(step, torch.randint(0, n, (p,), generator=generator))
        batches.append((W, normalize(draw(p, V, d), dim=2), y_P))
        W = W + 0.1 * draw(n, d)
    queries = normalize(draw(L, d)), torch.randint(0, n, (L,), generator=generator)
    return {"N": n, "D": d, "Q": 30, "steps": batches, "queries": queries} | changes


def literal(case: dict) -> list[dict]:
    """After each step, oldest first: sequence numbers, labels and keys of the newest Q rows, and the answer to the
    queries.
    """
    u_KD, then_KD, y_K, report = torch.empty(0, case["D"]), torch.empty(0, case["D"]), torch.empty(0).long(), []
    for W, u_PVD, y_P in case["steps"]:
        for view in range(V):  # the originals of all pairs, then their augmented images
            u_KD, then_KD = torch.cat([u_KD, u_PVD[:, view]]), torch.cat([then_KD, W[y_P]])
            y_K = torch.cat([y_K, y_P])
        newest = range(max(len(y_K) - case["Q"], 0), len(y_K))
        u, then, y = u_KD[newest], then_KD[newest], y_K[newest]
        move = W[y] - then
        if case.get("pool", "proxy") == "momentum":
            move = 0.0
        elif case.get("delta", "broadface") == "broadface":
            move = move / then.norm(dim=1, keepdim=True)
        key = normalize(u + move)
        q, y_L = case["queries"]
        logits = (case.get("s", 16.0) * q @ key.T).masked_fill(y_L[:, None] == y, -torch.inf)
        lse = logits.logsumexp(1) if len(y) else torch.full((L,), -torch.inf, dtype=torch.float64)
        report.append({"sequence": torch.tensor(newest), "y": y, "key": key, "lse": lse})
    return report


def assert_literal(case: dict, world_size: int, expected: list[dict]) -> list[tuple]:
    """Rows, order and answers are the literal ones; returns the ranks' reports of each step."""
    steps = list(zip(*gloo.run(world_size, ranks.queue_steps, case), strict=True))
    for parts, want in zip(steps, expected, strict=True):
        for part in parts:
            assert sorted(set(part["slots"])) == sorted(part["slots"])
            assert len(part["slots"]) == len(part["state"]["y_K"]) == len(part["key_KD"])
            assert (part["state"]["sequence_K"].diff() > 0).all()
            torch.testing.assert_close(part["lse_L"], want["lse"], rtol=1e-9, atol=1e-12)
        order = torch.cat([part["state"]["sequence_K"] for part in parts])
        order, by_age = order.sort()
        assert torch.equal(order, want["sequence"])
        assert torch.equal(torch.cat([part["state"]["y_K"] for part in parts])[by_age], want["y"])
        keys = torch.cat([part["key_KD"] for part in parts])[by_age]
        torch.testing.assert_close(keys, want["key"], rtol=1e-9, atol=1e-12)
    return steps


@pytest.mark.parametrize("kind", [{}, {"delta": "plain"}, {"pool": "momentum"}], ids=["broadface", "plain", "momentum"])
def test_300_steps_are_the_papers(kind):
    """No drift of the residual form: W moves by several times its length while the queue turns over 12 times."""
    case = make_case(300, Q=200, block=64, **kind)
    assert_literal(case, 1, literal(case))
    assert (case["steps"][-1][0] - case["steps"][0][0]).norm() > 1.5 * case["steps"][0][0].norm()


SIZES = {"0": 0, "1": 1, "smaller than a batch": 5, "a batch": P * V, "no multiple of a batch": 30, "all": 1000}


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_the_newest_rows_are_there_and_no_other(size, world_size):
    case = make_case(Q=SIZES[size])
    assert_literal(case, world_size, literal(case))


def test_the_ring_wraps():
    """One rank's ring of exactly Q slots, a batch that does not divide it: rows lie on both sides of the end."""
    case = make_case()
    starts = [parts[0]["slots"] for parts in assert_literal(case, 1, literal(case))]
    assert any(slots != sorted(slots) for slots in starts)
    assert {slots[0] for slots in starts[8:]} > {0}
    assert all(slot < 30 for slots in starts for slot in slots)


def one_class(step, y_P):
    return y_P * 0


def back_and_forth(step, y_P):
    return y_P % 3 + 8 * (step // 7 % 2)  # the first rank's classes, then the last one's, and again


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("labels", [one_class, back_and_forth])
def test_rows_may_all_lie_on_one_rank(labels, world_size):
    case = make_case(40, labels)
    steps = assert_literal(case, world_size, literal(case))
    assert any(len(steps[6][rank]["slots"]) == 0 for rank in range(world_size))
    counts = torch.tensor([[len(part["slots"]) for part in parts] for parts in steps])
    assert counts.amax() == 30
    if labels is back_and_forth:
        assert (counts[:, [0, -1]].amax(0) == 30).all() and (counts[20:, [0, -1]].amin(0) == 0).all()


@pytest.mark.parametrize("pool", ["proxy", "momentum"])
@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("at", [2, 13])  # before and after the queue is full
def test_saved_rows_go_on_on_other_ranks(at, world_size, pool):
    case = make_case(pool=pool)
    expected = literal(case)
    parts = [report[-1] for report in gloo.run(2, ranks.queue_steps, case | {"steps": case["steps"][:at]})]
    state = {name: torch.cat([part["state"][name] for part in reversed(parts)]) for name in parts[0]["state"]}
    rest = case | {"steps": case["steps"][at:], "start": (state, parts[0]["next_sequence"])}
    assert_literal(rest, world_size, expected[at:])


def test_a_loaded_queue_is_the_saved_one():
    case = make_case(pool="proxy")
    head = ClassShard(N, D).double()
    queues = [make_pool("proxy", head, D, 30).double() for _ in range(2)]
    for W, u_PVD, y_P in case["steps"]:
        head.weight.copy_(W)
        queues[0].enqueue(u_PVD, y_P)
    queues[1].load_state(queues[0].state(), queues[0].next_sequence)
    for name, saved in queues[0].state().items():
        assert torch.equal(saved, queues[1].state()[name])
    assert queues[1].next_sequence == queues[0].next_sequence


# A stored row is r = u - w / |w|, |r| = sqrt(2) for u and w at right angles. Rounding to nearest with unit roundoff
# e turns each number by up to e of it, evenly spread: the row by |r| e / sqrt(3) = 0.8 e. Over 512 dimensions the
# roundings point in all directions: along a query the move has a deviation of 0.8 e / sqrt(512) = 0.036 e, and its
# largest among a few hundred rows is 3.5 of them. The slope of a logsumexp is at most 1: at s = 64 it moves by no more
# than 64 * 3.5 * 0.036 e = 8 e.
ROUNDOFF = {"float16": 2**-11, "bfloat16": 2**-8}


@pytest.mark.parametrize("dtype", ROUNDOFF)
def test_half_the_bytes_cost_a_rounding(dtype):
    """float16: keys to 0.0005, the logsumexp to 0.004; bfloat16: to 0.004 and 0.03."""
    e = ROUNDOFF[dtype]
    case = make_case(12, N=100, D=512, P=32, Q=400, s=64.0, dtype=torch.float32)
    case["steps"] = [(W / 20, u_PVD, y_P) for W, u_PVD, y_P in case["steps"]]
    whole, half = (gloo.run(1, ranks.queue_steps, case | {"queue_dtype": name})[0] for name in ("float32", dtype))
    for one, other in zip(whole, half, strict=True):
        assert other["bytes"] * 2 == one["bytes"]
        assert other["state"]["row_KD"].dtype == getattr(torch, dtype)
        assert other["key_KD"].dtype == torch.float32
        error = (one["key_KD"] - other["key_KD"]).norm(dim=1)
        assert 0 < error.max() < e
        assert 0 < (one["lse_L"] - other["lse_L"]).abs().max() < 8 * e


@pytest.mark.parametrize("bad", [{"size": -1}, {"dtype": "int8"}, {"delta": "cosine"}, {"name": "disk"}], ids=str)
@pytest.mark.parametrize("pool", ["proxy", "momentum"])
def test_a_bad_setting_is_named(pool, bad):
    arguments = {"name": pool, "head": ClassShard(3, 2), "dimension": 2, "size": 4} | bad
    with pytest.raises(ValueError, match=f"{next(iter(bad.values()))}.*expected"):
        make_pool(**arguments)
