import numpy as np
import pytest
import torch
from torch import nn

from recognition.embedder import Embedder


class Recorder(nn.Module):
    """Returns the mean of each channel of each image's left half, and remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.BatchNorm2d(3)
        self.dropout = nn.Dropout(0.5)
        self.calls = []

    def forward(self, x):
        self.calls.append((x, self.training, self.dropout.training, torch.is_inference_mode_enabled()))
        return self.dropout(x)[:, :, :, : x.shape[3] // 2].mean((2, 3))


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (7, 112, 112, 3), dtype=np.uint8)


def left_mean(images):
    return ((images[:, :, :56].astype(np.float64) - 127.5) / 127.5).mean((1, 2))


def test_features_and_norms(images):
    h = left_mean(images)
    for given in (images, torch.from_numpy(images)):
        u, z = Embedder(Recorder(), "cpu", batch_size=3)(given)
        assert u.dtype == z.dtype == torch.float32 and u.shape == (7, 3) and z.shape == (7,)
        np.testing.assert_allclose(z, np.linalg.norm(h, axis=1), rtol=1e-4)
        np.testing.assert_allclose(u, h / np.linalg.norm(h, axis=1, keepdims=True), atol=1e-4)


def test_what_the_backbone_gets(images):
    backbone = Recorder()
    Embedder(backbone, "cpu", batch_size=3, mean=127, std=128)(images)
    assert [len(call[0]) for call in backbone.calls] == [3, 3, 1]
    x, training, dropout, inference = backbone.calls[0]
    assert x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last)
    assert not training and not dropout and inference
    np.testing.assert_allclose(x.numpy(), (images[:3].transpose(0, 3, 1, 2) - 127.0) / 128, atol=1e-6)


def test_channel_order(images):
    rgb, bgr = Recorder(), Recorder()
    Embedder(rgb, "cpu")(images)
    Embedder(bgr, "cpu", channels="bgr")(images)
    assert torch.equal(bgr.calls[0][0], rgb.calls[0][0][:, [2, 1, 0]])
    with pytest.raises(ValueError, match="expected 'rgb' or 'bgr'"):
        Embedder(rgb, "cpu", channels="RGB")


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_without_images(size):
    with pytest.raises(ValueError, match=f"batch_size={size}: expected at least 1"):
        Embedder(Recorder(), "cpu", batch_size=size)


@pytest.mark.parametrize("fails", [False, True])
def test_modes_are_restored(images, fails):
    backbone = Recorder().train()
    backbone.frozen.eval()
    if fails:
        backbone.forward = lambda x: 1 / 0
        with pytest.raises(ZeroDivisionError):
            Embedder(backbone, "cpu")(images)
    else:
        Embedder(backbone, "cpu")(images)
    assert backbone.training and backbone.dropout.training and not backbone.frozen.training


def test_the_features_can_be_used_in_training(images):
    u, z = Embedder(Recorder(), "cpu")(images)
    weight = torch.ones(3, requires_grad=True)
    (u @ weight + z.add_(1)).sum().backward()
    assert weight.grad is not None


def test_a_feature_of_zeros_stays_zero():
    grey = np.full((2, 112, 112, 3), 127, np.uint8)
    u, z = Embedder(Recorder(), "cpu", mean=127)(grey)
    assert not u.any() and not z.any()


def test_autocast(images):
    backbone = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    seen = []
    backbone.register_forward_hook(lambda module, given, h: seen.append(h.dtype))
    u, _ = Embedder(backbone, "cpu", amp_dtype=torch.bfloat16)(images)
    assert seen == [torch.bfloat16] and u.dtype == torch.float32
    np.testing.assert_allclose(u.norm(dim=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 3, 112, 112), np.uint8),
        np.zeros((112, 112, 3), np.uint8),
        np.zeros((2, 112, 112, 3), np.float32),
        np.zeros((0, 112, 112, 3), np.uint8),
    ],
    ids=lambda images: f"{images.shape} {images.dtype}",
)
def test_wrong_images(wrong):
    with pytest.raises(ValueError, match="expected .* uint8 RGB"):
        Embedder(Recorder(), "cpu")(wrong)


@pytest.mark.parametrize("h", [torch.zeros(3), torch.zeros(6, 4), torch.zeros(7, 4, 1, 1), (torch.zeros(7, 4), 1)])
def test_wrong_backbone(images, h):
    backbone = Recorder()
    backbone.forward = lambda x: h
    with pytest.raises(ValueError, match=r"expected features \(n, D\)"):
        Embedder(backbone, "cpu")(images)
