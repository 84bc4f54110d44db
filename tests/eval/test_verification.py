import cv2
import numpy as np
import pytest
import torch

from eval.bins import BinError, PairBin
from eval.features import CHUNK, checked
from eval.metrics import fold_accuracies, tar_at_far
from eval.protocol import evaluate
from eval.verification import Verification
from recognition.embedder import Embedder


def verify(embed, pair_bin, folds=10, fusion="sum"):
    return evaluate(embed, Verification(pair_bin, folds), fusion).metrics


def png(rgb):
    return cv2.imencode(".png", np.ascontiguousarray(rgb[:, :, ::-1]))[1].tobytes()


def face(colour, side=112):
    """A face is known by its colour."""
    return png(np.full((side, side, 3), colour, np.uint8))


def colour_embed(images):
    """The mean colour as a feature: norm 2, in RGB order."""
    images = torch.as_tensor(images)
    assert images.dtype == torch.uint8 and images.shape[1:] == (112, 112, 3)
    h = images.double().mean((1, 2)) - 100
    return (h / h.norm(dim=1, keepdim=True)).float(), torch.full((len(images),), 2.0)


def noisy_embed(images):
    """A feature that depends on every pixel, and tells an image from its mirror image."""
    x = torch.as_tensor(images).float().flatten(1) - 127
    h = x @ torch.randn(x.shape[1], 16, generator=torch.Generator().manual_seed(0))
    z = h.norm(dim=1)
    return h / z[:, None], z


@pytest.fixture
def easy():
    red, green, blue = face((200, 90, 90)), face((90, 200, 90)), face((90, 90, 200))
    return PairBin("easy", [red, red, red, green, blue, blue, green, blue] * 5, np.array([True, False] * 10))


@pytest.fixture
def random_set():
    draw = np.random.default_rng(0)
    images = [png(draw.integers(0, 256, (112, 112, 3), dtype=np.uint8)) for _ in range(24)]
    return PairBin("random", [images[k] for k in draw.integers(0, 24, 120)], draw.random(60) < 0.5)


def test_perfect_model(easy):
    result = verify(colour_embed, easy)
    assert result["accuracy"] == 1.0 and result["accuracy_std"] == 0.0 and result["tar@far=1e-3"] == 1.0
    assert result["strict_tar@far=1e-3"] == 1.0
    assert result["xnorm"] == 2.0 and result["pairs"] == 20 and 0 < result["threshold"] < 4
    assert all(type(value) in (int, float) for value in result.values())


def collapsed(images):
    return torch.nn.functional.normalize(torch.ones(len(images), 8)), torch.ones(len(images))


def test_collapsed_model(easy):
    result = verify(collapsed, easy)
    assert result["accuracy"] == 0.5 and result["tar@far=1e-3"] == result["strict_tar@far=1e-3"] == 0.0
    assert result["pauc"] == pytest.approx(1)  # an even quality discards at random


@pytest.mark.parametrize("embed", [colour_embed, noisy_embed, collapsed])
def test_evidence_is_what_the_numbers_are_made_of(random_set, embed):
    result = evaluate(embed, Verification(random_set, 5), "none")
    evidence, metrics = result.evidence, result.metrics
    dist, issame, right = evidence["dist"], evidence["issame"], evidence["right/accuracy"]
    assert right.dtype == bool and right.mean() == pytest.approx(metrics["accuracy"])  # folds of one size
    accuracy, threshold = fold_accuracies(dist.astype(float), issame, 5)
    for pair in range(60):
        assert right[pair] == ((dist[pair] < threshold[pair // 12]) == issame[pair])
    assert metrics["accuracy_se"] == pytest.approx(np.std(accuracy, ddof=1) / 5**0.5)
    low, high = result.intervals["accuracy"]
    assert 0 <= low <= metrics["accuracy"] <= high <= 1 and low < high
    assert set(result.headline) == {"accuracy", "tar@far=1e-3"}
    assert evidence["far"].shape == evidence["tar"].shape and evidence["discarded"].shape == evidence["fnmr"].shape


@pytest.mark.parametrize("fusion", ["none", "sum"])
def test_numbers_are_those_of_the_features(random_set, fusion):
    images = np.stack([cv2.imdecode(np.frombuffer(data, np.uint8), 1)[:, :, ::-1] for data in random_set.jpegs])
    u, z = noisy_embed(images.copy())
    if fusion == "sum":
        u_mirrored, z_mirrored = noisy_embed(images[:, :, ::-1].copy())
        u = torch.nn.functional.normalize(u * z[:, None] + u_mirrored * z_mirrored[:, None])
        z = torch.cat([z, z_mirrored])
    dist = (u[0::2] - u[1::2]).double().square().sum(1).numpy()
    accuracy, threshold = fold_accuracies(dist, random_set.issame, 5)
    result = verify(noisy_embed, random_set, 5, fusion)
    assert result["accuracy"] == pytest.approx(accuracy.mean(), abs=1e-12)
    assert result["accuracy_std"] == pytest.approx(accuracy.std(), abs=1e-12)
    assert result["threshold"] == pytest.approx(threshold.mean(), abs=1e-12)
    assert result["tar@far=1e-3"] == pytest.approx(tar_at_far(dist, random_set.issame, 1e-3, 5)[0], abs=1e-12)
    assert result["xnorm"] == pytest.approx(float(z.mean()), rel=1e-5)


def test_more_images_than_a_chunk(easy):
    times = CHUNK // len(easy.jpegs) + 2
    large = PairBin("large", easy.jpegs * times, np.tile(easy.issame, times))
    assert len(large.jpegs) > CHUNK
    assert verify(colour_embed, large)["accuracy"] == 1.0


def test_a_real_module(easy):
    backbone = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    assert verify(Embedder(backbone, "cpu", mean=100), easy)["accuracy"] == 1.0


def test_images_of_other_sizes(easy):
    images = [face((200, 90, 90), side) for side in (112, 250)] + [face((90, 200, 90), side) for side in (64, 112)]
    mixed = PairBin("mixed", images * 10, np.array([True, True] * 10))
    assert "tar@far=1e-3" not in verify(colour_embed, mixed)
    assert verify(colour_embed, mixed)["accuracy"] == 1.0


@pytest.mark.parametrize("cut", [b"", b"\xff\xd8\xff", "half"])
def test_undecodable_image_is_named(easy, cut, monkeypatch):
    monkeypatch.setattr("eval.features.CHUNK", 16)
    images = list(easy.jpegs)
    images[17] = images[17][:60] if cut == "half" else cut
    with pytest.raises(BinError, match=r"easy\.bin: image 17 of 40") as caught:
        verify(colour_embed, PairBin("easy", images, easy.issame))
    assert "\n" not in str(caught.value)


def test_features_that_are_not_numbers(easy):
    def broken(images):
        u, z = colour_embed(images)
        u[3] = float("nan")
        return u, z

    with pytest.raises(ValueError, match="features of 1 of 40 images hold NaN or infinity, the first is image 3"):
        verify(broken, easy)


def test_fewer_pairs_than_folds(easy):
    with pytest.raises(ValueError, match=r"small\.bin has 3 pairs: expected at least one for each of 10 folds"):
        verify(colour_embed, PairBin("small", easy.jpegs[:6], easy.issame[:3]))


def test_the_digest_is_of_images_and_flags(easy):
    same = Verification(PairBin("copy", list(easy.jpegs), easy.issame.copy())).digest()
    assert same == Verification(easy).digest()
    others = [PairBin("easy", easy.jpegs, ~easy.issame), PairBin("easy", easy.jpegs[::-1], easy.issame)]
    assert all(Verification(other).digest() != same for other in others)


def test_features_of_another_set(easy):
    with pytest.raises(ValueError, match="features of 38 images, but easy has 40"):
        Verification(easy).score(checked(np.ones((38, 4))))
