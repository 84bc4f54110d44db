"""Margins: pure functions of the target cosine; the negatives stay as they are.

Shapes: `B` samples. Every function returns the modified target cosine f(cos), not yet scaled.
"""

import math

import torch

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


def constant_gradient(cos_B: torch.Tensor, f_B: torch.Tensor) -> torch.Tensor:
    """The value of f with the slope 1 of the bare cosine, as arcface_torch trains (its margin is applied without
    autograd).
    """
    return cos_B + (f_B - cos_B).detach()
