"""What a set is packed from: record files, folders of identity folders and lists, all with the same attributes."""

import functools
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recognition.data.lists import check_name, read_list
from recognition.data.sources import FolderSource, RecordSource, open_source
from recognition.data.sources.digest import digest
from utils.lists import ListError

opened = functools.lru_cache(open_source)  # forked workers inherit what is open, others open it once themselves


class Task(NamedTuple):
    """An image to read: a file, or the record at `index` of the source at `path`."""

    path: str
    index: int | None = None
    aligned: bool = True
    landmarks: np.ndarray | None = None

    def read(self) -> bytes:
        """Raises ValueError or OSError."""
        return Path(self.path).read_bytes() if self.index is None else opened(self.path)[self.index][0]

    def where(self) -> str:
        return self.path if self.index is None else opened(self.path).where(self.index)


class Faces:
    """Images with identities.

    Attributes:
        path: the source.
        side: pixels that its images are stated to have; None if nothing says so.
        labels: (n,) int64 positions in `identities`, all of which have images.
        identities: names, in the order of the source's own labels.
        numbers: (k,) int64, these labels.
        names: of the images, `<identity>/<file>`.
        stamp: alike for the same content.
        note: a line on images of formats that are not read, or None.
    """

    path: Path
    side: int | None
    labels: np.ndarray
    identities: list[str]
    numbers: np.ndarray
    names: list[str]
    stamp: str
    note: str | None = None

    def task(self, index: int) -> Task:
        raise NotImplementedError

    def aliases(self, index: int) -> Iterable[str]:
        """Under which names a list of landmarks may know an image."""
        path = self.task(index).path
        return (self.names[index], path, str(Path(path).absolute()))


class FolderFaces(Faces):
    """`root/<identity>/<image>`; identities in name order."""

    def __init__(self, path: Path):
        source: FolderSource = opened(str(path))
        self.path, self.side, self.identities, self._paths = path, None, source.identities, source.paths
        self.labels, self.numbers, self.note = source.labels(), np.arange(source.num_classes), source.note
        self.names = [f"{one.parent.name}/{one.name}" for one in source.paths]
        for name in self.names:
            check_name(name)
        self.stamp = _stamp([str(path.resolve()), *self.names])

    def task(self, index: int) -> Task:
        return Task(str(self._paths[index]))


class RecordFaces(Faces):
    """InsightFace's record file; names come from the `.lst` beside it, else they are `<label>/<key>.jpg`."""

    def __init__(self, path: Path, use_list: bool = True):
        source: RecordSource = opened(str(path))
        self.rec = rec = Path(source.name)
        self.path, self.side = path, source.side
        labels = source.labels()
        self.numbers, self.labels = np.unique(labels, return_inverse=True)
        listed = rec.with_suffix(".lst")
        names = _record_names(source, listed, labels) if use_list and listed.exists() else None
        self.names = names or _numbered_names(source.num_classes, labels, source.keys)
        self.identities = _identity_names(self.names, self.labels, self.numbers)
        facts = rec.stat()
        self.stamp = _stamp([str(rec.resolve()), str(facts.st_size), str(facts.st_mtime_ns), *self.names])

    def task(self, index: int) -> Task:
        return Task(str(self.path), index)


class NumberedFaces(Faces):
    """Shards and tar files; names are `<label>/<number of the image>.jpg`."""

    def __init__(self, path: Path):
        source = opened(str(path))
        self.path, self.side, labels = path, source.side, source.labels()
        self.numbers, self.labels = np.unique(labels, return_inverse=True)
        self.names = _numbered_names(source.num_classes, labels, range(len(source)))
        self.identities = _identity_names(self.names, self.labels, self.numbers)
        self.stamp = _stamp([str(path.resolve()), source.digest()])

    def task(self, index: int) -> Task:
        return Task(str(self.path), index)


class ListFaces(Faces):
    """The images of a `.lst`, below `root` (default: its folder); labels may have gaps, and lines any order."""

    def __init__(self, path: Path, root: Path | None = None):
        self.path, self.side, self._root = path, None, path.parent if root is None else root
        labels, self.names, self._aligned, self._landmarks = [], [], [], {}
        for entry in read_list(path):
            if entry.landmarks is not None and not entry.aligned:
                self._landmarks[len(labels)] = entry.landmarks
            labels.append(entry.label)
            self.names.append(entry.name)
            self._aligned.append(entry.aligned)
        if not any((self._root / name).exists() for name in self.names[:100]):
            raise ListError(
                f"{path}: its images are not there, for example {self._root / self.names[0]}; "
                "--root FOLDER says where its paths start from"
            )
        self.numbers, self.labels = np.unique(np.array(labels, np.int64), return_inverse=True)
        self.identities = _identity_names(self.names, self.labels, self.numbers)
        self.stamp = _stamp([str(path.resolve()), str(self._root.resolve()), _hash_file(path)])

    def task(self, index: int) -> Task:
        path = str(self._root / self.names[index])
        return Task(path, None, self._aligned[index], self._landmarks.get(index))


def open_faces(path: Path, root: Path | None) -> Faces:
    """The faces at `path`; `root` is where a list's images are.

    Raises:
        ValueError: nothing of that kind is there, or it is damaged.
    """
    if path.suffix == ".lst":
        if root is not None and not root.is_dir():
            raise ListError(f"--root {root}: expected the folder that the paths in {path} start from")
        return ListFaces(path, root)
    if not path.exists():
        raise ValueError(f"{path} does not exist; expected a folder of identity folders, a .lst, or a folder with .rec")
    source = opened(str(path))
    kinds = {FolderSource: FolderFaces, RecordSource: RecordFaces}
    return kinds.get(type(source), NumberedFaces)(path)


def _record_names(source: RecordSource, listed: Path, labels: np.ndarray) -> list[str]:
    """The n-th line's name for the n-th image.

    Raises:
        ListError: the list has other labels or another number of lines than the records.
    """
    names = []
    for number, entry in enumerate(read_list(listed)):
        if number >= len(labels) or entry.label != labels[number]:
            stated = "no image more" if number >= len(labels) else f"label {labels[number]}"
            raise ListError(
                f"{listed}: entry {number + 1} has label {entry.label}, {source.name} has {stated} there; "
                "move the list away if it is another's"
            )
        names.append(entry.name)
    if len(names) < len(labels):
        raise ListError(f"{listed} has {len(names)} entries, {source.name} has {len(labels)} images")
    return names


def _numbered_names(num_classes: int, labels: np.ndarray, keys: Sequence[int]) -> list[str]:
    """`<label>/<key>.jpg`, with zeros in front so that the order of names is that of labels and keys."""
    wide, long = len(str(max(num_classes - 1, 0))), len(str(keys[-1]))
    return [f"{label:0{wide}d}/{key:0{long}d}.jpg" for label, key in zip(labels, keys, strict=True)]


def _identity_names(names: list[str], labels: np.ndarray, numbers: np.ndarray) -> list[str]:
    """Each identity's folder, as its first image names it; where that is nobody's or several's, their labels."""
    _, first = np.unique(labels, return_index=True)
    folders = [Path(names[index]).parent.name for index in first]
    distinct = len(set(folders)) == len(folders) and all(folders)
    return folders if distinct else [str(number) for number in numbers]


def _stamp(parts: Iterable[str]) -> str:
    return digest(*(f"{part}\n" for part in parts))


def _hash_file(path: Path) -> str:
    total = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            total.update(part)
    return total.hexdigest()
