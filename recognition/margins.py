"""Margins: pure functions of the target cosine; the negatives stay as they are (CurricularFace changes them too).

Shapes: `B` samples, `c` negative classes. Functions of `cos_B` return the modified target cosine f(cos), not yet
scaled.
"""

import math
from collections.abc import Callable

import torch
from torch import nn

from recognition.sharded import Bend

EPSILON = 1e-3  # keeps acos away from its poles; AdaFace's value


def angle(cos_B: torch.Tensor) -> torch.Tensor:
    """theta = acos(cos), the cosine clamped to [-1 + 0.001, 1 - 0.001] where acos has a finite slope."""
    return cos_B.clamp(-1 + EPSILON, 1 - EPSILON).acos()


def combined(cos_B: torch.Tensor, m1: float, m2: float, m3: float) -> torch.Tensor:
    """cos(m1 theta + m2) - m3: ArcFace (1, m, 0), CosFace (1, 0, m), SphereFace (m, 0, 0); ArcFace paper, Eq. 4."""
    if m1 == 1 and m2 == 0:
        return cos_B - m3
    return torch.cos(m1 * angle(cos_B) + m2) - m3


def adaface(cos_B: torch.Tensor, z_hat_B: torch.Tensor, m: float = 0.4) -> torch.Tensor:
    """AdaFace (Eq. 7-9): cos(theta + g_angle) - g_add with g_angle = -m z_hat and g_add = m z_hat + m.

    Args:
        cos_B: target cosines in [-1, 1].
        z_hat_B: quality indicators in [-1, 1], without gradient.
        m: margin.
    """
    g_angle_B, g_add_B = -m * z_hat_B, m * z_hat_B + m
    return torch.cos((angle(cos_B) + g_angle_B).clamp(EPSILON, math.pi - EPSILON)) - g_add_B


def magface(
    cos_B: torch.Tensor, z_B: torch.Tensor, norms: tuple[float, float], margins: tuple[float, float]
) -> torch.Tensor:
    """MagFace (Eq. 3): cos(theta + m(a)), the margin growing linearly with the feature norm a, clamped to `norms`.

    Args:
        cos_B: target cosines in [-1, 1].
        z_B: feature norms, with gradient: the margin pulls on them.
        norms: (l_a, u_a).
        margins: (l_m, u_m), in radians.
    """
    (l_a, u_a), (l_m, u_m) = norms, margins
    m_B = (u_m - l_m) / (u_a - l_a) * (z_B.clamp(l_a, u_a) - l_a) + l_m
    return torch.cos(angle(cos_B) + m_B)


def magface_penalty(z_B: torch.Tensor, norms: tuple[float, float]) -> torch.Tensor:
    """MagFace's regulariser g(a) = 1/a + a/u_a^2 of each norm, falling up to u_a: it rewards large norms."""
    a_B = z_B.clamp(*norms)
    return 1 / a_B + a_B / norms[1] ** 2


def harden(cos_Bc: torch.Tensor, f_B: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """CurricularFace's negatives (Eq. 5): cos (t + cos) where the negative beats the target's f(cos), else cos.

    Returns:
        the modified negative cosines and their slope, both (B, c).
    """
    hard_Bc = cos_Bc > f_B[:, None]
    bent_Bc = torch.where(hard_Bc, cos_Bc * (t + cos_Bc), cos_Bc)
    return bent_Bc, torch.where(hard_Bc, t + 2 * cos_Bc, 1.0)


def constant_gradient(cos_B: torch.Tensor, f_B: torch.Tensor) -> torch.Tensor:
    """The value of f with the slope 1 of the bare cosine, as arcface_torch trains (its margin is applied without
    autograd).
    """
    return cos_B + (f_B - cos_B).detach()


class Margin(nn.Module):
    """A margin function as the objective uses it.

    Args:
        f: (cos_B, z_B, z_hat_B) -> modified target cosine.
        penalty: z_B -> (B,) added to the loss of each classified sample, or None.
        gradient: "exact", or "insightface" for the constant target gradient of arcface_torch.
    """

    def __init__(self, f: Callable, penalty: Callable | None = None, gradient: str = "exact"):
        super().__init__()
        self.f, self.penalty, self.gradient = f, penalty, gradient

    def forward(self, cos_B: torch.Tensor, z_B: torch.Tensor, z_hat_B: torch.Tensor) -> torch.Tensor:
        f_B = self.f(cos_B, z_B, z_hat_B)
        return f_B if self.gradient == "exact" else constant_gradient(cos_B, f_B)

    def bend(self, cos_B: torch.Tensor, f_B: torch.Tensor) -> Bend | None:
        """What happens to the negatives' cosines, given the targets' before and after the margin; None: nothing."""
        return None


class CurricularMargin(Margin):
    """CurricularFace: hard negatives weigh more as the mean target cosine t grows (Eq. 5 and 7).

    Args:
        ema: weight of the newest batch in t. The paper prints a momentum of 0.99 on the newest; its code puts 0.99 on
            the old value, and so does this.
    """

    def __init__(self, f: Callable, gradient: str = "exact", ema: float = 0.01):
        super().__init__(f, None, gradient)
        self.ema = ema
        self.t: torch.Tensor
        self.register_buffer("t", torch.zeros(()))

    @torch.no_grad()
    def bend(self, cos_B: torch.Tensor, f_B: torch.Tensor) -> Bend:
        self.t.lerp_(cos_B.mean().to(self.t.dtype), self.ema)
        f_B, t = f_B.detach(), self.t.to(f_B.dtype, copy=True)
        return lambda cos_Bc: harden(cos_Bc, f_B, t)


LOSSES = ("combined", "adaface", "curricularface", "magface")


def make_margin(
    loss: str,
    margin: float = 0.4,
    margin_list: tuple[float, ...] = (1.0, 0.5, 0.0),
    gradient: str = "exact",
    norm_range: tuple[float, float] = (10.0, 110.0),
    margin_range: tuple[float, float] = (0.45, 0.8),
    norm_weight: float = 35.0,
) -> Margin:
    """The margin of a config.

    Args:
        loss: "combined" (arcface_torch's margin_list), "adaface" or "curricularface" (margin), "magface".
        gradient: "exact", or "insightface" for the constant target gradient of arcface_torch.
        norm_range, margin_range, norm_weight: MagFace's (l_a, u_a), (l_m, u_m) and lambda_g.

    Raises:
        ValueError: unknown loss or gradient, or a list or range of another length or order.
    """
    if loss not in LOSSES or gradient not in ("exact", "insightface"):
        raise ValueError(
            f"loss={loss!r}, margin_gradient={gradient!r}: expected one of {LOSSES} and 'exact' or 'insightface'"
        )
    if len(margin_list) != 3:
        raise ValueError(f"margin_list={margin_list}: expected three numbers (m1, m2, m3)")
    for name, pair in (("norm_range", norm_range), ("margin_range", margin_range)):
        if len(pair) != 2 or not 0 < pair[0] < pair[1]:
            raise ValueError(f"{name}={pair}: expected two rising positive numbers")
    if loss == "combined":
        return Margin(lambda cos_B, z_B, z_hat_B: combined(cos_B, *margin_list), gradient=gradient)
    if loss == "adaface":
        return Margin(lambda cos_B, z_B, z_hat_B: adaface(cos_B, z_hat_B, margin), gradient=gradient)
    if loss == "curricularface":
        return CurricularMargin(lambda cos_B, z_B, z_hat_B: combined(cos_B, 1.0, margin, 0.0), gradient)
    return Margin(
        lambda cos_B, z_B, z_hat_B: magface(cos_B, z_B, norm_range, margin_range),
        lambda z_B: norm_weight * magface_penalty(z_B, norm_range),
        gradient,
    )
