"""Finding out what lies at a path, and opening it even where training would refuse to."""

import mmap
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from recognition.data.recordio import RecordError, RecordFile, unpack
from recognition.data.sources.records import read_property
from tools.doctor.findings import Findings
from tools.doctor.readers import Spec, opened, refusal
from tools.doctor.walk import astray, read_index, walk

SIDE = 112  # pixels of an aligned face, where no `property` says otherwise
_HEAD = 32  # bytes that hold the header of an image record


@dataclass
class DataSet:
    """A set as far as it can be read.

    Attributes:
        root: folder that holds it.
        spec: None where nothing can be read.
        rec: the records; None for shards, tar files and folders of images.
        stated: identities by `property`, None without one.
        side: pixels by `property`, else 112.
        keys, offsets: (n,) int64, the lines of the `.idx` in ascending order of keys; empty for a folder.
        recovered: what a walk of the `.rec` found where its index is of no use: records, images, lost_bytes.
    """

    root: Path
    spec: Spec | None
    rec: Path | None = None
    stated: int | None = None
    side: int = SIDE
    keys: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    offsets: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    recovered: dict = field(default_factory=dict)


def open_set(path: Path, findings: Findings, scratch: Path) -> DataSet:
    """The set at `path`: a `.rec` file, a folder with one, or whatever else `open_source` takes.

    Args:
        scratch: folder for an index written anew.

    Raises:
        ValueError: there is no set, or it cannot be told which of several is meant.
    """
    if not path.exists():
        raise ValueError(f"data {path} does not exist; expected a folder with train.rec, or of one folder per identity")
    if path.is_file() and path.suffix != ".rec":
        raise ValueError(f"data {path}: expected a folder or a .rec file")
    records = any(path.glob("*.rec")) or any(path.glob("*.idx"))
    shards = any(path.glob("train-*.rec")) and not (path / "train.rec").exists()
    if path.is_dir() and (shards or not records):
        spec = Spec("source", str(path))
        return DataSet(path, spec, side=opened(spec).source.side)
    rec, said = _records(path), refusal(path)
    if said:
        findings.add("opens", "error", f"training refuses the set: {said}", said=said)
    data = DataSet(rec.parent, None, rec)
    data.stated, data.side = _property(rec.parent / "property", findings)
    try:
        _take_index(data, RecordFile(rec, rec.with_suffix(".idx")))
        if said and _points_astray(data):
            _walk_all(data, findings, scratch)
    except ValueError as error:
        if not said or str(error) not in said:
            findings.add("index", "error", str(error))
        _walk_all(data, findings, scratch)
    return data


def _take_index(data: DataSet, file: RecordFile) -> None:
    data.keys, data.offsets = np.asarray(file.keys), file.offsets
    data.spec = Spec("records", str(data.rec), str(file.idx))


def _points_astray(data: DataSet) -> bool:
    with data.rec.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return len(astray(content, data.offsets)) > 0


def _records(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.glob("*.rec"))
    if path / "train.rec" in found or not found:
        return path / "train.rec"
    if len(found) > 1:
        names = ", ".join(record.name for record in found)
        raise ValueError(f"data {path} has several record files ({names}); name one of them: {found[0]}")
    return found[0]


def _property(path: Path, findings: Findings) -> tuple[int | None, int]:
    if not path.exists():
        findings.add("property", "note", f"no {path.name}: the images are taken to be {SIDE} x {SIDE}", [path.name])
        return None, SIDE
    try:
        return read_property(path)
    except RecordError as error:
        findings.add("property", "error", str(error), [path.name])
        return None, SIDE


def _walk_all(data: DataSet, findings: Findings, scratch: Path) -> None:
    """Index anew what can be read of a `.rec` whose own index is of no use; its keys are kept where they are known."""
    rec, idx = data.rec, data.rec.with_suffix(".idx")
    try:
        keys, offsets, bad = read_index(idx)
    except OSError:
        keys, offsets, bad = np.empty(0, np.int64), np.empty(0, np.int64), []
    for line in bad:
        findings.add("index", "error", f"line {line} of {idx.name} is not key<TAB>offset", [line])
    if not rec.is_file() or not rec.stat().st_size:
        return
    with rec.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for index in astray(content, offsets).tolist():
            key, at = int(keys[index]), int(offsets[index])
            said = f"key {key}: no record at byte {at} of {rec.name}, which has {len(content)}"
            findings.add("index", "error", said, [key])
        known, taken, lines, covered, free = dict(zip(offsets.tolist(), keys.tolist(), strict=True)), set(), [], 0, 0
        for start, end in walk(content, 0, len(content)):
            key = known.get(start, _id(content[start + 8 : min(start + 8 + _HEAD, end)]))
            if key is None or key in taken:
                while free in taken:
                    free += 1
                key = free
            taken.add(key)
            lines.append(f"{key}\t{start}\n")
            covered += end - start
        lost = len(content) - covered
    data.recovered = {"records": len(lines), "lost_bytes": lost}
    if lines:
        index = scratch / "found.idx"
        index.write_text("".join(lines))
        _take_index(data, RecordFile(rec, index, aligned=False))


def _id(head: bytes) -> int | None:
    """The key as InsightFace's writers repeat it in the header."""
    try:
        key = unpack(head)[0].id
    except ValueError:
        return None
    return key if key < 1 << 62 else None
