"""IR, AdaFace's residual network for faces, with its parameter names (`input_layer`, `body`, `output_layer`).

The checkpoints of AdaFace and CVLface load here by name. It differs from `IResNet` in three places: a block that keeps
its width takes every second pixel as its shortcut, without a convolution; the blocks stand in one row; and the last
BatchNorm has neither scale nor shift. AdaFace's network returns h / |h| and |h|, this one h, as every backbone here.
"""

from collections.abc import Sequence

import torch
from torch import nn

WIDTHS = (64, 128, 256, 512)  # channels of each stage


class IRBlock(nn.Module):
    """bn - conv - bn - prelu - conv (strided) - bn, added to the shortcut."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.shortcut_layer: nn.Module
        if inputs == width:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inputs, width, 1, stride, bias=False),
                nn.BatchNorm2d(width),
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class AdaFaceIR(nn.Module):
    """Four stages of residual blocks, then bn - dropout - linear - bn.

    Args:
        blocks: residual blocks of each stage; the first of each halves the side.
        embedding_size: D.
        dropout: probability before the linear layer; AdaFace trains with 0.4.
    """

    def __init__(self, blocks: Sequence[int], embedding_size: int = 512, dropout: float = 0.0):
        super().__init__()
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False),
            nn.BatchNorm2d(WIDTHS[0]),
            nn.PReLU(WIDTHS[0]),
        )
        inputs, body = WIDTHS[0], []
        for count, width in zip(blocks, WIDTHS, strict=True):
            body += [IRBlock(inputs if i == 0 else width, width, 2 if i == 0 else 1) for i in range(count)]
            inputs = width
        self.body = nn.Sequential(*body)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(inputs * 7 * 7, embedding_size),
            nn.BatchNorm1d(embedding_size, affine=False),
        )
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.output_layer.get_parameter("3.bias"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, 112, 112) float images in [-1, 1] -> (n, D) features h, not normalised."""
        return self.output_layer(self.body(self.input_layer(x)))
