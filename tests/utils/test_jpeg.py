import struct
import zlib

import cv2
import numpy as np
import pytest

from utils import jpeg
from utils.jpeg import ImageError, check, decode, encode

HEIGHT, WIDTH = 32, 40
COARSE = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
RGB = cv2.resize(COARSE, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def encoded(suffix: str, image: np.ndarray = RGB, *parameters: int) -> bytes:
    return cv2.imencode(suffix, image if image.ndim == 2 else image[:, :, ::-1], parameters)[1].tobytes()


JPEG, PNG, BMP = encode(RGB), encoded(".png"), encoded(".bmp")
PROGRESSIVE = encoded(".jpg", RGB, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
IMAGES = {"jpeg": JPEG, "progressive": PROGRESSIVE, "png": PNG, "bmp": BMP}
FRAME, SCAN = JPEG.index(b"\xff\xc0"), JPEG.index(b"\xff\xda")
END = b"\xff\xd9"


def segment(marker: int, content: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2 if length is None else length) + content


@pytest.fixture
def refused(monkeypatch):
    """Refused before the decoder, which would allocate what a header announces, sees it."""

    def never(*_):
        raise AssertionError("the decoder was asked")

    def refused(data: bytes, words: str = ""):
        monkeypatch.setattr(cv2, "imdecode", never)
        for function in (check, decode):
            with pytest.raises(ImageError, match=words):
                function(data)
        monkeypatch.undo()

    return refused


# ----- whole images ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", [(250, 20, 40), (20, 250, 40), (20, 40, 250)])
def test_colours_stay_red_green_blue(colour):
    rgb = np.full((16, 24, 3), colour, np.uint8)
    for data in (encode(rgb), encoded(".png", rgb), encoded(".bmp", rgb)):
        image = decode(data)
        assert image.dtype == np.uint8 and image.shape == rgb.shape and image.flags.c_contiguous
        assert np.abs(image.astype(int) - rgb).max() < 6


@pytest.mark.parametrize("name", ["png", "bmp"])
def test_formats_without_loss(name):
    np.testing.assert_array_equal(decode(IMAGES[name]), RGB)


def test_quality():
    """Higher quality takes more bytes and is nearer; encoding leaves its argument alone, and copes with views."""
    before = RGB.copy()
    sizes = [len(encode(RGB, quality)) for quality in (10, 50, 95)]
    errors = [np.abs(decode(encode(RGB, quality)).astype(int) - RGB).mean() for quality in (10, 50, 95)]
    assert sizes == sorted(set(sizes)) and errors == sorted(set(errors))[::-1] and errors[-1] < 4
    assert encode(RGB[:, ::-1]) == encode(RGB[:, ::-1].copy()) and (RGB == before).all()
    assert np.abs(decode(PROGRESSIVE).astype(int) - RGB).mean() < 4


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
def test_grey_becomes_three_channels(suffix):
    image = decode(encoded(suffix, RGB[:, :, 0]))
    assert image.shape == RGB.shape and (image == image[:, :, :1]).all()
    assert np.abs(image[:, :, 0].astype(int) - RGB[:, :, 0]).max() < (20 if suffix == ".jpg" else 1)


def test_transparency_and_16_bits_are_dropped():
    rgba = np.dstack([RGB, np.zeros((HEIGHT, WIDTH, 1), np.uint8)])
    np.testing.assert_array_equal(decode(cv2.imencode(".png", rgba[:, :, [2, 1, 0, 3]])[1].tobytes()), RGB)
    np.testing.assert_array_equal(decode(encoded(".png", RGB.astype(np.uint16) * 257)), RGB)


@pytest.mark.parametrize("name", ["jpeg", "progressive", "png"])
@pytest.mark.parametrize("count", [1, 3, 1000])
def test_zeros_after_the_end_marker_are_no_damage(name, count):
    np.testing.assert_array_equal(decode(IMAGES[name] + b"\0" * count), decode(IMAGES[name]))


@pytest.mark.parametrize("count", [1, 2, 500])
def test_fill_bytes_before_a_marker(count):
    np.testing.assert_array_equal(decode(JPEG[:FRAME] + b"\xff" * count + JPEG[FRAME:]), decode(JPEG))


# ----- parts of images, and what is none ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", IMAGES)
def test_a_cut_image_is_refused(name):
    data = IMAGES[name]
    decode(encoded(".png", np.full((HEIGHT, WIDTH, 3), 200, np.uint8)))  # would show through
    for length in {*range(0, len(data), 11), *range(64), *range(len(data) - 16, len(data))}:
        for padding in (b"", b"\0" * 9):
            if name == "bmp" and padding and length > len(data) - 10:
                continue  # zeros may be the pixels that are missing
            with pytest.raises(ImageError):
                decode(data[:length] + padding)


@pytest.mark.parametrize("name", ["jpeg", "png"])
def test_a_cut_is_seen_without_decoding(refused, name):
    data = IMAGES[name]
    for length in [*range(30, len(data), 31), *range(len(data) - 12, len(data))]:
        for padding in (b"", b"\0", b"\0" * 9):
            refused(data[:length] + padding, "it is cut")


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"\0" * 99, b"GIF89a" + bytes(99), b"RIFF\0\0\0\0WEBPVP8 ", b"<svg/>", b"text" * 99]
    + [PNG[:8], PNG[:23], b"BM", BMP[:25], JPEG[1:], b"\0" + JPEG, END],
)  # fmt: skip
def test_not_an_image(refused, data):
    refused(data, f"^{len(data)} bytes .* no JPEG, PNG or BMP image")


# ----- forged headers -------------------------------------------------------------------------------------------------

SIDES = [(4097, 10), (10, 4097), (65500, 65500), (0, 10), (10, 0)]


def jpeg_frame(width: int, height: int, data: bytes = JPEG) -> bytes:
    at = data.index(b"\xff\xc2" if data is PROGRESSIVE else b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


@pytest.mark.parametrize("width, height", SIDES)
def test_sides_that_a_jpeg_announces(refused, width, height):
    for data in (jpeg_frame(width, height), jpeg_frame(width, height, PROGRESSIVE)):
        refused(data, f"image of {width} x {height} pixels")


@pytest.mark.parametrize("width, height", [*SIDES, (2**31, 2**31), (2**32 - 1, 1)])
def test_sides_that_a_png_announces(refused, width, height):
    header = b"IHDR" + struct.pack(">II", width, height) + PNG[24:29]
    refused(PNG[:12] + header + struct.pack(">I", zlib.crc32(header)) + PNG[33:], f"image of {width} x {height} pixels")


@pytest.mark.parametrize("width, height", [*SIDES, (10, -4097), (-(2**31), -(2**31)), (2**31 - 1, 1)])
def test_sides_that_a_bmp_announces(refused, width, height):
    data = BMP[:18] + struct.pack("<ii", width, height) + BMP[26:]
    refused(data, f"image of {abs(width)} x {abs(height)} pixels")


def test_the_largest_side_and_rows_from_the_top():
    assert decode(encode(np.zeros((8, jpeg.MAX_SIDE, 3), np.uint8))).shape == (8, jpeg.MAX_SIDE, 3)
    top_down = BMP[:18] + struct.pack("<ii", WIDTH, -HEIGHT) + BMP[26:]
    np.testing.assert_array_equal(decode(top_down), RGB[::-1])


@pytest.mark.parametrize("marker", [0x00, 0x01, *range(0xD0, 0xDA)])
def test_a_marker_without_a_length_hides_no_frame(refused, marker):
    """A decoder steps over it and sees the large frame; taken as a segment it would lead to the small one behind."""
    large = jpeg_frame(30000, 30000)[2:-2]
    hidden = large + bytes(struct.unpack(">H", large[:2])[0] - len(large))
    refused(b"\xff\xd8\xff%c" % marker + hidden + JPEG[FRAME:SCAN] + END, "no frame header")


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + END,
        b"\xff\xd8" + b"\xff" * 999 + END,
        JPEG[:FRAME] + END,
        JPEG[:FRAME] + JPEG[SCAN:],
        JPEG[:2] + segment(0xE0, b"", 0) + JPEG[2:],
        JPEG[:2] + segment(0xE0, b"", 1) + JPEG[2:],
        JPEG[:2] + segment(0xE0, b"", 65535) + JPEG[2:],
        JPEG[:2] + segment(0xE1, b"Exif\0\0" + JPEG, 5000),  # cut where its thumbnail ends
        *(JPEG[:2] + segment(marker, JPEG[FRAME + 4 : FRAME + 19]) + END for marker in (0xC4, 0xC8, 0xCC)),
    ],
)
def test_no_frame_header(refused, data):
    refused(data, "no frame header")


def test_a_header_cut_anywhere_with_an_end_marker():
    for length in range(2, SCAN + 12):
        with pytest.raises(ImageError):
            decode(JPEG[:length] + END)


# ----- fuzz -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", IMAGES)
def test_damage_is_an_error_or_an_image(name):
    data, draw, outcomes = IMAGES[name], np.random.default_rng(0), []
    for case in range(600):
        changed = bytearray(data)
        reach = len(data) if case % 2 else 64 if name == "bmp" else min(len(data), 640)  # half of them in the headers
        for at in draw.integers(reach, size=draw.integers(1, 5)):
            changed[at] = draw.integers(256)
        if case % 4 == 0:
            del changed[draw.integers(len(data)) :]
        if case % 8 == 0:
            changed += {"png": PNG[-12:], "bmp": b""}.get(name, END)
        try:
            image = decode(bytes(changed))
        except ImageError as error:
            outcomes.append(False)
            assert "\n" not in str(error)
        else:
            outcomes.append(True)
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and max(image.shape) <= 4096
    assert outcomes.count(False) > 50 and (outcomes.count(True) > 50 or name == "png")  # a PNG has checksums
