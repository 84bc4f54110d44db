"""Margins against the formulas of their papers, one scalar at a time; their gradients against finite differences."""

import math

import pytest
import torch

from recognition import margins
from recognition.margins import harden, make_margin
from recognition.quality import NormStatistics

NORMS, RANGE, M = (10.0, 110.0), (0.45, 0.8), 0.4
GRID = [
    (c / 20, z, z_hat / 4) for c in range(-19, 20) for z in (3.0, 10.0, 37.0, 109.0, 200.0) for z_hat in range(-4, 5)
]


def combined(m1, m2, m3):
    return lambda cos, z, z_hat: math.cos(m1 * math.acos(cos) + m2) - m3


def adaface(cos, z, z_hat):
    angle = math.acos(cos) - M * z_hat  # g_angle = -m z_hat, kept on the half circle as the authors do
    return math.cos(min(max(angle, 0.001), math.pi - 0.001)) - (M * z_hat + M)


def magface(cos, z, z_hat):
    (l_a, u_a), (l_m, u_m) = NORMS, RANGE
    return math.cos(math.acos(cos) + (u_m - l_m) / (u_a - l_a) * (min(max(z, l_a), u_a) - l_a) + l_m)


PAPERS = {
    "ArcFace": ({"loss": "combined", "margin_list": (1.0, 0.5, 0.0)}, combined(1, 0.5, 0)),
    "CosFace": ({"loss": "combined", "margin_list": (1.0, 0.0, 0.4)}, combined(1, 0, 0.4)),
    "all three": ({"loss": "combined", "margin_list": (0.9, 0.4, 0.15)}, combined(0.9, 0.4, 0.15)),
    "AdaFace": ({"loss": "adaface"}, adaface),
    "CurricularFace": ({"loss": "curricularface"}, combined(1, M, 0)),
    "MagFace": ({"loss": "magface"}, magface),
}
every_paper = pytest.mark.parametrize("name", PAPERS)


def columns(points, **options) -> list[torch.Tensor]:
    return [torch.tensor(column, dtype=torch.float64, **options) for column in zip(*points, strict=True)]


def make(name: str, **changes):
    return make_margin(**PAPERS[name][0], margin=M, norm_range=NORMS, margin_range=RANGE, **changes)


@every_paper
def test_the_value_is_the_papers(name):
    got = make(name)(*columns(GRID))
    torch.testing.assert_close(got, columns((PAPERS[name][1](*point),) for point in GRID)[0], rtol=1e-12, atol=1e-12)


@every_paper
def test_the_gradient_is_the_slope_of_the_value(name):
    """Away from the clamps, where there is no slope: norms inside their range, angles that no margin pushes out."""
    cos, z, z_hat = columns([p for p in GRID if abs(p[0]) < 0.85 and p[1] in (37.0, 109.0)])
    f = make(name)
    assert torch.autograd.gradcheck(lambda *x: f(*x, z_hat), (cos.requires_grad_(), z.requires_grad_()))


@every_paper
@pytest.mark.parametrize("pole", [-1.0, 1.0])
def test_the_gradient_is_finite_where_acos_has_none(name, pole):
    cos, z, z_hat = columns([(pole, 37.0, z_hat / 4) for z_hat in range(-4, 5)])
    make(name)(cos.requires_grad_(), z, z_hat).sum().backward()
    assert cos.grad.isfinite().all()


def norm_gradient(name: str, z: torch.Tensor) -> torch.Tensor | None:
    """Gradient of the modified cosines with respect to the norms, the indicators made from them as in training."""
    statistics = NormStatistics(mean=40.0, std=30.0).double()
    f = make(name)(torch.zeros_like(z).requires_grad_(), z, statistics.indicator(z))
    return torch.autograd.grad(f.sum(), z, allow_unused=True)[0]


def test_only_magface_pulls_on_the_norms():
    inside, outside = columns([(20.0, 5.0), (60.0, 150.0)], requires_grad=True)
    slope = (RANGE[1] - RANGE[0]) / (NORMS[1] - NORMS[0])
    m = [RANGE[0] + slope * (z - NORMS[0]) for z in (20, 60)]
    # at theta = 90 degrees: d cos(theta + m(a)) / da = -sin(90 + m) m' = -cos(m) m'
    expected = torch.tensor([-math.cos(value) * slope for value in m], dtype=torch.float64)
    torch.testing.assert_close(norm_gradient("MagFace", inside), expected)
    assert not norm_gradient("MagFace", outside).any()
    for other in set(PAPERS) - {"MagFace"}:
        assert norm_gradient(other, inside) is None


def test_magface_rewards_large_norms_up_to_the_upper_one():
    z = torch.tensor([5.0, 10.0, 37.0, 109.0, 500.0], dtype=torch.float64, requires_grad=True)
    penalty = make_margin("magface", norm_range=NORMS, norm_weight=35.0).penalty
    a = [min(max(value, 10.0), 110.0) for value in z.tolist()]
    torch.testing.assert_close(penalty(z).tolist(), [35 * (1 / x + x / 110**2) for x in a])
    assert torch.autograd.gradcheck(penalty, z[2:4].detach().requires_grad_())
    slope = torch.autograd.grad(penalty(z).sum(), z)[0]
    assert (slope[2:4] < 0).all() and slope[0] == 0 and slope[4] == 0
    assert all(make(name).penalty is None for name in set(PAPERS) - {"MagFace"})


@every_paper
def test_insightface_gradients_are_1_and_the_value_stays(name):
    cos, z, z_hat = columns(GRID)
    got = make(name, gradient="insightface")(cos.requires_grad_(), z.requires_grad_(), z_hat)
    torch.testing.assert_close(got, make(name)(cos, z, z_hat))
    got.sum().backward()
    assert (cos.grad == 1).all() and z.grad is None


NEGATIVES = [-0.95, -0.4, 0.0, 0.3, 0.55, 0.9]


def test_hard_negatives_are_those_above_the_modified_target():
    f, t = torch.tensor([-0.5, 0.299, 0.95], dtype=torch.float64), torch.tensor(0.25, dtype=torch.float64)
    got, _ = harden(torch.tensor([NEGATIVES] * 3, dtype=torch.float64), f, t)
    expected = [[c * (0.25 + c) if c > float(limit) else c for c in NEGATIVES] for limit in f]
    torch.testing.assert_close(got.tolist(), expected)
    assert got[2].tolist() == NEGATIVES


@pytest.mark.parametrize("t", [0.0, 0.25, 0.8])
def test_the_slope_of_hard_negatives_is_that_of_their_value(t):
    """Finite differences, on both sides of the kink at f but not on it."""
    f, t, h = torch.tensor([-0.5, 0.29, 0.95]).double(), torch.tensor(t).double(), 1e-6
    cos = torch.tensor([NEGATIVES] * 3, dtype=torch.float64)
    difference = (harden(cos + h, f, t)[0] - harden(cos - h, f, t)[0]) / (2 * h)
    torch.testing.assert_close(harden(cos, f, t)[1], difference, rtol=1e-8, atol=1e-8)


def test_t_follows_the_mean_target_cosine():
    margin, t = make("CurricularFace"), 0.0
    for batch in ([0.5, 0.9, -0.2], [0.1, 0.3, 0.4], [0.9, 0.9, 0.9]):
        cos = torch.tensor(batch)
        t = 0.99 * t + 0.01 * sum(batch) / 3
        bent, _ = margin.bend(cos, cos - 1)(torch.tensor([[0.5]] * 3))  # with the t of its own batch
        torch.testing.assert_close(bent, torch.full((3, 1), 0.5 * (t + 0.5)))
    torch.testing.assert_close(float(margin.t), t)


def test_a_later_batch_does_not_change_the_negatives_of_an_earlier_one():
    """A micro-batch's exponentials may be made again at the end of the step, when t has moved on."""
    margin, negatives = make("CurricularFace"), torch.tensor([[0.5], [-0.5]])
    first = margin.bend(torch.tensor([0.2, 0.4]), torch.tensor([0.0, 0.0]))
    before = first(negatives)
    margin.bend(torch.tensor([0.9, 0.9]), torch.tensor([0.9, 0.9]))
    torch.testing.assert_close(first(negatives), before, rtol=0, atol=0)


def test_the_other_margins_leave_the_negatives_alone():
    for name in set(PAPERS) - {"CurricularFace"}:
        assert make(name).bend(torch.zeros(2), torch.zeros(2)) is None


@pytest.mark.parametrize(
    "bad",
    [
        {"loss": "sphere"}, {"gradient": "half"}, {"margin_list": (1.0, 0.5)}, {"margin_list": (1.0, 0.5, 0.0, 0.0)},
        {"norm_range": (110.0, 10.0)}, {"norm_range": (10.0, 10.0)}, {"norm_range": (0.0, 10.0)},
        {"norm_range": (1.0, 2.0, 3.0)}, {"margin_range": (0.8, 0.45)}, {"margin_range": (0.4,)},
    ],
    ids=str,
)  # fmt: skip
def test_a_bad_setting_is_named(bad):
    with pytest.raises(ValueError, match="expected") as error:
        make_margin(**{"loss": margins.LOSSES[0]} | bad)
    key, value = next(iter(bad.items()))
    assert key in str(error.value) and str(value) in str(error.value)
