"""Small images of every kind that the decoder takes, and the pieces to forge others from."""

import struct
import zlib

import cv2
import numpy as np

HEIGHT, WIDTH = 16, 24
RGB = cv2.resize(np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8), (WIDTH, HEIGHT))
END = b"\xff\xd9"
PNG_START = b"\x89PNG\r\n\x1a\n"


def encoded(suffix: str, image: np.ndarray = RGB, *parameters: int) -> bytes:
    return cv2.imencode(suffix, image, parameters)[1].tobytes()


JPEG = encoded(".jpg")
PROGRESSIVE = encoded(".jpg", RGB, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
RESTARTS = encoded(".jpg", RGB, cv2.IMWRITE_JPEG_RST_INTERVAL, 1)


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def sized(data: bytes, width: int, height: int) -> bytes:
    """A JPEG whose frame header states another size."""
    at = data.index(b"\xff\xc2" if b"\xff\xc2" in data else b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def exif(orientation: int) -> bytes:
    """An Exif segment that says how the image is turned."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    return segment(0xE1, b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4))


TURNED = JPEG[:2] + exif(6) + JPEG[2:]


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int = WIDTH, height: int = HEIGHT, *, depth=8, colour=2, interlace=0, extra=b"", rows=None) -> bytes:
    """A PNG that states this, with `extra` chunks before the pixels; `rows` instead of black ones."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    rows = bytes(height * (1 + (width * channels * depth + 7) // 8)) if rows is None else rows
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))
    return PNG_START + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def animated(width: int, height: int, left: int = 0, top: int = 0, frames: int = 2) -> bytes:
    """A PNG of 24 x 16 pixels whose animation states a frame of this size and place."""
    control = chunk(b"acTL", struct.pack(">II", frames, 0))
    return png(extra=control + chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, width, height, left, top, 1, 10, 0, 0)))


def with_sums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums that their content asks for, as far as it has chunks."""
    changed, at = bytearray(data), 8
    while at + 12 <= len(data):
        end = at + 8 + struct.unpack_from(">I", data, at)[0]
        if end + 4 > len(data):
            break
        struct.pack_into(">I", changed, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(changed)


BASES = {
    "jpeg": (JPEG, PROGRESSIVE, RESTARTS, TURNED, encoded(".jpg", RGB[:, :, 0])),
    "png": (encoded(".png"), encoded(".png", RGB[:, :, 0]), png(depth=16, colour=6), png(colour=3, extra=chunk(b"PLTE",
            bytes(range(99)))), png(interlace=1), animated(WIDTH, HEIGHT)),
    "bmp": (encoded(".bmp"), encoded(".bmp", RGB[:, :, 0])),
}  # fmt: skip
