"""Sources of labelled encoded faces: InsightFace record folders and folders of images.

A source has `num_classes`, `side` (pixels), `name`, a length, `source[i] -> (encoded image, label)`, `where(i)`, which
names a sample in messages, and `digest()`, by which copies on several machines are compared. Sources can be pickled and
read from any number of processes.
"""

import hashlib
import re
from pathlib import Path

import numpy as np

from recognition.data.recordio import Header, RecordError, RecordFile, unpack

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
MAX_CLASSES = 1 << 24  # labels are stored as float32, which counts no further


class RecordSource:
    """InsightFace's `train.rec`, `train.idx` and `property`.

    Record 0 is a header (flag 2) whose label is [first identity key, end key): the keys below are images, and each
    identity record's label is its [first image key, end key). Without such a header every record is an image.

    Args:
        path: the folder, or its `.rec` file.

    Raises:
        RecordError: files that are missing or damaged, do not belong together, or state different numbers of classes.
    """

    def __init__(self, path: str | Path):
        rec = find_records(Path(path))
        self.records, self.name = RecordFile(rec, rec.with_suffix(".idx")), str(rec)
        stated, self.side = _read_property(rec.parent / "property")
        header, _ = unpack(self.records.read(int(self.records.keys[0])))
        self.identity_keys = np.empty(0, np.int64)
        if header.flag == 2 and self.records.keys[0] == 0:
            first, end = self._header_range(header.label)
            self.keys = self.records.keys[(self.records.keys >= 1) & (self.records.keys < first)]
            self.identity_keys = np.arange(first, end)
            self.num_classes = end - first
        else:
            self.keys = self.records.keys
            self.num_classes = stated if stated is not None else MAX_CLASSES
            if stated is None:
                self.num_classes = int(self.labels().max()) + 1
        if stated is not None and stated != self.num_classes:
            raise RecordError(f"{rec.parent / 'property'} states {stated} classes, {rec} has {self.num_classes}")
        if self.num_classes > MAX_CLASSES:
            raise RecordError(f"{rec} has {self.num_classes} classes; float32 labels tell {MAX_CLASSES} apart")
        for index in (0, len(self) - 1):
            self[index]

    def _header_range(self, label: np.ndarray) -> tuple[int, int]:
        first, end = (int(key) if np.isfinite(key) else -1 for key in label)
        if not 1 < first <= end or first - 1 > len(self.records) or end - first > len(self.records):
            raise RecordError(
                f"{self.name}: header states identities at keys [{first}, {end}), "
                f"the index has {len(self.records)} keys; is the .idx complete?"
            )
        if end - first == 0 or end - 1 not in self.records or first not in self.records or 1 not in self.records:
            raise RecordError(
                f"{self.name}: header states images from key 1 and identities at [{first}, {end}); the index lacks them"
            )
        keys = self.records.keys[(self.records.keys >= 1) & (self.records.keys < end)]
        if end <= MAX_CLASSES and not np.array_equal(keys, np.arange(1, end)):  # beyond, float32 rounds the header
            wrong = np.flatnonzero(keys[: end - 1] != np.arange(1, end)[: len(keys)])
            key = int(wrong[0]) + 1 if len(wrong) else len(keys) + 1
            raise RecordError(
                f"{self.name}: header states keys 1 to {end - 1}; the index lacks key {key}, or has one twice"
            )
        return first, end

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
        facts = f"{self.num_classes} {self.side} {self.records.rec.stat().st_size}".encode()
        parts = (facts, np.ascontiguousarray(self.records.keys), np.ascontiguousarray(self.records.offsets))
        return _digest(parts)

    def _unpacked(self, index: int, **limit: int) -> tuple[Header, bytes]:
        try:
            return unpack(self.records.read(int(self.keys[index]), **limit))
        except RecordError as error:
            message = str(error)
            raise RecordError(message if self.name in message else f"{self.where(index)}: {message}") from None

    def _label(self, header: Header, index: int) -> int:
        label = float(header.label if header.flag == 0 else header.label[0])
        if not (label.is_integer() and 0 <= label < self.num_classes):
            raise RecordError(f"{self.where(index)} has label {label:g}, expected a class in [0, {self.num_classes})")
        return int(label)

    def labels(self) -> np.ndarray:
        """(n,) int64 labels of all samples, read from their headers."""
        headers = (self._unpacked(index, limit=1024)[0] for index in range(len(self)))
        return np.fromiter(map(self._label, headers, range(len(self))), np.int64, len(self))


class FolderSource:
    """`root/<identity>/<image>`: identities in name order are the labels 0, 1, ...

    Raises:
        ValueError: no folders with images below `root`.
    """

    def __init__(self, root: str | Path, side: int = 112):
        self.root, self.name, self.side = Path(root), str(root), side
        folders = sorted(path for path in self.root.iterdir() if path.is_dir())
        groups = [sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES) for folder in folders]
        kept = [(folder, group) for folder, group in zip(folders, groups, strict=True) if group]
        if not kept:
            raise ValueError(f"{root}: no images in folders of it; expected {root}/<identity>/<image>.jpg")
        self.identities = [folder.name for folder, _ in kept]
        self.paths = [path for _, group in kept for path in group]
        self._labels = np.repeat(np.arange(len(kept)), [len(group) for _, group in kept])
        self.num_classes = len(kept)

    def __len__(self) -> int:
        return len(self.paths)

    def where(self, index: int) -> str:
        return str(self.paths[index])

    def digest(self) -> str:
        """Alike for the same identities and file names; the files themselves are not read."""
        return _digest(f"{path.relative_to(self.root)}\n".encode() for path in self.paths)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        """Encoded image and label of a sample."""
        return self.paths[index].read_bytes(), int(self._labels[index])

    def labels(self) -> np.ndarray:
        """(n,) int64 labels of all samples."""
        return self._labels


def _digest(parts) -> str:
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        total.update(part)
    return total.hexdigest()


def open_source(path: str | Path) -> RecordSource | FolderSource:
    """The faces at `path`: a `.rec` file, a folder with one, or a folder of one folder per identity.

    Raises:
        ValueError: nothing of that kind is there, or it is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"data {path} does not exist; rec=FOLDER says where train.rec or the identities' folders are")
    if path.is_file() or any(path.glob("*.rec")) or any(path.glob("*.idx")):
        return RecordSource(path)
    return FolderSource(path)


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


def _read_property(path: Path) -> tuple[int | None, int]:
    """Number of classes and side from `classes,height,width`; (None, 112) without the file."""
    if not path.exists():
        return None, 112
    text = path.read_text(errors="replace").strip()
    fields = re.fullmatch(r"([1-9][0-9]{0,8}) *, *([1-9][0-9]{0,3}) *, *\2", text)
    if not fields:
        raise RecordError(f"{path}: expected 'classes,height,width' with height = width, got {text[:60]!r}")
    return int(fields[1]), int(fields[2])
