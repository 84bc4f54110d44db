"""Images made to hurt a decoder: forged sizes, tables and scans, files that unfold, frames beyond the image."""

import struct
import zlib

import pytest

from tests.corpus import sandbox
from tests.corpus.images import (
    BASES,
    END,
    HEIGHT,
    JPEG,
    PROGRESSIVE,
    RESTARTS,
    WIDTH,
    animated,
    chunk,
    exif,
    png,
    segment,
    sized,
)

FRAME, SCAN, TABLE = JPEG.index(b"\xff\xc0"), JPEG.index(b"\xff\xda"), JPEG.index(b"\xff\xc4")
LAST_SCAN = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2]
BMP = BASES["bmp"][0]
MANY = chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes([97]) * (7 << 20), 9))  # 7 MiB in 7 KiB, kept by libpng


def put(data: bytes, at: int, instead: bytes) -> bytes:
    return data[:at] + instead + data[at + len(instead) :]


def bmp(at: int, value: int) -> bytes:
    return put(BMP, at, struct.pack("<I", value & 0xFFFFFFFF))


READ, REFUSED = "", "cannot be decoded|is damaged"
CASES = {
    # --- JPEG: what the frame states
    "jpeg 65535 x 65535": (sized(JPEG, 65535, 65535), "65535 x 65535 pixels"),
    "jpeg 4096 x 4096 without pixels": (sized(JPEG, 4096, 4096), REFUSED),
    "jpeg progressive 4096 x 4096": (sized(PROGRESSIVE, 4096, 4096), REFUSED),
    "jpeg 600 scans": (sized(PROGRESSIVE, 4096, 4096)[:-2] + LAST_SCAN * 600 + END, "scans"),
    "jpeg arithmetic": (put(JPEG, FRAME + 1, b"\xc9"), None),
    "jpeg lossless": (put(JPEG, FRAME + 1, b"\xc3"), REFUSED),
    "jpeg hierarchical": (put(JPEG, FRAME + 1, b"\xc5"), REFUSED),
    "jpeg of 12 bits": (put(JPEG, FRAME + 4, b"\x0c"), REFUSED),
    "jpeg of 0 bits": (put(JPEG, FRAME + 4, b"\0"), REFUSED),
    "jpeg of 0 components": (put(JPEG, FRAME + 9, b"\0"), REFUSED),
    "jpeg of 255 components": (put(JPEG, FRAME + 9, b"\xff"), REFUSED),
    "jpeg sampled 0 x 0": (put(JPEG, FRAME + 11, b"\0"), REFUSED),
    "jpeg sampled 15 x 15": (put(JPEG, FRAME + 11, b"\xff"), REFUSED),
    "jpeg with quantisation table 255": (put(JPEG, FRAME + 12, b"\xff"), REFUSED),
    "jpeg with two frames": (JPEG[:SCAN] + JPEG[FRAME : FRAME + 19] + JPEG[SCAN:], REFUSED),
    "jpeg with a larger second frame": (JPEG[:SCAN] + sized(JPEG, 4096, 4096)[FRAME : FRAME + 19] + JPEG[SCAN:],
                                        REFUSED),
    "jpeg with two starts": (JPEG[:2] + JPEG, None),
    # --- JPEG: its tables
    "jpeg without huffman tables": (JPEG[:TABLE] + JPEG[SCAN:], None),
    "jpeg huffman table of 4080 codes": (put(JPEG, TABLE + 5, b"\xff" * 16), REFUSED),
    "jpeg huffman table of 256 codes of one bit": (put(JPEG, TABLE + 5, b"\xff" + bytes(15)), REFUSED),
    "jpeg huffman table 255": (put(JPEG, TABLE + 4, b"\xff"), REFUSED),
    "jpeg quantised by zeros": (JPEG[:2] + segment(0xDB, bytes(65)) + JPEG[2:], None),
    "jpeg quantisation table of 16 bits, cut": (JPEG[:2] + segment(0xDB, b"\x10" + bytes(64)) + JPEG[2:], REFUSED),
    "jpeg scan of 255 components": (put(JPEG, SCAN + 4, b"\xff"), REFUSED),
    "jpeg scan of an unknown component": (put(JPEG, SCAN + 5, b"\x63"), REFUSED),
    "jpeg scan with huffman tables 15": (put(JPEG, SCAN + 6, b"\xff"), REFUSED),
    "jpeg that restarts at once": (JPEG[:SCAN] + segment(0xDD, b"\0\1") + JPEG[SCAN:], None),
    "jpeg with restarts in wrong order": (RESTARTS.replace(b"\xff\xd1", b"\xff\xd6"), None),
    # --- JPEG: beside the picture
    "jpeg exif that leads outside": (JPEG[:2] + segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff") + JPEG[2:], READ),
    "jpeg exif that leads to itself": (JPEG[:2] + segment(0xE1, b"Exif\0\0MM\0*\0\0\0\0\xff\xff") + JPEG[2:], READ),
    "jpeg exif of 65535 entries": (JPEG[:2] + segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(60000))
                                   + JPEG[2:], READ),
    "jpeg turned in no known way": (JPEG[:2] + exif(99) + JPEG[2:], READ),
    "jpeg colour profile in 255 parts": (JPEG[:2] + segment(0xE2, b"ICC_PROFILE\0\1\xff" + bytes(99)) + JPEG[2:],
                                     REFUSED),
    "jpeg followed by another": (JPEG + sized(JPEG, 65535, 65535), READ),
    # --- PNG
    "png 4096 x 4096 of 64 bits": (png(4096, 4096, depth=16, colour=6), READ),
    "png whose pixels do not end": (png(rows=bytes(60 << 20)), READ),
    "png whose pixels end early": (png(rows=bytes(40)), REFUSED),
    "png text that unfolds": (png(extra=MANY * 20), READ),
    "png colour profile that unfolds": (png(extra=chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(60 << 20), 9))), READ),
    "png of 3 bits": (png(depth=3), REFUSED),
    "png of 32 bits": (png(depth=32, rows=b""), REFUSED),
    "png without palette": (png(colour=3), REFUSED),
    "png palette of 1000 colours": (png(colour=3, extra=chunk(b"PLTE", bytes(3000))), None),
    "png pixels outside the palette": (png(colour=3, extra=chunk(b"PLTE", bytes(3)), rows=b"\0" + b"\xff" * 24), None),
    "png chunk of 2 GiB": (png(extra=b"\x7f\xff\xff\xfftEXt" + bytes(9)), REFUSED),
    "png chunk of 4 GiB": (png(extra=b"\xff\xff\xff\xfftEXt" + bytes(9)), REFUSED),
    "png with two headers": (png(extra=png()[8:33]), REFUSED),
    "png of 100,000 empty chunks": (png(extra=chunk(b"abCd", b"") * 100_000), READ),
    "png without pixels": (png()[:33] + png()[-12:], REFUSED),
    "png animation, larger": (animated(4096, 4096), READ),
    "png animation, huge": (animated(2**31 - 1, 2**31 - 1), READ),
    "png animation, outside": (animated(WIDTH, HEIGHT, 2**31 - 1, 2**31 - 1), READ),
    "png animation of 2^32 - 1 frames": (animated(WIDTH, HEIGHT, frames=2**32 - 1), None),
    # --- BMP
    "bmp pixels beyond the end": (bmp(10, 1 << 30), REFUSED),
    "bmp pixels before the start": (bmp(10, -1), REFUSED),
    "bmp header of 0 bytes": (bmp(14, 0), REFUSED),
    "bmp header of 2 GiB": (bmp(14, (1 << 31) - 1), None),
    "bmp header of OS/2": (bmp(14, 12), None),
    "bmp of 0 bits": (put(BMP, 28, b"\0\0"), REFUSED),
    "bmp of 64 bits": (put(BMP, 28, b"\x40\0"), REFUSED),
    "bmp of 2^31 colours": (put(bmp(46, 1 << 31), 28, b"\x08\0"), REFUSED),
    "bmp run lengths that do not end": (put(put(BMP, 28, b"\x08\0"), 30, b"\1") + b"\xff\xff" * 99, None),
    "bmp 4096 x 4096 without pixels": (put(BMP, 18, struct.pack("<ii", 4096, 4096)), REFUSED),
}  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What became of each, read in one process (or several, if it crashes)."""
    contents = {f"{number:03d}": data for number, (data, _) in enumerate(CASES.values())}
    read = sandbox.files("jpeg", tmp_path_factory.mktemp("images"), contents, 60)
    return dict(zip(CASES, (read[name] for name in sorted(contents)), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_forged(outcomes, name):
    """Refused with these words, or read (""), or one of them (None); never slow, large or otherwise."""
    expected, outcome = CASES[name][1], outcomes[name]
    assert "refused" in outcome, outcome
    assert outcome["seconds"] < 5 and outcome["mib"] < 700, outcome
    message = outcome["refused"]
    if expected is not None:
        assert (message == "") if expected == READ else any(word in message for word in expected.split("|")), message


def test_inverted_colours_of_print(tmp_path):
    """CMYK, which printing presses want, is read as RGB; nothing of it fails."""
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "print.jpg"
    image.new("CMYK", (WIDTH, HEIGHT), (0, 255, 255, 0)).save(path)
    outcome = sandbox.files("jpeg", tmp_path / "cmyk", {"cmyk": path.read_bytes()}, 60)["cmyk"]
    assert outcome["refused"] == ""
