"""The formats that are read from outside: intact files of each, and what reading a damaged one may give.

`family(data, base)` reads one damaged file and returns the clear error with which (some of) it was refused; "" if all
of it was read, and what came out is right as far as anyone can tell. Everything else is raised.
"""

import math
import pickle
import random
from pathlib import Path

import cv2
import numpy as np

from eval.bins import BinError, load_bin
from recognition.data.lists import read_list
from recognition.data.recordio import Header, RecordError, RecordFile, RecordWriter, pack, unpack
from recognition.data.sources import RecordSource
from tests.corpus import images
from utils.jpeg import ImageError, decode

MAGIC = b"\x0a\x23\xd7\xce"


def _named(error: Exception, folder: Path) -> str:
    """The message, which is one line that names a file."""
    message = str(error)
    if str(folder) not in message or "\n" in message or "MemoryError" in message or len(message) > 1000:
        raise AssertionError(f"not a clear error: {message!r}")
    return message


class Records:
    """Plain records, some of several parts, and a small InsightFace folder; `part` of them is damaged, rec or idx."""

    def __init__(self, folder: Path, part: str):
        self.folder, self.part = folder, part
        plain = [bytes(range(9)), b"", MAGIC, b"abcd" + MAGIC + b"efgh" + MAGIC + b"i", b"ab" + MAGIC * 2, b"x" * 40]
        self.records = {"plain": plain, "faces": [pack(Header(2, np.array([7, 10]), 0, 0), b"")]}
        for key in range(1, 7):
            self.records["faces"].append(pack(Header(0, float((key - 1) // 2), key, 0), b"face %d" % key * key))
        for key in range(7, 10):
            self.records["faces"].append(pack(Header(2, np.array([2 * key - 13, 2 * key - 11]), key, 0), b""))
        self.intact = {}
        for name, records in self.records.items():
            (folder / name).mkdir()
            with RecordWriter(folder / name / "train.rec", folder / name / "train.idx") as writer:
                for key, record in enumerate(records):
                    writer.write(key, record)
            (folder / name / "property").write_text("3,112,112")
            self.intact[name] = {end: (folder / name / f"train.{end}").read_bytes() for end in ("rec", "idx")}
        self.is_text = part == "idx"
        self.bases = [self.intact[name][part] for name in self.records]

    def __call__(self, data: bytes, base: int) -> str:
        name = list(self.records)[base]
        rec, idx = self.folder / name / "train.rec", self.folder / name / "train.idx"
        (rec if self.part == "rec" else idx).write_bytes(data)
        try:
            file = RecordFile(rec, idx)
        except RecordError as error:
            return _named(error, self.folder)
        errors = [self._read(file, key, data, name) for key in list(file.keys[:30])]
        return max(errors, default="") or (self._read_faces(rec) if name == "faces" else "")

    def _read(self, file: RecordFile, key: int, data: bytes, name: str) -> str:
        try:
            record = file.read(key)
        except RecordError as error:
            return _named(error, self.folder)
        assert file.read(key, 9) == record[:9]
        if self.part == "idx":  # an index may lead to another record, but not to anything that is none
            assert record in self.records[name], f"key {key} is no record: {record[:50]!r}"
        elif key < len(self.records[name]):
            intact = self.intact[name]["rec"]
            offsets = [int(line.split()[1]) for line in self.intact[name]["idx"].splitlines()] + [len(intact)]
            start, end = offsets[key : key + 2]
            if data[start:end] == intact[start:end]:
                assert record == self.records[name][key], f"key {key} was not touched, but is {record[:50]!r}"
        return ""

    def _read_faces(self, rec: Path) -> str:
        try:
            source = RecordSource(rec)
            faces = [source[index] for index in range(len(source))]
            labels = source.labels()
        except RecordError as error:
            return _named(error, self.folder)
        assert labels.tolist() == [label for _, label in faces] and 0 <= labels.min() <= labels.max() < 3
        if self.part == "idx":
            assert {payload for payload, _ in faces} <= {unpack(record)[1] for record in self.records["faces"]}
        return ""


class Images:
    """`decode` of one format; what comes out depends on the file alone, not on what was decoded before."""

    is_text = False

    def __init__(self, folder: Path, kind: str):
        self.kind, self.bases = kind, list(images.BASES[kind])
        blank = np.zeros_like(images.RGB)
        self.before = [images.encoded(f".{kind}", image) for image in (blank, blank + 255)]

    def __call__(self, data: bytes, base: int) -> str:
        if self.kind == "png" and base % 3:  # without the right sums libpng hardly looks inside
            data = images.with_sums(data)
        results = []
        for before in self.before:
            decode(before)
            try:
                results.append(decode(data))
            except ImageError as error:
                assert "\n" not in str(error) and len(str(error)) < 300
                results.append(str(error))
        first, second = results
        if isinstance(first, str):
            assert first == second, "refused only once"
            return first
        assert first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3 and max(first.shape) <= 4096
        assert np.array_equal(first, second), "pixels of another image, or of none, stand in"
        return ""


class Bins:
    """`load_bin`; every byte of an image that comes out is from the file."""

    is_text = False

    def __init__(self, folder: Path):
        self.path = folder / "set.bin"
        jpegs = [bytes([255, 216, n]) + bytes(range(n, n + 9)) + bytes([255, 217]) for n in range(6)]
        arrays = [np.frombuffer(jpeg, np.uint8).copy() for jpeg in jpegs]
        flags = [True, False, True]
        self.bases = [pickle.dumps((jpegs, flags), protocol) for protocol in (0, 2, 3, 4, 5)]
        self.bases += [pickle.dumps((arrays, np.array(flags)), protocol) for protocol in (2, 4, 5)]
        python2 = b"".join(b"U" + bytes([len(jpeg)]) + jpeg + b"q" + bytes([n]) for n, jpeg in enumerate(jpegs))
        self.bases.append(b"\x80\x02](" + python2 + b"e](\x88\x89\x88e\x86.")

    def __call__(self, data: bytes, base: int) -> str:
        self.path.write_bytes(data)
        try:
            pair_bin = load_bin(self.path)
        except BinError as error:
            return _named(error, self.path)
        assert len(pair_bin.jpegs) == 2 * len(pair_bin.issame) > 0 and pair_bin.issame.dtype == bool
        for jpeg in pair_bin.jpegs:
            assert type(jpeg) is bytes and jpeg
            assert jpeg in data or b"encode" in data, f"{jpeg!r} is not in the file"  # protocols 0 to 2 write text
        return ""


class Lists:
    """`read_list`, in both forms that a `.lst` has."""

    is_text = True

    def __init__(self, folder: Path):
        self.read_list = read_list
        self.path = folder / "faces.lst"
        box, points = "\t1.5\t2\t100\t110.25", "".join(f"\t{10 * n}.5" for n in range(10))
        faces = [f"person {n // 2}/photo_{n}.jpg" for n in range(6)]
        self.bases = [
            "".join(f"1\t{face}\t{n // 2}\n" for n, face in enumerate(faces)).encode(),
            "".join(f"0\t{face}\t{n // 2}{box}{points}\n" for n, face in enumerate(faces)).encode(),
            "".join(f"{n}\t{n // 2}.000000\t{face}\n" for n, face in enumerate(faces)).encode(),
            "".join(f"{n}\t{n // 2}\t0.5\t-1e3\t{face}\r\n" for n, face in enumerate(faces)).encode(),
        ]

    def __call__(self, data: bytes, base: int) -> str:
        self.path.write_bytes(data)
        try:
            entries = list(self.read_list(self.path))
        except ValueError as error:
            return _named(error, self.path)
        assert len(entries) <= data.count(b"\n") + 1
        for entry in entries:
            assert 0 <= entry.label < 1 << 31 and entry.label == int(entry.label) and entry.name
            numbers = [*(entry.box or ()), *(() if entry.landmarks is None else np.ravel(entry.landmarks))]
            assert all(math.isfinite(number) for number in numbers)
        return ""


FAMILIES = {
    "rec": lambda folder: Records(folder, "rec"),
    "idx": lambda folder: Records(folder, "idx"),
    "lst": Lists,
    "bin": Bins,
    "jpeg": lambda folder: Images(folder, "jpeg"),
    "png": lambda folder: Images(folder, "png"),
    "bmp": lambda folder: Images(folder, "bmp"),
}


def generator(name: str, seed: int, number: int) -> random.Random:
    return random.Random(f"{name} {seed} {number}")


cv2.setNumThreads(1)
