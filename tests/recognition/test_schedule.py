import pytest

from recognition import schedule


def test_the_papers_steps():
    """Lr 0.2, divided by 10 after epochs 6 and 9 of 12 (Sec. IV-A), with 10 steps an epoch."""
    rates = [schedule.steps(step, 0.2, 0, (60, 90)) for step in range(120)]
    assert rates == pytest.approx([0.2] * 60 + [0.02] * 30 + [0.002] * 30)


def test_arcface_torchs_polynomial():
    """Linear warm-up to the base, then a straight line that reaches 0 one step after the last."""
    rates = [schedule.polynomial(step, 0.1, 4, 14) for step in range(15)]
    assert rates[:5] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    assert rates[4:] == pytest.approx([0.1 * (14 - step) / 10 for step in range(4, 15)])
    assert schedule.polynomial(0, 0.1, -10, 14) == pytest.approx(0.1)
    assert schedule.polynomial(9, 0.1, 4, 14, power=2) == pytest.approx(0.025)


def test_warm_up_comes_before_the_milestones():
    assert [schedule.steps(step, 1.0, 2, (3,), 0.5) for step in range(5)] == pytest.approx([0.5, 1, 1, 0.5, 0.5])
