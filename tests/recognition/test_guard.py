"""Steps whose numbers are not finite: every rank notices, nothing of them stays, the sample is named."""

import math

import pytest
import torch

from recognition.guard import Guard
from recognition.outcome import NotFiniteError
from tests import gloo, ranks
from tests.recognition.test_objective import P, make_case

every_world = pytest.mark.parametrize("world_size", [1, 2])


# ----- the features


def features_case(pool: str) -> dict:
    """Two steps, of which all that a step updates takes part."""
    case = make_case(loss="curricularface", sample_rate=0.5, pool=pool)
    return case | {"batches": case["batches"][:2]}


@every_world
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "pool, pair, view", [("proxy", 0, 0), ("proxy", P - 1, 1), ("momentum", 0, 1), ("momentum", P - 1, 2)]
)
def test_a_bad_feature_stops_every_rank_before_anything_moves(pool, pair, view, value, world_size):
    answers = gloo.run(world_size, ranks.bad_feature, features_case(pool), [(pair, view, value)])
    assert [answer["what"] for answer in answers] == ["the feature"] * world_size
    assert sum((answer["is_bad"] for answer in answers), []) == [p == pair for p in range(P)]
    assert [answer["changed"] for answer in answers] == [[]] * world_size


@pytest.mark.parametrize("pool", ["proxy", "momentum"])
def test_a_good_step_moves_what_a_bad_one_must_not(pool):
    answer = gloo.run(1, ranks.bad_feature, features_case(pool), [])[0]
    assert answer["what"] is None
    assert {"quality.mean", "quality.std", "head.draws", "margin.t", "row_KD", "next_sequence"} <= set(
        answer["changed"]
    )


# ----- losses and gradients

ONES, BAD_PAIR = [1.0] * 4, [1.0, 1.0, 1.0, math.nan]  # the bad pair is on the last rank
GOOD = {"total": [1.0, 2.0], "per_pair": [ONES, ONES], "gradients": [ONES, ONES], "norm": 3.0}
LOSS, GRADIENT = {"total": [1.0, math.nan], "per_pair": [ONES, BAD_PAIR]}, {"norm": math.nan}
CHECKS = {  # the second micro-batch's samples are 100 to 103
    "a loss": (LOSS, "the loss", "sample 103 (103)"),
    "a loss before its gradient": (LOSS | GRADIENT, "the loss", "sample 103 (103)"),
    "a loss of the first": ({"total": [math.inf, 1.0], "per_pair": [BAD_PAIR, ONES]}, "the loss", "sample 3 (3)"),
    "a gradient": (GRADIENT | {"gradients": [BAD_PAIR, ONES]}, "the gradient", "sample 3 (3)"),
    "gradients": (GRADIENT | {"gradients": [BAD_PAIR, BAD_PAIR]}, "the gradient", "sample 3 (3), 103 (103)"),
    "a gradient that only overflows as a sum": ({"norm": math.inf}, "the gradient", "no single sample"),
}


@every_world
@pytest.mark.parametrize("name", CHECKS)
def test_a_bad_loss_or_gradient_is_seen_by_every_rank(name, world_size):
    changes, what, where = CHECKS[name]
    answers = gloo.run(world_size, ranks.checked_step, GOOD | changes)
    for answer in answers:
        assert answer["said"] == [f"note: {what} is not finite at step 7, in {where}: step skipped (1 so far)"]
    bad_pairs = [any(answer["is_bad"]) for answer in answers]
    assert bad_pairs == [where != "no single sample" and rank == world_size - 1 for rank in range(world_size)]


@every_world
def test_a_good_step_passes(world_size):
    assert gloo.run(world_size, ranks.checked_step, GOOD) == [None] * world_size


# ----- skipping


@every_world
def test_a_skipped_step_leaves_no_trace_and_names_the_samples_of_all_ranks(world_size):
    case = {"steps": ["good", "bad", "good", "bad"], "bad": [[0, 2], [1]]}
    named = "0 (face 0), 2 (face 2)" + ", 11 (face 11)" * (world_size == 2)
    for answer in gloo.run(world_size, ranks.skipped_steps, case):
        assert answer["kept"] == [False, True, False, True]
        assert answer["said"] == [
            f"note: the loss is not finite at step {step}, in sample {named}: step skipped ({count} so far)"
            for step, count in ((2, 1), (4, 2))
        ]
        assert answer["skipped"] == 2 and answer["error"] is None


@every_world
def test_too_many_skipped_steps_in_a_row_stop_the_run(world_size):
    case = {"steps": ["bad", "bad", "good", "bad", "bad", "bad", "good"], "bad": [[0], [1]], "options": {"limit": 3}}
    for answer in gloo.run(world_size, ranks.skipped_steps, case):
        assert len(answer["kept"]) == 6
        assert "step 6, in sample 0 (face 0)" in answer["error"]
        assert "the last of 3 skipped steps in a row" in answer["error"]
        assert len(answer["said"]) == 4


@every_world
def test_stop_stops_at_once_and_says_where(world_size):
    case = {"steps": ["good", "bad", "good"], "bad": [[1], []], "options": {"action": "stop"}}
    for answer in gloo.run(world_size, ranks.skipped_steps, case):
        assert len(answer["kept"]) == 2
        assert "the loss is not finite at step 2, in sample 1 (face 1)" in answer["error"]
        assert answer["said"] == []


def test_an_expected_overflow_never_stops_at_once_and_is_told_where_it_repeats():
    case = {"steps": ["expected"] * 4, "bad": [[]], "options": {"action": "stop", "limit": 3}}
    answer = gloo.run(1, ranks.skipped_steps, case)[0]
    assert answer["kept"] == [True] * 3
    assert "in no single sample: the last of 3" in answer["error"]
    assert answer["skipped"] == 3 and [line[-19:] for line in answer["said"]] == [" skipped (2 so far)"]


@pytest.mark.parametrize("pairs, more", [(4, ""), (5, " and 2 more")])
def test_more_than_eight_samples_are_abbreviated(pairs, more):
    case = {"steps": ["bad"], "pairs": pairs, "bad": [[*range(pairs)]] * 2}
    samples = [*range(pairs), *range(10, 10 + pairs)][:8]
    named = ", ".join(f"{i} (face {i})" for i in samples)
    for answer in gloo.run(2, ranks.skipped_steps, case):
        assert f"in sample {named}{more}: step skipped" in answer["said"][0]


def test_a_bad_feature_is_named_in_the_micro_batch_that_had_it():
    """The last one begun; those after it never were."""
    said, trouble = [], NotFiniteError("the feature", torch.tensor([False, True]))
    Guard([], str, say=said.append).skip(7, trouble, [torch.tensor([0, 1]), torch.tensor([100, 101])])
    assert said == ["note: the feature is not finite at step 7, in sample 101 (101): step skipped (1 so far)"]


def test_an_unknown_action_is_named():
    with pytest.raises(ValueError, match="nonfinite='ignore': expected"):
        Guard([torch.nn.Linear(2, 2)], str, "ignore")
