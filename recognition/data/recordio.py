"""MXNet RecordIO without mxnet: reader and writer of `.rec` and `.idx`, equal to mxnet 1.9.1 byte for byte.

A file is a sequence of parts, each `magic, (flag << 29 | length), payload, padding to 4 bytes`. A record is one part
(flag 0), or several (1 first, 2 middle, 3 last) where its payload contained the magic word at a multiple of 4 bytes:
the word is left out at the split and put back by the reader (dmlc-core, recordio.h). An image record is a header `flag,
label, id, id2` (uint32, float32, uint64, uint64), then `flag` float32 labels when flag > 0, then the encoded image. The
index is text, `key<TAB>offset` per record.
"""

import contextlib
import mmap
import numbers
import operator
import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recognition.data.index import RecordError, read_index
from utils.files import replacing

MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", MAGIC)
_PART, _HEADER = struct.Struct("<II"), struct.Struct("<IfQQ")
MAX_LENGTH = (1 << 29) - 1


class Header(NamedTuple):
    """Header of an image record; `label` is a float, or a float32 vector where `flag` > 0 counts it."""

    flag: int
    label: float | np.ndarray
    id: int
    id2: int


def pack(header: Header, payload: bytes) -> bytes:
    """Header and payload as one record; a label vector sets the flag to its length, as mxnet's `recordio.pack` does."""
    if isinstance(header.label, numbers.Number):  # numpy's scalars too
        return _HEADER.pack(0, header.label, header.id, header.id2) + payload
    label = np.asarray(header.label, dtype=np.float32)
    return _HEADER.pack(label.size, 0.0, header.id, header.id2) + label.tobytes() + payload


def unpack(record: bytes) -> tuple[Header, bytes]:
    """The other way round.

    Raises:
        RecordError: shorter than its header or its label vector.
    """
    if len(record) < _HEADER.size:
        raise RecordError(f"record of {len(record)} bytes is shorter than an image header ({_HEADER.size})")
    flag, label, id_, id2 = _HEADER.unpack_from(record)
    end = _HEADER.size + 4 * flag
    if len(record) < end:
        raise RecordError(f"record of {len(record)} bytes announces {flag} labels, which need {end}")
    if flag:
        label = np.frombuffer(record, np.float32, flag, _HEADER.size)
    return Header(flag, label, id_, id2), record[end:]


class RecordFile:
    """A `.rec` with its `.idx`, read through a memory map: threads, forks and pickled copies do not share a position.

    Args:
        rec: path of the records.
        idx: path of the index.
        aligned: records begin at multiples of 4, as every writer puts them; False: follow the index wherever it leads,
            for a damaged file.

    Attributes:
        keys: n keys, ascending whatever the order of the index (InsightFace writes key 0 after the images, im2rec
            shuffles): a range where they have no gap, else an int64 array.
        offsets: (n,) int64, where their records begin.

    Raises:
        RecordError: a file is missing, empty or malformed, or the index points past the end of the records.
    """

    def __init__(self, rec: str | Path, idx: str | Path, aligned: bool = True):
        self.rec, self.idx = Path(rec), Path(idx)
        self.keys, self.offsets = read_index(self.idx)
        self._open()
        end, unit = len(self._map) - _PART.size, 4 if aligned else 1
        if self.offsets.max() > end or np.bitwise_or.reduce(self.offsets) % unit:
            at = int(((self.offsets > end) | (self.offsets % unit != 0)).argmax())
            raise RecordError(
                f"{self.idx}: key {self.keys[at]} points to byte {self.offsets[at]}, but {self.rec} has "
                f"{len(self._map)} and its records begin at multiples of 4; the .rec is cut, or the .idx is another's"
            )

    def _open(self) -> None:
        try:
            with self.rec.open("rb") as file:
                if not os.fstat(file.fileno()).st_size:
                    raise RecordError(f"{self.rec} is empty")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise RecordError(f"{self.rec} cannot be read: {error.strerror or error}") from None

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "_map"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return len(self.keys)

    def __contains__(self, key: int) -> bool:
        return self._position(key) is not None

    def _position(self, key: int) -> int | None:
        key = operator.index(key)  # a range looks for numpy's numbers one by one
        if isinstance(self.keys, range):
            return key - self.keys.start if key in self.keys else None
        at = int(np.searchsorted(self.keys, key))
        return at if at < len(self.keys) and self.keys[at] == key else None

    def read(self, key: int, limit: int = MAX_LENGTH) -> bytes:
        """The record of a key; of a longer one, its first `limit` bytes: enough for the labels, without the image.

        Raises:
            RecordError: unknown key, or the bytes at its offset are no whole record.
        """
        position = self._position(key)
        if position is None:
            raise RecordError(f"{self.idx} has no key {key}")
        flag, payload, offset = self._part(key, int(self.offsets[position]), limit)
        if flag == 0:
            return payload
        parts: list[bytes] = []
        while flag and (flag == 1) == (not parts):
            parts.append(payload)
            if flag == 3 or len(payload) == limit:
                return _MAGIC_BYTES.join(parts)[:limit]
            flag, payload, offset = self._part(key, offset, limit)
        raise RecordError(f"{self.rec}: key {key}: parts of the record are out of order")

    def _part(self, key: int, offset: int, limit: int) -> tuple[int, bytes, int]:
        """Flag, payload and the offset of what follows."""
        start = offset + _PART.size
        if start > len(self._map):
            raise RecordError(f"{self.rec}: key {key} ends at byte {len(self._map)}: the file is cut")
        magic, word = _PART.unpack_from(self._map, offset)
        if magic != MAGIC:
            raise RecordError(
                f"{self.rec}: no record at byte {offset}, where {self.idx} has key {key}; is it the .idx of this .rec?"
            )
        flag, length = word >> 29, word & MAX_LENGTH
        if flag > 3 or start + length > len(self._map):
            raise RecordError(
                f"{self.rec}: key {key} at byte {offset} announces {length} bytes, the file ends after "
                f"{len(self._map) - start}: it is cut or damaged"
            )
        return flag, self._map[start : start + min(length, limit)], start + (length + 3) // 4 * 4


class RecordWriter:
    """Writes a `.rec` and its `.idx`: beside, and renamed when the block ends well.

    with RecordWriter("train.rec", "train.idx") as writer:
        writer.write(0, record)
    """

    def __init__(self, rec: str | Path, idx: str | Path):
        self._paths = Path(rec), Path(idx)

    def __enter__(self) -> "RecordWriter":
        with contextlib.ExitStack() as stack:
            rec, idx = (stack.enter_context(replacing(path)) for path in self._paths)
            self._rec, self._idx = stack.enter_context(rec.open("wb")), stack.enter_context(idx.open("w"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._stack.__exit__(*exception)

    def write(self, key: int, record: bytes) -> None:
        """Append a record.

        Raises:
            RecordError: longer than the format's 2^29 - 1 bytes.
        """
        frame = framed(key, record)
        self._idx.write(f"{key}\t{self._rec.tell()}\n")
        self._rec.write(frame)


def framed(key: int, record: bytes) -> bytes:
    """The record of a key as it lies in the file: its parts with their heads and padding.

    Raises:
        RecordError: longer than the format's 2^29 - 1 bytes.
    """
    if len(record) > MAX_LENGTH:
        raise RecordError(f"record {key} of {len(record)} bytes: the format ends at {MAX_LENGTH}")
    parts = _split_at_magic(record)
    flags = [0] if len(parts) == 1 else [1, *[2] * (len(parts) - 2), 3]
    return b"".join(
        _PART.pack(MAGIC, flag << 29 | len(part)) + part + b"\0" * (-len(part) % 4)
        for flag, part in zip(flags, parts, strict=True)
    )


def _split_at_magic(record: bytes) -> list[bytes]:
    parts, start, at = [], 0, record.find(_MAGIC_BYTES)
    while at >= 0:
        if at % 4 == 0:
            parts.append(record[start:at])
            start = at + 4
        at = record.find(_MAGIC_BYTES, start if at % 4 == 0 else at + 1)
    return [*parts, record[start:]]
