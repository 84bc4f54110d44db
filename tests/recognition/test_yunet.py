"""YuNet's rows against OpenCV's own use of them, and the detector on a network that finds a coloured square."""

import cv2
import numpy as np
import pytest

from recognition import FaceEncoder
from recognition.data.synthetic import draw
from recognition.yunet import YuNet, landmarks, largest
from tests.onnx_files import pooled, yunet
from utils.align import TEMPLATE, AlignError, align, similarity

COLOUR = np.array([7, 5, 3])  # R, G, B of the square that the network takes for a face


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return yunet(tmp_path_factory.mktemp("yunet") / "yunet.onnx")


def test_a_drawn_face_is_aligned_as_opencvs_own_recogniser_aligns_it(tmp_path):
    """FaceRecognizerSF.alignCrop takes YuNet's row to ArcFace's template; the network in it is of no account."""
    recogniser = cv2.FaceRecognizerSF.create(str(pooled(tmp_path / "any.onnx", batch=1)), "")
    turn = cv2.getRotationMatrix2D((56, 56), 20, 1.5) + [[0, 0, 40], [0, 0, 60]]
    photo = cv2.warpAffine(draw(0, 3, 1, low_quality=False), turn, (220, 240))
    points = TEMPLATE @ turn[:, :2].T + turn[:, 2]
    row = np.concatenate([[30, 30, 150, 180], points.ravel(), [0.9]])
    ours = align(photo, landmarks(row)).astype(int)
    theirs = recogniser.alignCrop(photo, row.astype(np.float32)[None]).astype(int)
    assert np.abs(ours - theirs).mean() < 1
    swapped = landmarks(row)[[1, 0, 2, 4, 3]]
    with pytest.raises(AlignError, match="mirrored"):  # the classic mistake
        align(photo, swapped)
    mistaken = cv2.warpAffine(photo, similarity(swapped, TEMPLATE), (112, 112)).astype(int)
    assert np.abs(mistaken - theirs).mean() > 20  # so the comparison sees it


def test_right_is_the_persons():
    row = np.arange(15.0)
    assert np.array_equal(landmarks(row), [[4, 5], [6, 7], [8, 9], [10, 11], [12, 13]])


def test_the_largest_box_is_taken():
    rows = np.zeros((3, 15))
    rows[:, 2:4] = [[10, 10], [9, 20], [40, 1]]
    assert np.array_equal(largest(rows), rows[1])


@pytest.mark.parametrize("scale", [1, 2])
def test_landmarks_are_in_pixels_of_the_photo(network, scale):
    photo = np.zeros((640 // 4 * scale, 640 * scale, 3), np.uint8)
    left, top = 48, 64
    photo[top * scale : (top + 8) * scale, left * scale : (left + 8) * scale] = COLOUR
    red, green, blue = COLOUR
    offsets = np.array([blue, green, red] * 3 + [COLOUR.mean()])
    expected = (np.tile([left, top], 5) + 8 * offsets).reshape(5, 2) * scale
    assert np.allclose(YuNet(network)(photo), expected)


def test_photos_without_a_face_and_of_any_size(network):
    detector = YuNet(network)
    for shape in ((1, 1, 3), (33, 500, 3), (900, 30, 3)):
        assert detector(np.zeros(shape, np.uint8)) is None


def test_an_encoder_uses_it_in_its_threads(network, tmp_path):
    path = pooled(tmp_path / "m.onnx", channels="rgb", mean="127.5", std="127.5")
    encoder = FaceEncoder.open(path, detector=YuNet(network), batch_size=5)
    photos = np.zeros((24, 96, 128, 3), np.uint8)
    for index, photo in enumerate(photos):
        photo[16:24, 8 + 8 * (index % 3) :][:, :8] = COLOUR
    photos[20] = 0
    u, z, bad = encoder.encode_usable(photos)
    assert list(bad) == [20] and "no face" in bad[20].problem
    expected, _ = encoder.encode([align(photo, YuNet(network)(photo)) for photo in photos[:3]])
    assert np.allclose(u[[0, 1, 2, 21, 22, 23]], np.tile(expected, (2, 1)), atol=1e-6)


def test_files_that_are_no_yunet(tmp_path):
    with pytest.raises(ValueError, match="does not exist; expected YuNet"):
        YuNet(tmp_path / "none.onnx")
    (tmp_path / "junk.onnx").write_bytes(b"junk" * 50)
    with pytest.raises(ValueError, match=r"junk.onnx cannot be used \(.*expected YuNet"):
        YuNet(tmp_path / "junk.onnx")
    with pytest.raises(ValueError, match=r"any.onnx cannot be used \(.*expected YuNet"):
        YuNet(pooled(tmp_path / "any.onnx"))  # another network
    with pytest.raises(ValueError, match="score 0"):
        YuNet(pooled(tmp_path / "any.onnx"), score=0)
