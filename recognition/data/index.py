"""The `.idx` of a record file, `key<TAB>offset` per record, at the size of the largest sets: 10 million entries.

InsightFace and im2rec number their records without a gap, in whatever order; then the offsets lie at their keys and the
keys need no memory. Other files get both columns, sorted by key.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

_CHUNK = 1 << 22  # bytes parsed at a time
_DIGITS = b"0123456789"
_LARGEST = np.iinfo(np.int64).max  # stands for every number that is larger still


class RecordError(ValueError):
    """A record file or index that is missing, damaged, or not the other's."""


class StorageError(RecordError):
    """Data that cannot be had now, as a network is down or a disk full: no damage, and another time it may be there."""


def read_index(path: Path) -> tuple[range | np.ndarray, np.ndarray]:
    """Keys, ascending, as a range or an int64 array (n,), and their int64 offsets (n,) in bytes.

    Equal keys are kept, in the file's order.

    Raises:
        RecordError: the file cannot be read, is empty, or has a line that is not `key<TAB>offset`.
    """
    try:
        lines = _count_lines(path)
        offsets = np.full(lines + 1, -1, np.int64)  # a set of n records starts at key 0 or 1
        for table in _tables(path):
            if table[:, 0].max() > lines:
                break
            offsets[table[:, 0]] = table[:, 1]
        first = int(offsets[0] < 0)
        if offsets[first : first + lines].min() >= 0:
            return range(first, first + lines), offsets[first : first + lines]
        del offsets
        return _sorted(path, lines)
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror or error}") from None


def _sorted(path: Path, lines: int) -> tuple[np.ndarray, np.ndarray]:
    table = np.empty((lines, 2), np.int64)
    start = 0
    for part in _tables(path):
        table[start : start + len(part)] = part
        start += len(part)
    table = table[np.argsort(table[:, 0], kind="stable")]
    return table[:, 0].copy(), table[:, 1].copy()


def _count_lines(path: Path) -> int:
    count, last, empty = 0, b"", True
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            count, last, empty = count + block.count(b"\n"), block, empty and block.isspace()
    if empty:
        raise RecordError(f"{path} is empty")
    return count + (not last.endswith(b"\n"))


def _tables(path: Path) -> Iterator[np.ndarray]:
    """(k, 2) int64 keys and offsets, a chunk of lines at a time."""
    with path.open("rb") as file:
        line, rest = 1, file.read(4)
        if rest == b"\x0a\x23\xd7\xce":  # the records' magic word
            raise RecordError(f"{path} holds records, not an index: are .rec and .idx swapped?")
        while block := file.read(_CHUNK):
            block = rest + block
            end = block.rfind(b"\n") + 1
            if not end and len(block) >= _CHUNK:
                raise RecordError(f"{path}: line {line}: expected key<TAB>offset")
            if end:
                table = _parse(block[:end], path, line)
                line += len(table)
                yield table
            rest = block[end:]
        if rest:
            yield _parse(rest if rest.endswith(b"\n") else rest + b"\n", path, line)


def _parse(lines: bytes, path: Path, first: int) -> np.ndarray:
    lines = lines.replace(b"\r\n", b"\n")
    count = lines.count(b"\n")
    if lines.translate(None, _DIGITS) == b"\t\n" * count:
        numbers = np.fromstring(lines, dtype=np.int64, sep=" ")
        if numbers.size == 2 * count and numbers.max() < _LARGEST:
            return numbers.reshape(-1, 2)
    fields = (line.split(b"\t") for line in lines.split(b"\n"))
    good = (len(pair) == 2 and all(map(_is_number, pair)) for pair in fields)
    bad = next(number for number, fine in enumerate(good, first) if not fine)
    raise RecordError(f"{path}: line {bad}: expected key<TAB>offset")


def _is_number(field: bytes) -> bool:
    return field.isdigit() and int(field.lstrip(b"0")[:20] or b"0") < _LARGEST
