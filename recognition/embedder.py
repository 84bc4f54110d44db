"""A backbone as `embed(images) -> (u, z)`: the one callable through which protocols meet models.

Shapes: n images, S side in pixels, D dimension. `h` feature, `z = |h|` its norm, `u = h / z`.
"""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn


class Embedder:
    """A backbone as `embed(images) -> (u, z)`.

    Args:
        backbone: (n, 3, S, S) float32 -> h (n, D). It is moved to `device` and otherwise left as it was: modules
            that were training train again after each call.
        channels: the order the backbone was trained on; images come in as RGB.
        mean, std: pixels become (value - mean) / std.
        batch_size: images per forward pass.
        amp_dtype: autocast to `torch.float16` or `torch.bfloat16`; None: float32.

    Raises:
        ValueError: `channels` is neither "rgb" nor "bgr", or `batch_size` is below 1.
    """

    def __init__(
        self,
        backbone: nn.Module,
        device: torch.device | str,
        channels: str = "rgb",
        mean: float = 127.5,
        std: float = 127.5,
        batch_size: int = 128,
        amp_dtype: torch.dtype | None = None,
    ):
        if channels not in ("rgb", "bgr"):
            raise ValueError(f"channels={channels!r}: expected 'rgb' or 'bgr'")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: expected at least 1")
        self.device = torch.device(device)
        self.backbone = backbone.to(self.device)
        self.channels, self.mean, self.std = channels, mean, std
        self.batch_size, self.amp_dtype = batch_size, amp_dtype

    def __call__(self, images: np.ndarray | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, S, S, 3) uint8 RGB, n >= 1 -> u (n, D) and z (n,), float32 on the CPU. A feature of zeros stays zeros.

        Raises:
            ValueError: images of another shape or type, or a backbone that returns something else.
        """
        images = torch.as_tensor(images)
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != torch.uint8 or not len(images):
            raise ValueError(f"images {tuple(images.shape)} {images.dtype}: expected (n, S, S, 3) uint8 RGB, n >= 1")
        with _evaluating(self.backbone), torch.inference_mode():
            parts = [self._features(batch) for batch in images.split(self.batch_size)]
        h = torch.cat(parts)
        z = h.norm(dim=1)
        return h / z.clamp_min(torch.finfo(h.dtype).tiny)[:, None], z

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        """h (n, D) of one batch, on the CPU."""
        x = pixels(images.to(self.device, non_blocking=True), self.channels, self.mean, self.std)
        with torch.autocast(self.device.type, self.amp_dtype, enabled=self.amp_dtype is not None):
            h = self.backbone(x)
        if not isinstance(h, torch.Tensor) or h.ndim != 2 or len(h) != len(images):
            given = tuple(h.shape) if isinstance(h, torch.Tensor) else type(h).__name__
            raise ValueError(f"the backbone returned {given} for {len(images)} images: expected features (n, D)")
        return h.float().cpu()


def pixels(images: torch.Tensor, channels: str, mean: float, std: float) -> torch.Tensor:
    """(n, S, S, 3) uint8 RGB -> (n, 3, S, S) float32 as a model takes it, in the memory format channels_last."""
    if channels == "bgr":
        images = images.flip(3)
    x = images.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
    return x.sub_(mean).div_(std)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; after it each module is as it was, also one that was frozen inside a training model."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
