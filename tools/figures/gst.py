"""The gradient scaling term |g| of AdaFace and ArcFace over angle and quality (Fig. 2, Eq. 11-12).

    python -m tools.figures gst --output gst.png

g = (P - 1) df / dcos(theta), the derivative of the loss with respect to the target's cosine, as autograd gives it for
the margins that training uses. A bare cosine with P = 0 has |g| = s. P depends on the other identities' cosines, too:
here all of them stand at one angle, --others.
"""

import argparse
import math

import numpy as np
import torch
from matplotlib.projections.polar import PolarAxes

from recognition.margins import Margin, make_margin
from tools.figures import page
from utils.cli import Parser

LARGEST = 120  # degrees; features of a network that has begun to learn are nearer to their proxy
ANGLES, RADII = 240, 100  # cells of the map


def main(words: list[str]) -> None:
    """Write the figure."""
    options = _options(words)
    margins = {
        f"ArcFace, margin {options.arcface_margin:g}": make_margin(
            "combined", margin_list=(1.0, options.arcface_margin, 0.0)
        ),
        f"AdaFace, margin {options.margin:g}": make_margin("adaface", options.margin),
    }
    angle, z_hat = np.linspace(0, math.radians(LARGEST), ANGLES + 1), np.linspace(-1, 1, RADII + 1)
    maps = {
        name: scaling_term(
            margin, _middle(angle), _middle(z_hat), options.scale, options.classes, math.radians(options.others)
        )
        / options.scale
        for name, margin in margins.items()
    }
    figure = page.new_page("Gradient scaling term: how hard the loss pulls a sample to its identity's proxy", 10, 4.6)
    panels = figure.subplots(1, len(maps), subplot_kw={"projection": "polar"})
    top = max(float(values.max()) for values in maps.values())
    for axes, (name, values) in zip(panels, maps.items(), strict=True):
        mesh = axes.pcolormesh(angle, z_hat, values, vmin=0, vmax=top, cmap="viridis", rasterized=True)
        _furnish(axes, name, 2 * options.threshold - 1)
    figure.colorbar(mesh, ax=panels, shrink=0.8, label="|g| / s   (1: a bare cosine, target not yet likely)")
    caption = (
        f"Angle: between feature and proxy. Radius: quality indicator ẑ, which the feature norm sets (Eq. 1), from -1 "
        f"to 1. Dashed: threshold b = {options.threshold:g} on (ẑ+1)/2; samples on its inner side are LQ. "
        f"g = (P-1) ∂f/∂cos θ (Eq. 12), s = {options.scale:g}; P takes {options.classes - 1:,} other proxies, all at "
        f"{options.others:g}°."
    )
    page.write(figure, caption, options.output)
    print(f"figure   {options.output}")


def scaling_term(
    margin: Margin, angle: np.ndarray, z_hat: np.ndarray, scale: float, classes: int, others: float
) -> np.ndarray:
    """|g| of Eq. 12 for every angle and indicator.

    Args:
        margin: of the target's cosine; it may depend on the indicator, not on the norm itself.
        angle: (a,) radians between feature and proxy.
        z_hat: (r,) quality indicators in [-1, 1].
        classes: n identities, the sample's own and n - 1 others.
        others: radians between the feature and each of the other proxies.

    Returns:
        (r, a) float64.
    """
    rows, columns = np.meshgrid(z_hat, angle, indexing="ij")
    cos_B = torch.tensor(np.cos(columns).ravel(), requires_grad=True)
    z_hat_B = torch.tensor(rows.ravel())
    target_B = scale * margin(cos_B, z_hat_B, z_hat_B)
    negatives = torch.tensor(scale * math.cos(others) + math.log(classes - 1), dtype=target_B.dtype)
    loss_B = torch.logaddexp(target_B, negatives) - target_B
    (g_B,) = torch.autograd.grad(loss_B.sum(), cos_B)
    return g_B.abs().numpy().reshape(rows.shape)


def _options(words: list[str]) -> argparse.Namespace:
    parser = Parser("python -m tools.figures gst", __doc__)
    parser.add_argument("--margin", type=float, default=0.4, help="AdaFace's m; default: 0.4")
    parser.add_argument("--arcface-margin", type=float, default=0.5, help="ArcFace's, in radians; default: 0.5")
    parser.add_argument("--scale", type=float, default=64.0, help="s; default: 64")
    parser.add_argument("--classes", type=int, default=8631, help="identities; default: 8631, VGGFace2's")
    parser.add_argument("--others", type=float, default=90.0, help="angle of all other proxies, degrees; default: 90")
    parser.add_argument("--threshold", type=float, default=0.2, help="b in [0, 1]; default: 0.2")
    page.add_output(parser)
    options = parser.parse_args(words)
    limits = {"margin": (0, 1), "arcface_margin": (0, 1), "scale": (1, 1000), "classes": (2, 10**9),
              "others": (0, 180), "threshold": (0, 1)}  # fmt: skip
    for name, (least, most) in limits.items():
        value = getattr(options, name)
        if not least <= value <= most:
            raise ValueError(f"--{name.replace('_', '-')} {value}: expected a number from {least} to {most}")
    page.check_output(options.output)
    return options


def _middle(edges: np.ndarray) -> np.ndarray:
    return (edges[1:] + edges[:-1]) / 2


def _furnish(axes: PolarAxes, name: str, threshold: float) -> None:
    """Axes of the sector, and the threshold as an arc; `threshold` is an indicator in [-1, 1]."""
    angle = np.linspace(0, math.radians(LARGEST), 100)
    axes.plot(angle, np.full(len(angle), threshold), "--", color="white", linewidth=1.5)
    axes.set_thetamax(LARGEST)
    axes.set_thetagrids(range(0, LARGEST + 1, 30))
    axes.text(math.radians(90), (threshold - 1) / 2, "LQ", color="white", ha="center", va="center", weight="bold")
    axes.set_rlim(-1, 1)
    axes.set_rorigin(-2)  # low quality is a ring, not a point
    axes.set_rticks([-1, 0, 1], ["ẑ = -1", "0", "1"])
    axes.grid(False)
    axes.set_title(name, fontsize="medium")
    axes.set_xlabel("quality indicator ẑ, along the proxy's direction θ = 0°", labelpad=-18)
