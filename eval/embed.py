"""What goes into the one callable that every protocol takes, `embed(images) -> (u, z)`, and what is made of it.

Shapes: n images, S side in pixels, D dimension. `h` feature, `z = |h|` its norm, `u = h / z`.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch.nn.functional import normalize

# (n, S, S, 3) uint8 RGB -> u (n, D) and z (n,), float32 on the CPU
Embed = Callable[[np.ndarray | torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
FUSIONS = ("sum", "norm", "average", "none")


def fused(embed: Embed, images: np.ndarray | torch.Tensor, fusion: str = "sum") -> tuple[torch.Tensor, torch.Tensor]:
    """Features of images and their mirror images made one.

    `u` and `z` of the image, `u'` and `z'` of its mirror image:

    - "sum": u z + u' z', the sum of the raw features. InsightFace's flip test, AdaFace's `pre_norm_vector_add`.
    - "norm": the same brought to length 1, AdaFace's `norm_weighted_avg`. It differs from "sum" where features are
      pooled (IJB), as no image weighs more than another.
    - "average": u + u', AdaFace's `average`.
    - "none": u z of the image alone.

    Args:
        images: (n, S, S, 3) uint8 RGB.

    Returns:
        h (n, D) and z (n,), the norm that the image itself has: the mean of both norms where there are two. Its mean
        over a set is InsightFace's XNorm.

    Raises:
        ValueError: another fusion.
    """
    if fusion not in FUSIONS:
        raise ValueError(f"fusion={fusion!r}: expected one of {', '.join(FUSIONS)}")
    images = torch.as_tensor(images)
    u, z = embed(images)
    if fusion == "none":
        return u * z[:, None], z
    u_mirrored, z_mirrored = embed(images.flip(2))
    if fusion == "average":
        h = u + u_mirrored
    else:
        h = u * z[:, None] + u_mirrored * z_mirrored[:, None]
    return normalize(h) if fusion == "norm" else h, (z + z_mirrored) / 2


def fit(image: np.ndarray, side: int = 112) -> np.ndarray:
    """(H, W, 3) uint8 -> (side, side, 3): the largest square at the centre, resized (bicubic).

    Aligned faces of that size pass untouched. On other squares this is InsightFace's `resize_short`; on images that are
    not square InsightFace fails.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = image[top : top + short, left : left + short]
    return square if short == side else cv2.resize(square, (side, side), interpolation=cv2.INTER_CUBIC)
