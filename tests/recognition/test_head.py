"""The classifier's step, block by block and rank by rank, against torch.optim on the dense W in float64."""

import itertools

import pytest
import torch

from recognition.head import ClassShard, initial_rows
from recognition.row_optimizer import RowOptimizer
from tests import gloo, ranks

N, D, B, T = 11, 4, 6, 6
MIB = 2**20
LRS = [0.3, 0.3, 0.1, 0.2, 0.05, 0.4]
OPTIMIZERS = {
    "sgd": ("sgd", 0.9, 0.02),
    "sgd without momentum": ("sgd", 0.0, 0.02),
    "adamw": ("adamw", 0.9, 0.05),
}
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)


def make_case(optimizer: str = "sgd", micro_batches: int = 1, **changes) -> dict:
    generator = torch.Generator().manual_seed(changes.pop("seed", 0))
    n = changes.get("N", N)

    def micro_batch():
        u_BD = torch.randn(B, D, generator=generator, dtype=torch.float64)
        return torch.nn.functional.normalize(u_BD), torch.randint(0, n, (B,), generator=generator)

    steps = [(lr, [micro_batch() for _ in range(micro_batches)]) for lr in LRS]
    return {"N": n, "D": D, "optimizer": OPTIMIZERS[optimizer], "steps": steps} | changes


def dense(case: dict, sampled: list[list] | None = None) -> list[dict]:
    """W and its slots after each step of torch.optim on the whole W.

    Args:
        sampled: the classes of each micro-batch of each step; what is not among them is no negative, and a row that is
            in no micro-batch of a step is put back afterwards with its slots.
    """
    W = (100 * initial_rows(0, case["N"], D, seed=3).double()).requires_grad_()
    kind, momentum, decay = case["optimizer"]
    if kind == "sgd":
        optimizer = torch.optim.SGD([W], 1.0, momentum, weight_decay=decay)
    else:
        optimizer = torch.optim.AdamW([W], 1.0, weight_decay=decay)
    slots = {"adamw": ("exp_avg", "exp_avg_sq")}.get(kind, ("momentum_buffer",) if momentum else ())
    report = [{"W": W.detach().clone(), "slots": {name: torch.zeros_like(W) for name in slots}}]
    for step, (lr, micro_batches) in enumerate(case["steps"]):
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        moved = torch.zeros(case["N"], dtype=torch.bool)
        for i, (u_BD, y_B) in enumerate(micro_batches[case.get("forgotten", 0) :]):
            seen = torch.ones(case["N"], dtype=torch.bool)
            if sampled is not None:
                seen = torch.zeros_like(seen).index_fill(0, sampled[step][i], True)
            moved |= seen
            positive = torch.nn.functional.one_hot(y_B, case["N"]).bool()
            logits = 16 * (u_BD @ torch.nn.functional.normalize(W).T - 0.2 * positive.double())
            loss = logits.masked_fill(~seen, -torch.inf).logsumexp(1) - logits[positive]
            loss.mean().backward()
        optimizer.step()
        with torch.no_grad():
            W[~moved] = report[-1]["W"][~moved]
            for name in slots:
                optimizer.state[W][name][~moved] = report[-1]["slots"][name][~moved]
        report.append({"W": W.detach().clone(), "slots": {name: optimizer.state[W][name].clone() for name in slots}})
    return report


def run(case: dict, world_size: int = 1) -> list[dict]:
    """The steps of the sharded classifier, its rows put together."""
    per_rank, report = gloo.run(world_size, ranks.head_steps, case), []
    for parts in zip(*per_rank, strict=True):
        slots = {name: torch.cat([part["slots"][name] for part in parts]) for name in parts[0]["slots"]}
        report.append({"W": torch.cat([part["W"] for part in parts]), "slots": slots})
        if "sampled" in parts[0] and "sample_rate" in case:
            report[-1]["sampled"] = [torch.cat(ids) for ids in zip(*(part["sampled"] for part in parts), strict=True)]
    return report


def assert_same(got: list[dict], expected: list[dict]) -> None:
    assert len(got) == len(expected) == T + 1
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one["W"], other["W"], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(one["slots"], other["slots"], rtol=1e-9, atol=1e-11)


BYTES = B * 3 * 8  # of a kept block of three classes
BUDGETS = {"nothing": 0, "a part": 1.5 * BYTES / MIB, "everything": 1}


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("budget", BUDGETS)
@every_optimizer
def test_a_step_is_torch_optims(optimizer, budget, world_size):
    case = make_case(optimizer, budget=BUDGETS[budget])
    assert_same(run(case, world_size), dense(case))


@pytest.mark.parametrize("world_size", [3, 4])
@every_optimizer
def test_a_rank_may_have_no_class(optimizer, world_size):
    case = make_case(optimizer, N=2)
    assert_same(run(case, world_size), dense(case))


@pytest.mark.parametrize("block", [1, N - 1, N, 64])
def test_the_width_of_the_blocks_does_not_matter(block):
    case = make_case(block=block)
    assert_same(run(case), dense(case))


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("budget", BUDGETS)
@every_optimizer
def test_micro_batches_add_their_gradients(optimizer, budget, world_size):
    case = make_case(optimizer, micro_batches=3, budget=BUDGETS[budget])
    assert_same(run(case, world_size), dense(case))


@every_optimizer
def test_the_scale_of_the_loss_is_taken_out(optimizer):
    case = make_case(optimizer, micro_batches=2, scale=1024.0)
    assert_same(run(case), dense(case))


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_forgotten_gradient_is_never_felt(world_size):
    case = make_case(micro_batches=2, forgotten=1)
    assert_same(run(case, world_size), dense(case))


@pytest.mark.parametrize("budget", [0, 0.5, 1.5, 3.5, 7.5, 1000])
def test_what_is_kept_fits_the_budget(budget):
    """Over all micro-batches together, and the first ones use what there is."""
    case = make_case(N=12, micro_batches=3, budget=budget * BYTES / MIB)
    for step in gloo.run(1, ranks.head_steps, case)[0][1:]:
        kept = [size for trace in step["kept"] for size in trace]
        assert sum(kept) <= step["budget"]
        assert len(kept) == min(int(budget), 12 // 3 * 3)


# ----- Partial FC


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("micro_batches", [1, 2])
@every_optimizer
def test_a_sampled_step_is_the_dense_one_on_its_classes(optimizer, micro_batches, world_size):
    case = make_case(optimizer, micro_batches, N=40, sample_rate=0.3, block=2)
    got = run(case, world_size)
    sampled = [step["sampled"] for step in got[1:]]
    if micro_batches == 2:
        assert any(len(one) != len(two) or (one != two).any() for one, two in sampled)
    assert_same(got, dense(case, sampled))


@pytest.mark.parametrize("micro_batches", [1, 2])
@every_optimizer
def test_what_is_not_sampled_keeps_every_bit(optimizer, micro_batches):
    got, still = run(make_case(optimizer, micro_batches, N=40, sample_rate=0.3, block=2)), 0
    for before, after in zip(got[:-1], got[1:], strict=True):
        rest = torch.ones(40, dtype=torch.bool).index_fill(0, torch.cat(after["sampled"]), False)
        still += int(rest.sum())
        assert torch.equal(before["W"][rest], after["W"][rest])
        assert (before["W"][~rest] != after["W"][~rest]).any(1).all()
        for name in before["slots"]:
            assert torch.equal(before["slots"][name][rest], after["slots"][name][rest])
    assert still > 0


def test_a_sample_has_every_positive_the_rate_and_nothing_twice():
    """And is drawn anew each time: two share 0.3 of 0.3 of the classes. Of 2000 classes: deviations below 0.011."""
    case, samples = make_case(N=2000, sample_rate=0.3, micro_batches=2, block=64), []
    for (_, micro_batches), after in zip(case["steps"], run(case, 2)[1:], strict=True):
        for (_, y_B), ids in zip(micro_batches, after["sampled"], strict=True):
            assert torch.isin(y_B, ids).all()
            assert len(ids.unique()) == len(ids)
            samples.append(ids)
    for ids in samples:
        assert len(ids) / 2000 == pytest.approx(0.3, abs=0.05)
    for one, other in itertools.combinations(samples, 2):
        assert torch.isin(one, other).sum().item() / 2000 == pytest.approx(0.09, abs=0.05)


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_the_sample_does_not_depend_on_the_ranks(world_size):
    case = make_case(N=40, sample_rate=0.3, micro_batches=2)
    for alone, together in zip(run(case)[1:], run(case, world_size)[1:], strict=True):
        for one, other in zip(alone["sampled"], together["sampled"], strict=True):
            assert torch.equal(one, other)


# ----- beginning, settings


@pytest.mark.parametrize("num_classes", [1, 2, 2500])  # 2500: rows of three drawings
def test_initial_rows_do_not_depend_on_the_ranks(num_classes):
    alone = gloo.run(1, ranks.initial_weight, num_classes)[0]
    for world_size in (2, 4):
        assert torch.equal(torch.cat(gloo.run(world_size, ranks.initial_weight, num_classes)), alone)
    if num_classes == 2500:
        assert abs(float(alone.std()) - 0.01) < 3e-4 and abs(float(alone.mean())) < 3e-4
        assert len(alone.unique(dim=0)) == num_classes
        assert not torch.equal(alone, ClassShard(num_classes, 4, seed=4).weight)


@pytest.mark.parametrize(
    "bad",
    [
        {"num_classes": 0},
        {"embedding_size": 0},
        {"sample_rate": 0},
        {"sample_rate": 1.5},
        {"sample_rate": -0.1},
        {"memory_budget": -1},
    ],
    ids=str,
)
def test_a_bad_setting_is_named(bad):
    name, value = next(iter(bad.items()))
    with pytest.raises(ValueError, match=f"{name}={value}.*expected"):
        ClassShard(**{"num_classes": 3, "embedding_size": 2} | bad)


def test_an_unknown_optimizer_is_named():
    with pytest.raises(ValueError, match="optimizer='lion': expected"):
        RowOptimizer("lion", torch.zeros(2, 2))


def test_memory_set_aside_fits_the_budget_whatever_the_micro_batches():
    B, C, block = 64, 32, 8
    head = ClassShard(C, 4, memory_budget=1.9 * B * block * 4 / 2**20)
    with ranks.small_blocks(block):
        for _ in range(4):
            u_BD = torch.nn.functional.normalize(torch.randn(B, 4)).requires_grad_()
            head.negatives(u_BD, torch.randint(0, C, (B,)), 16.0).sum().backward()
    aside = [flat.nbytes for name, flat in head.scratch.flats.items() if isinstance(name, int)]
    assert sum(len(trace.kept) for trace in head._traces) == 1 and sum(aside) <= head.budget
