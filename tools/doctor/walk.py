"""Record files without trust in their index: a walk from magic word to magic word, an index read line by line."""

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from recognition.data.recordio import MAGIC, MAX_LENGTH

_MAGIC_BYTES, _PART = struct.pack("<I", MAGIC), struct.Struct("<II")
_LINE = re.compile(rb"^(\d{1,18})\t(\d{1,18})\r?$", re.MULTILINE)


def walk(data, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """[offset, end) of every whole record in bytes [start, stop) of a `.rec`; what is none is stepped over.

    The writer leaves out magic words at multiples of 4 bytes within a payload, so that one met there starts a part.
    Where bytes were lost or put in, records may start elsewhere: those count if another follows at once.

    Args:
        data: the whole file, as bytes or a memory map.
    """
    at = data.find(_MAGIC_BYTES, start, stop)
    while at >= 0:
        end = _record_end(data, at, stop)
        if end and at % 4 and end < stop and data[end : end + 4] != _MAGIC_BYTES:
            end = 0
        if end:
            yield at, end
        at = data.find(_MAGIC_BYTES, end or at + 1, stop)


def astray(data, offsets: np.ndarray) -> np.ndarray:
    """Which of (n,) offsets no record starts at, ascending."""
    return np.array([i for i, at in enumerate(offsets.tolist()) if data[at : at + 4] != _MAGIC_BYTES], np.int64)


def _record_end(data, at: int, stop: int) -> int:
    """Where the record that starts at `at` ends; 0 where none does."""
    first = True
    while at + _PART.size <= stop:
        magic, word = _PART.unpack_from(data, at)
        flag, length = word >> 29, word & MAX_LENGTH
        if magic != MAGIC or (flag in (0, 1)) != first or flag > 3 or at + _PART.size + length > stop:
            return 0
        at, first = min(at + _PART.size + (length + 3) // 4 * 4, stop), False
        if flag in (0, 3):
            return at
    return 0


def stored_bytes(record: bytes) -> int:
    """Bytes of the file that a record as `RecordFile.read` returns it takes, with its parts' heads and padding."""
    splits, at = 0, record.find(_MAGIC_BYTES)
    while at >= 0:
        splits += at % 4 == 0
        at = record.find(_MAGIC_BYTES, at + 1)
    return _PART.size * (splits + 1) + (len(record) + 3) // 4 * 4 - 4 * splits


def read_index(path: Path) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """(n,) int64 keys and offsets of the lines `key<TAB>offset`, and the numbers (from 1) of all other lines.

    Raises:
        OSError: the file cannot be read.
    """
    data = path.read_bytes().replace(b"\r\n", b"\n")
    data = data if data.endswith(b"\n") or not data else data + b"\n"
    if data.translate(None, b"0123456789") == b"\t\n" * data.count(b"\n"):
        table = np.fromstring(data, dtype=np.int64, sep=" ")
        if len(table) == 2 * data.count(b"\n"):
            return table[0::2].copy(), table[1::2].copy(), []
    lines = data.split(b"\n")[:-1]
    matches = [_LINE.match(line) for line in lines]
    table = np.array([match.groups() for match in matches if match], dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1], [number for number, match in enumerate(matches, 1) if not match]
