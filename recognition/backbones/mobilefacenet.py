"""MobileFaceNet in arcface_torch's two sizes, with its parameter names (`layers.0.layers.0.weight`, ...,
`features.layers.3.weight`).
"""

import torch
from torch import nn


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int = 0, groups: int = 1) -> list:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class _Layers(nn.Module):
    """A sequence under the name `layers`, which arcface_torch's parameter names contain."""

    def __init__(self, *modules: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*modules)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class _ConvBlock(_Layers):
    def __init__(self, inputs: int, outputs: int, **kwargs: int):
        super().__init__(*_conv(inputs, outputs, **kwargs), nn.PReLU(outputs))


class _LinearBlock(_Layers):
    def __init__(self, inputs: int, outputs: int, **kwargs: int):
        super().__init__(*_conv(inputs, outputs, **kwargs))


class _DepthWise(_Layers):
    """1x1 to `groups` channels, 3x3 on each of them, 1x1 back."""

    def __init__(self, inputs: int, outputs: int, groups: int, stride: int = 2, residual: bool = False):
        super().__init__(
            _ConvBlock(inputs, groups),
            _ConvBlock(groups, groups, kernel=3, stride=stride, padding=1, groups=groups),
            _LinearBlock(groups, outputs),
        )
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class _Residual(_Layers):
    def __init__(self, width: int, count: int, groups: int):
        super().__init__(*(_DepthWise(width, width, groups, stride=1, residual=True) for _ in range(count)))


class MobileFaceNet(nn.Module):
    """MobileFaceNet (Chen et al. 2018) as arcface_torch widens it.

    Args:
        blocks: residual blocks of the four stages; a first stage of one is a grouped 3x3 convolution.
        scale: width factor, 64 channels each.
        embedding_size: D.
        dropout: probability before the last linear layer.
    """

    def __init__(
        self,
        blocks: tuple[int, int, int, int] = (1, 4, 6, 2),
        scale: int = 2,
        embedding_size: int = 512,
        dropout: float = 0.0,
    ):
        super().__init__()
        narrow, wide = 64 * scale, 128 * scale
        first: nn.Module
        if blocks[0] == 1:
            first = _ConvBlock(narrow, narrow, kernel=3, stride=1, padding=1, groups=64)
        else:
            first = _Residual(narrow, blocks[0], groups=128)
        self.layers = nn.ModuleList(
            [
                _ConvBlock(3, narrow, kernel=3, stride=2, padding=1),
                first,
                _DepthWise(narrow, narrow, groups=128),
                _Residual(narrow, blocks[1], groups=128),
                _DepthWise(narrow, wide, groups=256),
                _Residual(wide, blocks[2], groups=256),
                _DepthWise(wide, wide, groups=512),
                _Residual(wide, blocks[3], groups=256),
            ]
        )
        self.conv_sep = _ConvBlock(wide, 512)
        self.dropout = nn.Dropout(dropout)
        self.features = _Layers(
            _LinearBlock(512, 512, kernel=7, groups=512),
            nn.Flatten(),
            nn.Linear(512, embedding_size, bias=False),
            nn.BatchNorm1d(embedding_size),
        )
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, 112, 112) float images in [-1, 1] -> (n, D) features h, not normalised."""
        for layer in self.layers:
            x = layer(x)
        return self.features(self.dropout(self.conv_sep(x)))
