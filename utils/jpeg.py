"""Encoded images: checked, then decoded to RGB; the only place where OpenCV's BGR is turned round on the way in.

JPEGs go through simplejpeg: as fast as OpenCV and bit-equal to it and to Pillow, but it refuses entropy-coded data that
libjpeg only warns of, where the others return a picture that is grey or shifted from there on. A JPEG that is cut is
refused before it reaches a decoder: OpenCV 4.10 fills what is missing with the previous image's pixels.
"""

import struct

import cv2
import numpy as np
import simplejpeg

MAX_SIDE = 4096  # of faces
MAX_PHOTO_SIDE = 16_384  # of photos that faces are aligned from: 805 MB when decoded
MAX_SCANS = 100  # of a progressive JPEG; libjpeg writes 10
_PNG, _BMP = b"\x89PNG\r\n\x1a\n", b"BM"
_SEGMENT, _FRAME = struct.Struct(">BBH"), struct.Struct(">HHB")
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = {0x00, 0x01, *range(0xD0, 0xDA)}  # decoders step over these: taking a length hides the frame they see


class ImageError(ValueError):
    """Bytes that are no image, or only a part of one."""


def check(data: bytes, largest: int = MAX_SIDE) -> tuple[int, int]:
    """Width and height; refuses what is not a whole JPEG, PNG or BMP of at most `largest` pixels on each side.

    Raises:
        ImageError: says what is wrong.
    """
    return _header(data, largest)[:2]


def _header(data: bytes, largest: int) -> tuple[int, int, bool, bool]:
    """Width, height, whether simplejpeg can take it, a grey or colour JPEG, and whether Exif data may turn it."""
    plain = turned = False
    if data[:2] == b"\xff\xd8":
        if data[-2:] != b"\xff\xd9" != data.rstrip(b"\0")[-2:]:
            raise ImageError(f"JPEG of {len(data)} bytes has no end marker: it is cut")
        width, height, plain, turned = _jpeg_header(data)
    elif data[:8] == _PNG and len(data) >= 24:
        if data.rstrip(b"\0")[-8:-4] != b"IEND":
            raise ImageError(f"PNG of {len(data)} bytes has no end chunk: it is cut")
        if data[12:16] != b"IHDR":
            raise ImageError(f"PNG of {len(data)} bytes has no header chunk")
        width, height = struct.unpack(">II", data[16:24])
    elif data[:2] == _BMP and len(data) >= 26:
        width, height = (abs(side) for side in struct.unpack("<ii", data[18:26]))
    else:
        raise ImageError(f"{len(data)} bytes that start with {bytes(data[:4])!r} are no JPEG, PNG or BMP image")
    if not (0 < width <= largest and 0 < height <= largest):
        raise ImageError(f"image of {width} x {height} pixels: expected 1 to {largest} on each side")
    return width, height, plain, turned


def _jpeg_header(data: bytes) -> tuple[int, int, bool, bool]:
    """Width and height from the start-of-frame segment (ITU T.81, B.2.2), one or three components, Exif data."""
    at, last, turned = 2, len(data) - 10, False
    while at <= last:
        start, marker, length = _SEGMENT.unpack_from(data, at)
        if start != 0xFF:
            break
        if marker in _FRAMES:
            height, width, components = _FRAME.unpack_from(data, at + 5)
            if marker > 0xC1 and data.count(b"\xff\xda") > MAX_SCANS:
                raise ImageError(
                    f"JPEG of {len(data)} bytes has more than {MAX_SCANS} scans: each takes as long as one image"
                )
            return width, height, components in (1, 3), turned
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _WITHOUT_LENGTH:
            break
        else:
            turned = turned or (marker == 0xE1 and data[at + 4 : at + 8] == b"Exif")
            at += 2 + length
    raise ImageError(f"JPEG of {len(data)} bytes has no frame header")


def _plain_png(data: bytes) -> bytes:
    """The chunks that make the picture: texts and profiles unfold to gigabytes, animations crash OpenCV 4.11."""
    at, kept = 8, [data[:8]]
    while at + 12 <= len(data):
        end = at + 12 + struct.unpack(">I", data[at : at + 4])[0]
        if data[at + 4 : at + 8] in (b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND"):
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def decode(data: bytes, largest: int = MAX_SIDE) -> np.ndarray:
    """Encoded image -> (H, W, 3) uint8 RGB; grey images become RGB, an Exif orientation is applied.

    Raises:
        ImageError: not an image, cut, damaged, or too large.
    """
    _, _, plain, turned = _header(data, largest)
    if plain:
        try:
            image = simplejpeg.decode_jpeg(data, "RGB", strict=True)
        except ValueError as error:
            raise ImageError(f"JPEG of {len(data)} bytes is damaged: {error}") from None
        if not turned:
            return image  # else OpenCV knows what Exif says: decoded twice, which faces that are aligned need not be
    data = _plain_png(data) if data[:8] == _PNG else data
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise ImageError(f"image of {len(data)} bytes cannot be decoded: {error.err}") from None
    if image is None:
        raise ImageError(f"image of {len(data)} bytes cannot be decoded")
    return image


def encode(rgb: np.ndarray, quality: int = 95) -> bytes:
    """(H, W, 3) uint8 RGB -> JPEG bytes; the colours at half the resolution, as usual."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), quality, "RGB", "420", fastdct=False)


def compressed(rgb: np.ndarray, quality: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> the same after JPEG compression."""
    return simplejpeg.decode_jpeg(encode(rgb, quality), "RGB")
