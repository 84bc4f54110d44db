"""Real faces through our decoder, OpenCV's and Pillow's: the same pixels, and what only ours refuses."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from recognition.data.sources import open_source
from utils.jpeg import ImageError, check, decode


def by_opencv(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def assert_alike(data: bytes) -> np.ndarray:
    ours = decode(data)
    assert ours.dtype == np.uint8 and ours.flags.c_contiguous and ours.flags.writeable
    np.testing.assert_array_equal(ours, by_opencv(data))
    np.testing.assert_array_equal(ours, by_pillow(data))
    return ours


@pytest.fixture(scope="module")
def faces(shared_data) -> list[bytes]:
    """60 of the real faces, as they are stored."""
    source = open_source(shared_data / "celeba_test")
    return [source[index][0] for index in range(0, len(source), len(source) // 60)][:60]


def test_faces_as_they_are_stored(faces):
    for data in faces:
        assert assert_alike(data).shape == (112, 112, 3)


WAYS = {
    "4:4:4": dict(subsampling=0, quality=95),
    "4:2:2": dict(subsampling=1, quality=90),
    "4:2:0": dict(subsampling=2, quality=75),
    "low quality": dict(quality=5),
    "best quality": dict(quality=100, subsampling=0),
    "progressive": dict(progressive=True),
    "progressive 4:4:4": dict(progressive=True, subsampling=0),
    "own Huffman tables": dict(optimize=True),
    "restart markers": dict(restart_marker_blocks=3),
    "RGB components": dict(keep_rgb=True),
    "with a profile": dict(icc_profile=b"\0" * 3000),
    "with a comment": dict(comment=b"\xff\xd8\xff\xc0 no frame"),
}


COLOURS = [way for way in WAYS if "4:" in way or "RGB" in way]  # ways that grey images do not have


@pytest.mark.parametrize(
    "way, mode", [(way, mode) for way in WAYS for mode in ("RGB", "L") if mode == "RGB" or way not in COLOURS]
)
def test_ways_to_store_a_face(faces, way, mode):
    for data in faces[:12]:
        stored = io.BytesIO()
        Image.open(io.BytesIO(data)).convert(mode).save(stored, "JPEG", **WAYS[way])
        image = assert_alike(stored.getvalue())
        assert mode == "RGB" or (image == image[:, :, :1]).all()
        if way == "4:4:4":
            np.testing.assert_allclose(image.astype(int), by_opencv(data), atol=40)


@pytest.mark.parametrize("width, height", [(1, 1), (7, 3), (8, 8), (9, 17), (111, 113), (640, 480)])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_sides_that_fill_no_block(faces, width, height, subsampling):
    stored = io.BytesIO()
    Image.open(io.BytesIO(faces[0])).resize((width, height)).save(stored, "JPEG", subsampling=subsampling)
    assert assert_alike(stored.getvalue()).shape == (height, width, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("progressive", [False, True])
def test_an_exif_orientation_is_applied(faces, orientation, progressive):
    """As OpenCV and Pillow's exif_transpose apply it: photos of phones lie on their side."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright, turned = io.BytesIO(), io.BytesIO()
    face = Image.open(io.BytesIO(faces[1])).crop((10, 0, 100, 112))
    face.save(upright, "JPEG", progressive=progressive)
    face.save(turned, "JPEG", progressive=progressive, exif=exif)
    image = assert_alike(turned.getvalue())
    assert image.shape == ((112, 90, 3) if orientation < 5 else (90, 112, 3))
    same = image.shape == (112, 90, 3) and (image == decode(upright.getvalue())).all()
    assert same == (orientation == 1)
    assert check(turned.getvalue()) == (90, 112)


@pytest.mark.parametrize("suffix", ["PNG", "BMP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_formats_without_loss(faces, suffix, mode):
    for data in faces[:6]:
        stored = io.BytesIO()
        Image.open(io.BytesIO(data)).convert(mode).save(stored, suffix)
        assert_alike(stored.getvalue())


def scan_of(data: bytes) -> int:
    """Where the entropy-coded data begins."""
    at = data.index(b"\xff\xda")
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


@pytest.mark.parametrize("exif", [False, True])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_scan_that_ends_early_is_refused_where_opencv_shows_grey(faces, progressive, exif):
    """A progressive JPEG is cut within its first scan: one that lacks whole scans is another, coarser JPEG."""
    shown, words = 0, Image.Exif()
    words[0x0112] = 6
    for data in faces[:10]:
        stored = io.BytesIO()
        Image.open(io.BytesIO(data)).save(stored, "JPEG", progressive=progressive, exif=words if exif else b"")
        data = stored.getvalue()
        scan = scan_of(data)
        end = data.index(b"\xff\xc4", scan) if progressive else len(data)
        for length in range(scan + 20, end - 20, (end - scan) // 12):
            cut = data[:length].removesuffix(b"\xff") + b"\xff\xd9"
            image = cv2.imdecode(np.frombuffer(cut, np.uint8), cv2.IMREAD_COLOR)
            shown += image is not None and image.shape == (112, 112, 3)
            with pytest.raises(ImageError, match=f"JPEG of {len(cut)} bytes is damaged: "):
                decode(cut)
    assert shown > 100  # OpenCV has a picture of each


def test_bits_that_turn_are_refused_or_alike(faces):
    """What no decoder can see is shown as the others show it; a good part is seen."""
    draw, refused, shown_by_opencv = np.random.default_rng(0), 0, 0
    for data in faces[:40]:
        scan = scan_of(data)
        for _ in range(5):
            changed = bytearray(data)
            changed[draw.integers(scan, len(data) - 2)] ^= 1 << int(draw.integers(8))
            image = cv2.imdecode(np.frombuffer(changed, np.uint8), cv2.IMREAD_COLOR_RGB)
            try:
                ours = decode(bytes(changed))
            except ImageError:
                refused += 1
                shown_by_opencv += image is not None
            else:
                np.testing.assert_array_equal(ours, image)
    assert 20 < shown_by_opencv <= refused < 190
