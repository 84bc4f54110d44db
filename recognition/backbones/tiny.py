"""A network without BatchNorm, for tests that compare rank counts exactly and for quick trials on a CPU."""

import torch
from torch import nn


class Tiny(nn.Module):
    """Strided convolutions and one linear layer: a sample's feature depends on that sample alone, in training too.

    Args:
        embedding_size: D.
        dropout: probability before the linear layer.
        input_size: side of the square images, in pixels.
    """

    def __init__(self, embedding_size: int = 512, dropout: float = 0.0, input_size: int = 112):
        super().__init__()
        widths, side, layers = (3, 16, 32, 64, 96), input_size, []
        for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.PReLU(outputs)]
            side = -(-side // 2)
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(widths[-1] * side * side, embedding_size)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, a=0.25, nonlinearity="leaky_relu")
                nn.init.zeros_(module.get_parameter("bias"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, S, S) float images in [-1, 1] -> (n, D) features h, not normalised."""
        return self.fc(self.dropout(torch.flatten(self.layers(x), 1)))
