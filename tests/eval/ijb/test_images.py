"""IJB's faces: aligned by the least-squares similarity, and every unusable image is named."""

import os

import cv2
import numpy as np
import pytest

from eval.ijb.images import FaceImages, warp
from eval.ijb.meta import read_faces
from tests.faces import photo
from tests.ijb import layout, write_ijb

# eval_ijbc.py: five points in 96 x 112 pixels, moved by 8
SCRIPT = np.array([[30.2946, 51.6963], [65.5318, 51.5014], [48.0252, 71.7366], [33.5493, 92.3655], [62.7299, 92.2041]])
SCRIPT = SCRIPT + [8, 0]


def umeyama(points, target):
    """Equations 38 to 43 of Umeyama (1991), by the singular value decomposition, as skimage estimates a similarity."""
    a, b = points - points.mean(0), target - target.mean(0)
    left, size, right = np.linalg.svd(b.T @ a / len(a))
    sign = np.diag([1, np.sign(np.linalg.det(b.T @ a))])
    rotation = left @ sign @ right
    scale = (size * np.diag(sign)).sum() / a.var(axis=0).sum()
    return np.hstack([scale * rotation, (target.mean(0) - scale * rotation @ points.mean(0))[:, None]])


def bilinear(image, matrix):
    """(112, 112, 3) float64: each pixel from the four round the place it comes from, black outside."""
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    padded = np.pad(image.astype(float), ((200, 200), (200, 200), (0, 0)))
    result = np.zeros((112, 112, 3))
    for y in range(112):
        for x in range(112):
            u, v, _ = inverse @ [x, y, 1] + [200, 200, 0]
            i, j = int(u), int(v)
            top = (i + 1 - u) * padded[j, i] + (u - i) * padded[j, i + 1]
            bottom = (i + 1 - u) * padded[j + 1, i] + (u - i) * padded[j + 1, i + 1]
            result[y, x] = (j + 1 - v) * top + (v - j) * bottom
    return result


@pytest.fixture
def folder(tmp_path):
    write_ijb(tmp_path)
    return tmp_path


def images_of(folder):
    faces = read_faces(folder, "IJBB", landmarks=True)
    return FaceImages(folder / "loose_crop", faces.names, faces.landmarks, "list.txt")


def test_alignment_is_the_scripts():
    generator = np.random.default_rng(3)
    image = cv2.GaussianBlur(photo(1, 1), (0, 0), 2)
    for _ in range(3):
        turn = generator.uniform(0.6, 1.4) * cv2.getRotationMatrix2D((0, 0), generator.uniform(-40, 40), 1)[:, :2]
        landmarks = ((SCRIPT - 56) @ turn.T + 56 + generator.normal(0, 2, (5, 2))).astype(np.float32)
        expected = bilinear(image, umeyama(landmarks.astype(float), SCRIPT))
        difference = np.abs(warp(image, landmarks) - expected)
        assert np.median(difference) < 1 and difference.max() < 8  # OpenCV places pixels to 1/32


def test_landmarks_outside_the_image_are_aligned_too():
    assert not warp(photo(1, 1), SCRIPT + 500).any()


def test_images_are_the_faces_in_rgb(folder):
    images = images_of(folder)
    assert len(images) == len(layout())
    faces = images.read(10, 20)
    assert faces.shape == (10, 112, 112, 3) and faces.dtype == np.uint8
    for face, index in zip(faces, range(10, 20), strict=True):
        drawn = photo(layout()[index][3], index).astype(float)
        inner = slice(35, 95), slice(35, 78)
        assert np.abs(face[inner] - drawn[inner]).mean() < 15
        assert np.abs(face[inner] - drawn[..., ::-1][inner]).mean() > 25
    assert np.array_equal(images.read(12, 13)[0], faces[2])


def test_digest_is_of_this_folder(folder):
    """A key for kept features: dates count, so that a file which was written again is embedded again."""
    before = images_of(folder).digest()
    os.utime(folder / "loose_crop" / "3.png", (1, 1))
    assert images_of(folder).digest() != before


def test_digest_follows_images_and_landmarks(folder):
    before = images_of(folder).digest()
    assert images_of(folder).digest() == before and len(before) == 64
    path = folder / "meta" / "ijbb_name_5pts_score.txt"
    text = path.read_text()
    path.write_text(text.replace(text.split()[1], "70.125", 1))
    moved = images_of(folder).digest()
    cv2.imwrite(str(folder / "loose_crop" / "3.png"), photo(9, 9))
    assert len({before, moved, images_of(folder).digest()}) == 3


def test_missing_images(folder):
    for name in ("7.png", "30.png"):
        (folder / "loose_crop" / name).unlink()
    with pytest.raises(ValueError, match=r"list.txt:8: 7.png is not in .*loose_crop; 2 of 48 are not"):
        images_of(folder)
    (folder / "loose_crop").rename(folder / "other")
    with pytest.raises(ValueError, match="loose_crop is not there; expected InsightFace's folder of images"):
        images_of(folder)


def test_images_that_cannot_be_used(folder):
    path = folder / "loose_crop" / "5.png"
    whole = path.read_bytes()
    images = images_of(folder)
    for content, why in ((whole[:-20], "is cut"), (b"", "no JPEG, PNG or BMP"), (b"text", "no JPEG, PNG or BMP")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"5.png cannot be used: .*{why}"):
            images.read(4, 8)
    path.write_bytes(whole)
    images.landmarks[5] = 20
    with pytest.raises(ValueError, match="5.png cannot be used: all landmarks are in one place"):
        images.read(5, 6)
    path.unlink()
    with pytest.raises(ValueError, match="5.png cannot be used: .*No such file"):
        images.read(5, 6)
