"""IResNet, InsightFace's residual network for faces, with arcface_torch's parameter names.

A `model.pt` of arcface_torch loads here with strict=True, and ours loads there.
"""

from collections.abc import Sequence

import torch
from torch import nn


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


class IBasicBlock(nn.Module):
    """bn - conv - bn - prelu - conv (strided) - bn, added to its input."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = _conv3x3(inputs, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = _conv3x3(width, width, stride)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or inputs != width:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return out + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    """Four stages of residual blocks, then bn - dropout - fc - bn.

    Args:
        blocks: residual blocks of each stage.
        embedding_size: D.
        dropout: probability before the last layer.
        widths: channels of each stage.
        stem_stride, stem_side: stride and side of the first convolution; arcface_torch has 1 and 3.
        strides: stride of each stage's first block.
        input_size: side of the square images, in pixels.
    """

    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(
        self,
        blocks: Sequence[int],
        embedding_size: int = 512,
        dropout: float = 0.0,
        widths: Sequence[int] = (64, 128, 256, 512),
        stem_stride: int = 1,
        stem_side: int = 3,
        strides: Sequence[int] = (2, 2, 2, 2),
        input_size: int = 112,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], stem_side, stem_stride, stem_side // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU(widths[0])
        inputs, side = widths[0], -(-input_size // stem_stride)
        for stage, (count, width, stride) in enumerate(zip(blocks, widths, strides, strict=True), 1):
            layer = [IBasicBlock(inputs if i == 0 else width, width, stride if i == 0 else 1) for i in range(count)]
            self.add_module(f"layer{stage}", nn.Sequential(*layer))
            inputs, side = width, -(-side // stride)
        self.bn2 = nn.BatchNorm2d(inputs)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs * side * side, embedding_size)
        self.features = nn.BatchNorm1d(embedding_size)
        self.features.weight.requires_grad_(False)  # stays 1: the feature norm is the encoder's own
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, S, S) float images in [-1, 1] -> (n, D) features h, not normalised."""
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.dropout(torch.flatten(self.bn2(x), 1))
        return self.features(self.fc(x))
