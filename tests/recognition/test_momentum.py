"""The momentum encoder."""

import torch
from torch import nn

from recognition.momentum import MomentumEncoder


def test_it_follows_as_a_moving_average_with_statistics_of_its_own():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    encoder = MomentumEncoder(backbone, m=0.75)
    begun = [parameter.clone() for parameter in backbone.parameters()]
    images = torch.randn(8, 3)
    assert not encoder(images).requires_grad
    assert not encoder.encoder[1].running_mean.equal(backbone[1].running_mean)  # which has seen no image
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(torch.randn_like(parameter))
    expected = begun
    for _ in range(2):
        encoder.follow(backbone)
        expected = [0.75 * old + 0.25 * new for old, new in zip(expected, backbone.parameters(), strict=True)]
    for slow, old in zip(encoder.parameters(), expected, strict=True):
        torch.testing.assert_close(slow, old)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert all(parameter.requires_grad for parameter in backbone.parameters())
