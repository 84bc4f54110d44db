"""Fifty real steps in float32: the same on any number of ranks, and the same as they were when the golden curve was
written.

`python -m tests.golden` writes tests/recognition/golden_losses.json anew; only for a change that is meant to move the
losses, and with a word on it in the commit.
"""

import pytest
import torch

from tests import gloo, golden, ranks

LOOK_AT = [1, 25, 50]
# Ranks add the same float32 numbers in another order: each sum differs by a relative 1e-7 (half a unit in the last
# place), which fifty steps of SGD carry on to 2e-6 at most, as measured on 2, 3 and 4 ranks. The tolerance leaves a
# factor of 5 for other machines.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module")
def alone() -> dict:
    return gloo.run(1, ranks.train_real_steps, golden.STEPS, LOOK_AT)[0]


def assert_close(got: torch.Tensor, expected: torch.Tensor) -> None:
    """Up to rounding, which is relative to the largest entry: small ones are differences of large ones."""
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_the_run_is_worth_comparing(alone):
    """It learns, both losses take part, and rounding does not decide on which side of the threshold a sample lies."""
    total, _, contrastive, _, lq_pairs = torch.tensor(alone["losses"]).T
    assert total[-10:].mean() < 0.4 * total[:10].mean()
    assert (contrastive > 0.1).sum() > 30
    assert (lq_pairs > 0).sum() > 30 and (lq_pairs < 1).sum() > 30
    assert alone["closest"] > 3e-5
    assert len(alone["queue"]["y_K"]) == 60


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_fifty_steps_are_the_same_on_any_number_of_ranks(alone, world_size):
    together = gloo.run(world_size, ranks.train_real_steps, golden.STEPS, LOOK_AT)
    for rank in together:
        torch.testing.assert_close(torch.tensor(rank["losses"]), torch.tensor(alone["losses"]), **CLOSE)
        torch.testing.assert_close(rank["statistics"], alone["statistics"], **CLOSE)
    for step, expected in enumerate(alone["looked_at"]):
        for name in ("h", "W"):
            assert_close(torch.cat([rank["looked_at"][step][name] for rank in together]), expected[name])
    assert_close(torch.cat([rank["W"] for rank in together]), alone["W"])
    sequence, order = torch.cat([rank["queue"]["sequence_K"] for rank in together]).sort()
    assert torch.equal(sequence, alone["queue"]["sequence_K"])
    for name, expected in alone["queue"].items():
        assert_close(torch.cat([rank["queue"][name] for rank in together])[order], expected)


def test_the_losses_are_the_golden_ones(alone):
    """Machines round otherwise; what changes the method changes more than a ten-thousandth."""
    torch.testing.assert_close(torch.tensor(alone["losses"]), torch.tensor(golden.read()), rtol=1e-4, atol=1e-5)
