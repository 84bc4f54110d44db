import hashlib

import cv2
import numpy as np
import pytest

from eval.embed import fit
from eval.image_files import ImageFiles, alignment_note, find_landmarks, list_images
from tests.faces import photo
from utils.align import TEMPLATE, align


def write(path, rgb):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.ascontiguousarray(rgb[:, :, ::-1]))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "a.png", photo(0, 0))
    write(tmp_path / "deep/b.png", cv2.resize(photo(1, 0), (20, 20)))
    write(tmp_path / "deep/c.PNG", cv2.resize(photo(2, 0), (30, 40)))
    return tmp_path


def test_lists_images_of_folders_in_name_order(folder):
    write(folder / ".hidden/d.png", photo(0, 0))
    (folder / "._a.jpg").write_text("made by another system")
    (folder / "readme.txt").write_text("text")
    assert list_images(folder) == ["a.png", "deep/b.png", "deep/c.PNG"]


def test_reads_aligned_images_as_they_are(folder):
    images = ImageFiles(folder, list_images(folder))
    assert len(images) == 3
    expected = [photo(0, 0), fit(cv2.resize(photo(1, 0), (20, 20))), fit(cv2.resize(photo(2, 0), (30, 40)))]
    assert np.array_equal(images.read(0, 3), expected) and np.array_equal(images.read(1, 2), expected[1:2])


def test_landmarks_align(folder):
    points = TEMPLATE * 0.3 + 2
    numbers = " ".join(map(str, points.ravel()))
    (folder / "landmarks.txt").write_text(f"path x y\ndeep/c.PNG {numbers}\n")
    names = list_images(folder)
    landmarks = find_landmarks(folder, names)
    assert landmarks.shape == (3, 5, 2) and landmarks.dtype == np.float32
    images = ImageFiles(folder, names, landmarks)
    expected = align(cv2.resize(photo(2, 0), (30, 40)), points.astype(np.float32))
    assert np.array_equal(images.read(2, 3)[0], expected) and np.array_equal(images.read(0, 1)[0], photo(0, 0))
    assert alignment_note(images) == () and find_landmarks(folder / "deep", names) is None


def test_images_that_are_not_aligned_are_said(folder):
    (note,) = alignment_note(ImageFiles(folder, list_images(folder)))
    assert note.startswith("1 of 3 images are not square and not in landmarks.txt")


def test_the_digest_is_that_of_names_contents_and_landmarks(folder):
    names = list_images(folder)
    first = ImageFiles(folder, names).digest()
    assert len(bytes.fromhex(first)) == hashlib.sha256().digest_size
    assert ImageFiles(str(folder), tuple(names)).digest() == first
    landmarks = np.zeros((3, 5, 2), np.float32)
    digests = {first, ImageFiles(folder, names[::-1]).digest(), ImageFiles(folder, names, landmarks).digest()}
    write(folder / "a.png", photo(0, 1))
    digests.add(ImageFiles(folder, names).digest())
    (folder / "a.png").rename(folder / "z.png")
    digests.add(ImageFiles(folder, ["z.png", *names[1:]]).digest())
    assert len(digests) == 5


def test_damaged_images_are_named(folder):
    whole = (folder / "deep/b.png").read_bytes()
    for data in (whole[:-20], b"", b"text"):
        (folder / "deep/b.png").write_bytes(data)
        images = ImageFiles(folder, list_images(folder))
        for use in (images.digest, lambda images=images: images.read(0, 3)):
            with pytest.raises(ValueError, match=r"deep/b\.png cannot be used"):
                use()


def test_damage_that_only_decoding_sees_is_named(folder):
    data = bytearray((folder / "a.png").read_bytes())
    data[60:200] = bytes(140)
    (folder / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.png cannot be used"):
        ImageFiles(folder, ["a.png"]).read(0, 1)


def test_an_image_that_is_gone_is_named(folder):
    images = ImageFiles(folder, list_images(folder))
    (folder / "a.png").unlink()
    with pytest.raises(ValueError, match=r"a\.png cannot be used \(No such file"):
        images.read(0, 1)


def test_landmarks_of_another_image_are_named(folder):
    landmarks = np.full((3, 5, 2), np.nan, np.float32)
    landmarks[1] = TEMPLATE + 500
    with pytest.raises(ValueError, match=r"deep/b\.png cannot be used \(landmarks round"):
        ImageFiles(folder, list_images(folder), landmarks).read(0, 3)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("absent.png 1 2 3 4 5 6 7 8 9 10", r"landmarks\.txt: line 3: absent\.png is not below"),
        ("a.png 1 2 3", r"landmarks\.txt: line 3: expected path"),
    ],
)
def test_bad_landmark_lists(folder, line, words):
    (folder / "landmarks.txt").write_text(f"path x y\ndeep/b.png 1 2 3 4 5 6 7 8 9 10\n{line}\n")
    with pytest.raises(ValueError, match=words):
        find_landmarks(folder, list_images(folder))
