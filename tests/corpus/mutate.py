"""Damage to bytes, drawn from nothing but a random generator, so that a number replays it."""

import random
import re
import struct
from collections.abc import Callable

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 4096, 4097, (1 << 29) - 1, 1 << 29, 0x7FFFFFFF, 0x80000000)
_EXTREMES += (0xFFFFFFFF, 0xFFFFFFFE, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
_WORDS = (b"", b"0", b"-1", b"nan", b"inf", b"1e999", b"1.5", b"2147483648", b"9223372036854775807", b"1" * 30, b"\t")
_WORDS += (b"18446744073709551616", b"\n", b"\r\n", b"\0", b"\xff", "²".encode(), "\u2028".encode(), b"0x10", b"1_0")
_NUMBER = re.compile(rb"[0-9]+")
Change = Callable[[random.Random, bytes, bytes], bytes]


def _stretch(draw: random.Random, data: bytes) -> tuple[int, int]:
    """Start and end of a short stretch, sometimes of a long one."""
    start = draw.randrange(len(data))
    return start, min(len(data), start + (draw.randrange(1, 17) if draw.random() < 0.8 else draw.randrange(1, 4096)))


def flip(draw: random.Random, data: bytes, _: bytes) -> bytes:
    changed = bytearray(data)
    for _bit in range(draw.randrange(1, 5)):
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def put(draw: random.Random, data: bytes, _: bytes) -> bytes:
    changed = bytearray(data)
    for _byte in range(draw.randrange(1, 5)):
        changed[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(changed)


def cut(draw: random.Random, data: bytes, _: bytes) -> bytes:
    return data[: draw.randrange(len(data))]


def cut_front(draw: random.Random, data: bytes, _: bytes) -> bytes:
    return data[_stretch(draw, data)[0] :]


def insert(draw: random.Random, data: bytes, _: bytes) -> bytes:
    at = draw.randrange(len(data) + 1)
    return data[:at] + draw.randbytes(draw.randrange(1, 9)) + data[at:]


def double(draw: random.Random, data: bytes, _: bytes) -> bytes:
    start, end = _stretch(draw, data)
    return data[:end] + data[start:end] * draw.randrange(1, 4) + data[end:]


def delete(draw: random.Random, data: bytes, _: bytes) -> bytes:
    start, end = _stretch(draw, data)
    return data[:start] + data[end:]


def fill(draw: random.Random, data: bytes, _: bytes) -> bytes:
    start, end = _stretch(draw, data)
    return data[:start] + draw.choice((b"\0", b"\xff")) * (end - start) + data[end:]


def move(draw: random.Random, data: bytes, _: bytes) -> bytes:
    start, end = _stretch(draw, data)
    at = draw.randrange(len(data))
    return data[:at] + data[start:end] + data[at + end - start :]


def extreme(draw: random.Random, data: bytes, _: bytes) -> bytes:
    code, width = draw.choice((("B", 1), ("H", 2), ("I", 4), ("Q", 8)))
    value = draw.choice(_EXTREMES) & ((1 << 8 * width) - 1)
    at = draw.randrange(len(data))
    at -= at % 4 if draw.random() < 0.5 else 0
    return data[:at] + struct.pack(draw.choice("<>") + code, value) + data[at + width :]


def splice(draw: random.Random, data: bytes, other: bytes) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + other[at if draw.random() < 0.5 else draw.randrange(len(other)) :]


def word(draw: random.Random, data: bytes, _: bytes) -> bytes:
    """A number in a text becomes another one, or none."""
    numbers = list(_NUMBER.finditer(data))
    if not numbers:
        return data + draw.choice(_WORDS)
    found = draw.choice(numbers)
    return data[: found.start()] + draw.choice(_WORDS) + data[found.end() :]


KINDS: tuple[Change, ...] = (flip, put, cut, cut_front, insert, double, delete, fill, move, extreme, extreme, splice)


def mutated(draw: random.Random, data: bytes, other: bytes, is_text: bool) -> tuple[str, bytes]:
    """One change, or up to three; their names and what comes out."""
    kinds, names = KINDS + (word,) * 4 * is_text, []
    for _ in range(1 if draw.random() < 0.7 else draw.randrange(2, 4)):
        kind = draw.choice(kinds)
        data = kind(draw, data, other) if data else data
        names.append(kind.__name__)
    return "+".join(names), data
