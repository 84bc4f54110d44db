"""InsightFace's record folders: `train.rec`, `train.idx` and `property`."""

import re
from bisect import bisect_left
from pathlib import Path

import numpy as np

from recognition.data.mxnet_records import MxnetRecordFile
from recognition.data.recordio import Header, RecordError, RecordFile, unpack
from recognition.data.sources.digest import digest

MAX_CLASSES = 1 << 24  # labels are stored as float32, which counts no further
BACKENDS = {"native": RecordFile, "mxnet": MxnetRecordFile}


class RecordSource:
    """InsightFace's `train.rec`, `train.idx` and `property`.

    Record 0 is a header (flag 2) whose label is [first identity key, end key): the keys below are images, and each
    identity record's label is its [first image key, end key). Without such a header every record is an image.

    Args:
        path: the folder, or its `.rec` file.
        backend: "native", or "mxnet" to read through mxnet itself, for comparison.
        corrupt: "stop" refuses a set whose first or last image cannot be read; "skip" leaves that to those who read it.

    Attributes:
        keys: of the images, in the order of the samples.
        identity_keys: of the identity records; empty without a header.

    Raises:
        RecordError: files that are missing or damaged, do not belong together, or state different numbers of classes.
    """

    def __init__(self, path: str | Path, backend: str = "native", corrupt: str = "stop"):
        rec = find_records(Path(path))
        self.records, self.name = BACKENDS[backend](rec, rec.with_suffix(".idx")), str(rec)
        stated, self.side = read_property(rec.parent / "property")
        self.keys, self.identity_keys = self.records.keys, range(0)
        header, _ = self._unpacked(0)
        if header.flag == 2 and self.records.keys[0] == 0:
            first, end = self._header_range(np.asarray(header.label))
            self.keys = self.keys[bisect_left(self.keys, 1) : bisect_left(self.keys, first)]
            self.identity_keys = range(first, end)
            self.num_classes = end - first
        else:
            self.num_classes = stated if stated is not None else MAX_CLASSES
            if stated is None:
                self.num_classes = int(self.labels().max()) + 1
        if stated is not None and stated != self.num_classes:
            raise RecordError(f"{rec.parent / 'property'} states {stated} classes, {rec} has {self.num_classes}")
        if self.num_classes > MAX_CLASSES:
            raise RecordError(f"{rec} has {self.num_classes} classes; float32 labels tell {MAX_CLASSES} apart")
        for index in (0, len(self) - 1) if corrupt == "stop" else ():
            self[index]

    def _header_range(self, label: np.ndarray) -> tuple[int, int]:
        first, end = (int(key) if np.isfinite(key) else -1 for key in label)
        last = int(self.records.keys[-1]) + 1
        if MAX_CLASSES < end == np.float32(last) and 1 < first <= end:  # float32 has rounded both
            first, end = self._first_identity(first), last
        if not 1 < first <= end or first - 1 > len(self.records) or end - first > len(self.records):
            raise RecordError(
                f"{self.name}: header states identities at keys [{first}, {end}), "
                f"the index has {len(self.records)} keys; is the .idx complete?"
            )
        if end - first == 0 or end - 1 not in self.records or first not in self.records or 1 not in self.records:
            raise RecordError(
                f"{self.name}: header states images from key 1 and identities at [{first}, {end}); the index lacks them"
            )
        if isinstance(self.records.keys, range) or end > MAX_CLASSES:  # beyond, float32 rounds the header
            return first, end
        keys = self.records.keys[(self.records.keys >= 1) & (self.records.keys < end)]
        if not np.array_equal(keys, np.arange(1, end)):
            wrong = np.flatnonzero(keys[: end - 1] != np.arange(1, end)[: len(keys)])
            key = int(wrong[0]) + 1 if len(wrong) else len(keys) + 1
            raise RecordError(
                f"{self.name}: header states keys 1 to {end - 1}; the index lacks key {key}, or has one twice"
            )
        return first, end

    def _first_identity(self, rounded: int) -> int:
        """The key that float32 has rounded: identity records have no image, and the ones before have."""
        off = rounded // MAX_CLASSES  # at most so far
        near = (key for key in range(rounded - off, rounded + off + 1) if key in self.records)
        return next((key for key in near if not unpack(self.records.read(key))[1]), rounded)

    def __len__(self) -> int:
        return len(self.keys)

    def where(self, index: int) -> str:
        return f"{self.name}: key {self.keys[index]}"

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        """Encoded image and label of a sample.

        Raises:
            RecordError: damaged record, or a label that is not a class.
        """
        header, payload = self._unpacked(index)
        return payload, self._label(header, index)

    def digest(self) -> str:
        """Alike for the same index, size and classes; the records themselves are not read."""
        keys = self.records.keys
        facts = f"{self.num_classes} {self.side} {self.records.rec.stat().st_size}"
        return digest(facts, repr(keys) if isinstance(keys, range) else keys, self.records.offsets)

    def _unpacked(self, index: int, **limit: int) -> tuple[Header, bytes]:
        try:
            return unpack(self.records.read(int(self.keys[index]), **limit))
        except RecordError as error:
            message = str(error)
            raise RecordError(message if self.name in message else f"{self.where(index)}: {message}") from None

    def _label(self, header: Header, index: int) -> int:
        label = float(header.label[0] if isinstance(header.label, np.ndarray) else header.label)
        if not (label.is_integer() and 0 <= label < self.num_classes):
            raise RecordError(f"{self.where(index)} has label {label:g}, expected a class in [0, {self.num_classes})")
        return int(label)

    def labels(self) -> np.ndarray:
        """(n,) int64 labels of all samples, read from their headers."""
        headers = (self._unpacked(index, limit=1024)[0] for index in range(len(self)))
        return np.fromiter(map(self._label, headers, range(len(self))), np.int64, len(self))


def find_records(path: Path) -> Path:
    """The `.rec` that a file or folder means: itself, `train.rec`, or the folder's only one."""
    if path.is_file():
        if path.suffix != ".rec":
            raise RecordError(f"{path}: expected a folder or a .rec file")
        return path
    if (path / "train.rec").exists():
        return path / "train.rec"
    records = sorted(path.glob("*.rec"))
    if len(records) != 1:
        names = ", ".join(record.name for record in records) or "none"
        raise RecordError(f"{path}: expected train.rec or a single .rec, found {names}")
    return records[0]


def read_property(path: Path) -> tuple[int | None, int]:
    """Number of classes and side from `classes,height,width`; (None, 112) without the file."""
    if not path.exists():
        return None, 112
    text = path.read_text(errors="replace").strip()
    fields = re.fullmatch(r"([1-9][0-9]{0,8}) *, *([1-9][0-9]{0,3}) *, *\2", text)
    if not fields:
        raise RecordError(f"{path}: expected 'classes,height,width' with height = width, got {text[:60]!r}")
    return int(fields[1]), int(fields[2])
