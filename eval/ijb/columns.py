"""Text lists of millions of lines as columns of numbers, each line checked.

A list has the same number of fields in each line, single spaces between them and no control bytes. Where the fields
end is found with one comparison over the bytes; a whole number of up to eight digits is then one 64-bit word, brought
to its value for all lines at once. Pieces of a file that fit the cache are read on several threads.

Shapes: n lines, c columns.
"""

import mmap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn, TypeVar

import numpy as np

PIECE = 1 << 20  # bytes: with what is computed from them they stay in the cache
THREADS = 2
DIGITS = 8  # of a whole number: what a 64-bit word holds
_ZEROS, _CARRY, _HIGH = (np.uint64(int(byte * 8, 16)) for byte in ("30", "06", "f0"))

T = TypeVar("T")


class MetaError(ValueError):
    """A list of the protocol that cannot be used; the message names the file and line."""

    def __init__(self, path: Path, line: int | None, problem: str):
        super().__init__(f"{path}{'' if line is None else f':{line}'}: {problem}")


class Columns:
    """Whole lines of a list.

    Args:
        path: for messages.
        data: the bytes; the last line may lack its newline.
        columns: fields in each line.
        expected: what a line holds, for messages.
        line: number in the file of the first line.

    Raises:
        MetaError: a line of another number of fields, or with a byte below the space.
    """

    def __init__(self, path: Path, data: bytes, columns: int, expected: str, line: int = 1):
        data = data.replace(b"\r\n", b"\n") if b"\r" in data else data
        data = data if data.endswith(b"\n") else data + b"\n"
        self.path, self.line, self._data, self._expected = path, line, data, expected
        self._bytes = np.frombuffer(bytes(DIGITS) + data, np.uint8)  # room to look back from the first field
        ends = np.flatnonzero(self._bytes[DIGITS:] <= ord(" "))
        gaps = np.diff(ends, prepend=-1)
        lines, left = divmod(len(ends), columns)
        marks = np.tile(np.frombuffer(b" " * (columns - 1) + b"\n", np.uint8), lines)
        if left or gaps.min() < 2 or (self._bytes[ends + DIGITS] != marks).any():
            self._refuse_shape(columns)
        self._ends, self._lengths = ends.reshape(-1, columns), gaps.reshape(-1, columns) - 1

    def __len__(self) -> int:
        return len(self._ends)

    def integers(self, column: int) -> np.ndarray:
        """(n,) int32, 0 to 99,999,999.

        Raises:
            MetaError: a field that is no whole number of at most eight digits.
        """
        ends, digits = self._ends[:, column], self._lengths[:, column]
        # the eight bytes before each field's end; those before its start are shifted out, so that they count as zeros
        words = np.ndarray(len(self._bytes) - DIGITS + 1, "<u8", self._bytes, strides=(1,))[ends]
        unused = (8 * np.maximum(DIGITS - digits, 0)).astype(np.uint64)
        words = ((words ^ _ZEROS) >> unused) << unused
        wrong = ((words | (words + _CARRY)) & _HIGH != 0) | (digits > DIGITS)
        if wrong.any():
            self.refuse(int(wrong.argmax()), column, f"no whole number of at most {DIGITS} digits")
        # pairs of digits, then fours, then all eight: the earlier digit is in the lower byte
        words = (words * np.uint64(10 * 2**8 + 1)) >> np.uint64(8) & np.uint64(0x00FF00FF00FF00FF)
        words = (words * np.uint64(100 * 2**16 + 1)) >> np.uint64(16) & np.uint64(0x0000FFFF0000FFFF)
        return ((words * np.uint64(10000 * 2**32 + 1)) >> np.uint64(32)).astype(np.int32)

    def floats(self, column: int) -> np.ndarray:
        """(n,) float32.

        Raises:
            MetaError: a field that is no finite number.
        """
        lengths = self._lengths[:, column]
        starts, offsets = self._ends[:, column] - lengths, np.arange(lengths.max())
        text = self._bytes[np.minimum(starts[:, None] + offsets + DIGITS, len(self._bytes) - 1)]
        text[offsets >= lengths[:, None]] = 0
        try:
            numbers = text.view(f"S{len(offsets)}")[:, 0].astype(np.float64)
        except ValueError:
            numbers = np.array([_float(self.text(line, column)) for line in range(len(self))])
        wrong = ~np.isfinite(numbers)
        if wrong.any():
            self.refuse(int(wrong.argmax()), column, "no finite number")
        return numbers.astype(np.float32)

    def texts(self, column: int) -> list[bytes]:
        """Each line's field as it stands."""
        ends, lengths = self._ends[:, column].tolist(), self._lengths[:, column].tolist()
        return [self._data[end - length : end] for end, length in zip(ends, lengths, strict=True)]

    def text(self, index: int, column: int) -> str:
        """One field as it stands, for a message."""
        end = self._ends[index, column]
        field = self._data[end - self._lengths[index, column] : end]
        return ascii(field.decode("utf-8", "replace")[:60])

    def refuse(self, index: int, column: int, problem: str) -> NoReturn:
        """Raise `MetaError` about the field of line `index`, counted from 0."""
        field = self.text(index, column)
        raise MetaError(
            self.path, self.line + index, f"field {column + 1} is {field}, {problem}; expected {self._expected}"
        )

    def _refuse_shape(self, columns: int) -> None:
        for index, line in enumerate(self._data.removesuffix(b"\n").split(b"\n")):
            fields = line.split(b" ")
            if len(fields) != columns or not all(field and min(field) > ord(" ") for field in fields):
                raise MetaError(
                    self.path,
                    self.line + index,
                    f"{ascii(line.decode('utf-8', 'replace')[:60])} is not {columns} fields with single spaces between "
                    f"them; expected {self._expected}",
                )
        raise AssertionError("refused, but each line is right: the check of all lines at once is wrong")


def read_columns(path: Path, columns: int, expected: str) -> Columns:
    """A whole list at once.

    Raises:
        MetaError: an empty file, or as `Columns`.
        OSError: it cannot be read.
    """
    data = Path(path).read_bytes()
    if not data.strip():
        raise MetaError(path, None, f"is empty; expected lines of {expected}")
    return Columns(path, data, columns, expected)


def map_pieces(path: Path, columns: int, expected: str, function: Callable[[Columns], T]) -> list[T]:
    """`function` of each piece of a list, in the list's order; the first bad line is the one that is told of.

    Raises:
        MetaError: an empty file, as `Columns`, or as `function` raises it.
        OSError: the file cannot be read.
    """
    if not Path(path).stat().st_size:
        raise MetaError(path, None, f"is empty; expected lines of {expected}")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:

        def read(bounds: tuple[int, int]) -> T:
            try:
                return function(Columns(path, text[slice(*bounds)], columns, expected))
            except MetaError:  # again, with the right number: counting the lines before costs only here
                before = text[: bounds[0]].count(b"\n")
                return function(Columns(path, text[slice(*bounds)], columns, expected, before + 1))

        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(read, _pieces(text)))


def _pieces(text: mmap.mmap) -> Iterator[tuple[int, int]]:
    """First and last byte of pieces that end where lines end."""
    start = 0
    while start < len(text):
        end = text.find(b"\n", min(start + PIECE, len(text)) - 1) + 1 or len(text)
        yield start, end
        start = end


def _float(field: str) -> float:
    try:
        return float(field[1:-1])
    except ValueError:
        return float("nan")
