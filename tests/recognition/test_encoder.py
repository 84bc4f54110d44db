"""`FaceEncoder` against `open_model` and `Embedder`, on tiny models and drawn faces."""

import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from recognition import FaceEncoder
from recognition.backbones import get_backbone
from recognition.embedder import Embedder
from recognition.models import open_model, save_model
from recognition.quality import NormStatistics
from tests.faces import photo
from tests.onnx_files import pooled
from utils.align import TEMPLATE, align
from utils.jpeg import decode, encode


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network of ours, drawn at random, with statistics of its norms."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.pt"
    save_model(path, get_backbone("nano", 16).state_dict(), "nano", 16, norm_mean=2.0, norm_std=0.5)
    return path


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """An ONNX model whose features can be computed by hand: it is fast, and does not depend on the batch."""
    path = pooled(tmp_path_factory.mktemp("onnx") / "m.onnx", channels="rgb", mean="127.5", std="127.5")
    return FaceEncoder.open(path, batch_size=4)


@pytest.fixture(scope="module")
def images():
    return np.stack([photo(identity, 0) for identity in range(10)])


@pytest.fixture(scope="module")
def paths(images, tmp_path_factory):
    """The same as PNG files."""
    folder = tmp_path_factory.mktemp("photos")
    for index, image in enumerate(images):
        cv2.imwrite(str(folder / f"{index}.png"), image[:, :, ::-1])
    return [folder / f"{index}.png" for index in range(len(images))]


def test_importing_the_package_does_not_load_pytorch():
    code = "import recognition, sys; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_features_are_those_of_the_embedder(model, images):
    opened = open_model(model)
    u, z = Embedder(opened.backbone, "cpu", opened.channels, batch_size=4)(images)
    ours = FaceEncoder.open(model, batch_size=4).encode(images)
    assert [part.dtype for part in ours] == [np.float32, np.float32]
    assert np.array_equal(ours[0], u.numpy()) and np.array_equal(ours[1], z.numpy())


def test_files_arrays_and_mixtures_are_the_same_to_the_last_bit(model, images, paths):
    one = FaceEncoder.open(model, batch_size=4)
    u, z = one.encode(images)
    mixed = [paths[i] if i % 3 == 0 else str(paths[i]) if i % 3 == 1 else images[i] for i in range(len(paths))]
    for photos in (paths, list(images), (path for path in mixed)):
        other = one.encode(photos)
        assert np.array_equal(other[0], u) and np.array_equal(other[1], z)


def test_batch_size_changes_rounding_only(model, images):
    u, z = FaceEncoder.open(model, batch_size=1).encode(images)
    other = FaceEncoder.open(model, batch_size=7).encode(images)
    assert np.allclose(u, other[0], atol=1e-5) and np.allclose(z, other[1], rtol=1e-5)


def test_half_precision_is_near(model, images):
    u, _ = FaceEncoder.open(model).encode(images)
    half, _ = FaceEncoder.open(model, amp="bfloat16").encode(images)
    assert not np.array_equal(u, half) and ((u * half).sum(1) > 0.99).all()


def test_landmarks_align_as_utils_align_does(encoder, tmp_path, images):
    rng = np.random.default_rng(3)
    large = rng.integers(0, 256, (300, 200, 3), dtype=np.uint8)
    points = TEMPLATE * 1.4 + (12, 60) + rng.normal(0, 2, (5, 2))
    crop = align(large, points)
    (tmp_path / "large.jpg").write_bytes(encode(large))
    u, z = encoder.encode([large, images[0], tmp_path / "large.jpg"], [points, None, points])
    expected = encoder.encode([crop, images[0], align(decode(encode(large)), points)])
    assert np.array_equal(u, expected[0]) and np.array_equal(z, expected[1])


def test_a_photo_that_is_not_aligned_is_refused_with_the_remedy(encoder, images):
    with pytest.raises(ValueError, match=r"^image 1 cannot be used: 112 x 60 pixels.*--landmarks.*--detector"):
        encoder.encode([images[0], images[1][:60]])


def test_the_detector_is_asked_only_where_it_is_needed(encoder, images):
    large, asked = np.full((200, 150, 3), 90, np.uint8), []

    def detector(rgb):
        asked.append(rgb.shape)
        return TEMPLATE + 20 if rgb[0, 0, 0] == 90 else None

    one = FaceEncoder(encoder.model, detector=detector)
    u, _ = one.encode([images[0], large, large], [None, None, TEMPLATE + 5])
    assert asked == [(200, 150, 3)]
    assert np.array_equal(u, encoder.encode([images[0], align(large, TEMPLATE + 20), align(large, TEMPLATE + 5)])[0])
    with pytest.raises(ValueError, match="image 0 cannot be used: the detector finds no face"):
        one.encode([np.zeros_like(large)])


def bad_photos(folder, paths):
    """What is wrong -> photo."""
    (folder / "text.jpg").write_text("no image")
    (folder / "cut.jpg").write_bytes(encode(photo(1, 1))[:-40])
    (folder / "empty.png").write_bytes(b"")
    (folder / "folder.jpg").mkdir()
    gray, floats = np.zeros((112, 112), np.uint8), np.zeros((112, 112, 3), np.float32)
    return {
        "no JPEG": folder / "text.jpg",
        "it is cut": folder / "cut.jpg",
        "0 bytes": folder / "empty.png",
        "directory": folder / "folder.jpg",
        "No such file": folder / "none.jpg",
        "expected (height, width, 3) uint8": gray,
        "float32": floats,
    }


def test_bad_photos_stop_by_name_or_are_left_out(encoder, images, paths, tmp_path):
    u, z = encoder.encode(images[:6])
    bad = bad_photos(tmp_path, paths)
    photos = [x for pair in zip(bad.values(), [*paths[:6], paths[5]], strict=True) for x in pair]
    found_u, found_z, found = encoder.encode_usable(photos)
    assert sorted(found) == [0, 2, 4, 6, 8, 10, 12] and np.array_equal(np.flatnonzero(np.isnan(found_z)), sorted(found))
    assert np.isnan(found_u[::2]).all() and np.array_equal(found_u[1:12:2], u) and np.array_equal(found_z[1:12:2], z)
    for (problem, one), place in zip(bad.items(), sorted(found), strict=True):
        name = f"image {place}" if isinstance(one, np.ndarray) else str(one)
        assert found[place].name == name and problem in found[place].problem
        with pytest.raises(ValueError) as caught:
            encoder.encode([one])
        named = "image 0" if isinstance(one, np.ndarray) else str(one)
        assert str(caught.value) == f"{named} cannot be used: {found[place].problem}"


def test_landmarks_that_fit_no_face_are_one_photos_problem(encoder, images):
    same = np.full((5, 2), 30.0)
    *_, bad = encoder.encode_usable(images[:3], [None, same, np.full((5, 2), np.nan)])
    assert "one place" in bad[1].problem and "finite" in bad[2].problem and len(bad) == 2


@pytest.mark.parametrize("given", [[], [None], [None] * 4])
def test_as_many_landmarks_as_photos(encoder, images, given):
    with pytest.raises(ValueError, match="one entry for each photo"):
        encoder.encode(images[:3], given)


@pytest.mark.parametrize(
    ("photos", "said"),
    [
        ("a.jpg", "is one path"),
        (np.zeros((112, 112, 3), np.uint8), r"expected \(n, height, width, 3\)"),
        ([3], "photo 0 is a int"),
    ],
)
def test_what_is_no_collection_of_photos(encoder, photos, said):
    with pytest.raises(ValueError, match=said):
        encoder.encode(photos)


def test_no_photos(encoder):
    u, z = encoder.encode([])
    assert u.shape == (0, 12) and z.shape == (0,)
    assert encoder.encode_usable([])[0].shape == (0, 12)


def test_a_stream_takes_photos_as_they_are_needed(encoder, images):
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield images[len(taken) % 2]

    stream = encoder.stream(endless())
    first, second = next(stream), next(stream)
    stream.close()
    assert list(first.places) == [0, 1, 2, 3] and list(second.places) == [4, 5, 6, 7] and second.end == 8
    assert len(taken) < 300  # batches of 4, and what the threads read ahead


def test_a_stream_tells_of_bad_photos_before_a_good_one_comes(encoder):
    stream = encoder.stream("none.jpg" for _ in iter(int, 1))
    batch = next(stream)
    stream.close()
    assert list(batch.bad) == [0, 1, 2, 3] and batch.end == 4 and batch.u.shape == (0, 12)


def test_features_that_are_not_finite_are_one_photos_problem(encoder, images):
    class Breaks(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3)) / (x.amax((1, 2, 3)) > -1)[:, None]

    model = replace(encoder.model, backbone=Breaks(), embedding_size=3)
    black = np.zeros((112, 112, 3), np.uint8)
    u, z, bad = FaceEncoder(model).encode_usable(["none.jpg", images[0], black, images[1]])
    assert list(bad) == [0, 2] and np.isfinite(z[[1, 3]]).all()
    assert bad[2].name == "image 2" and "NaN or infinity" in bad[2].problem


def test_the_indicator_is_that_of_training(model, encoder):
    z = np.array([0.5, 2.0, 2.4, 90.0], np.float32)
    expected = NormStatistics(mean=2.0, std=0.5).indicator(torch.from_numpy(z)).numpy()
    assert np.array_equal(FaceEncoder.open(model).indicator(z), expected)
    with pytest.raises(ValueError, match="carries no statistics"):
        encoder.indicator(z)


def test_similarity(encoder, images):
    u, _ = encoder.encode(images[:3])
    both = encoder.similarity(u, u[:2])
    assert both.shape == (3, 2) and both.dtype == np.float32
    assert np.allclose(both, u.astype(np.float64) @ u[:2].astype(np.float64).T, atol=1e-6)
    assert encoder.similarity(u[0], u).shape == (3,) and float(encoder.similarity(u[0], u[1])) == both[0, 1]
    with pytest.raises(ValueError, match="of one D"):
        encoder.similarity(u, u[:, :4])


def test_settings_that_cannot_be(encoder):
    with pytest.raises(ValueError, match="amp='half'"):
        FaceEncoder(encoder.model, amp="half")
    with pytest.raises(ValueError, match="batch_size=0"):
        FaceEncoder(encoder.model, batch_size=0)
    with pytest.raises(ValueError, match="device='gpu'"):
        FaceEncoder(encoder.model, device="gpu")
