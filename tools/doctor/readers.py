"""One way to read the images of records, folders and `.bin` sets, from any number of processes.

A process gets a `Spec`, which is short, and opens what it names once: readers of millions of records would otherwise
be sent with every piece of work.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval.bins import load_bin
from recognition.data.recordio import RecordFile, unpack
from recognition.data.sources import open_source
from tools.doctor.walk import stored_bytes


class Spec(NamedTuple):
    """What to open: kind is `records`, whose `.idx` is `index`, `bin`, or `source` for all else that is trained on."""

    kind: str
    path: str
    index: str = ""


class Item(NamedTuple):
    """One record or image.

    `label` is as stored, nan where there is none; `span` is [first key, end key) of a header or identity record, which
    has no image, else None; `stored` counts the bytes it takes of a `.rec`.
    """

    label: float
    span: tuple[float, float] | None
    image: bytes
    stored: int


class _Records:
    def __init__(self, spec: Spec):
        self.file = RecordFile(spec.path, spec.index, aligned=False)

    def __len__(self) -> int:
        return len(self.file)

    def key(self, index: int) -> int:
        return int(self.file.keys[index])

    def where(self, index: int) -> str:
        return f"key {self.key(index)}"

    def __getitem__(self, index: int) -> Item:
        record = self.file.read(self.key(index))
        header, image = unpack(record)
        label = float(header.label if header.flag == 0 else header.label[0])
        span = tuple(map(float, header.label)) if header.flag == 2 and not image else None
        return Item(label, span, image, stored_bytes(record))


class _Source:
    def __init__(self, spec: Spec):
        self.source = open_source(spec.path)
        self.root = Path(spec.path)

    def __len__(self) -> int:
        return len(self.source)

    def key(self, index: int) -> str:
        return Path(self.source.where(index)).relative_to(self.root).as_posix()

    where = key

    def __getitem__(self, index: int) -> Item:
        image, label = self.source[index]
        return Item(float(label), None, image, 0)


class _Bin:
    def __init__(self, spec: Spec):
        self.bin = load_bin(spec.path)

    def __len__(self) -> int:
        return len(self.bin.jpegs)

    def key(self, index: int) -> str:
        return f"{self.bin.name} pair {index // 2} image {index % 2}"

    where = key

    def __getitem__(self, index: int) -> Item:
        return Item(np.nan, None, self.bin.jpegs[index], 0)


@functools.lru_cache(maxsize=8)
def opened(spec: Spec):
    """The reader: a length, `reader[i] -> Item`, `key(i)` (record key or file) and `where(i)` for people.

    Processes that are forked share what their parent has opened.

    Raises:
        ValueError: damaged, or not what `spec` says; `reader[i]` too, and OSError.
    """
    return {"records": _Records, "source": _Source, "bin": _Bin}[spec.kind](spec)


def refusal(path: Path) -> str | None:
    """What training would say of the data at `path` when it opens them; None where it takes them."""
    try:
        open_source(path)
    except ValueError as error:
        return " ".join(str(error).split())
    return None
