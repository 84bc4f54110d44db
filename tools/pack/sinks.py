"""The files of a set, appended to image by image: record files as mxnet writes them, and tar shards of webdataset."""

import io
import tarfile
from pathlib import Path

import numpy as np

from recognition.data.recordio import Header, RecordError, framed, pack
from tools.pack.journal import Growing

_HEADER_KEYS = 1 << 24  # float32 counts no further


class RecordSink:
    """A `.rec` and its `.idx`.

    With `ranges` they are InsightFace's: key 0 is the header, images have the keys from 1, then come the identities'
    ranges. Without, every record is an image, and the keys start at 0, as im2rec has them and arcface_torch needs them.

    Args:
        folder, stem: of the files.
        sizes: bytes of a part that was written before, by file name.
        ranges: see above.
    """

    def __init__(self, folder: Path, stem: str, sizes: dict[str, int], ranges: bool):
        self.names = [f"{stem}.idx", f"{stem}.rec"]
        self._idx, self._rec = (Growing(folder / name, sizes.get(name, 0)) for name in self.names)
        self._ranges = ranges
        if ranges and not self._rec.tell():
            self._append(0, pack(Header(2, [0, 0], 0, 0), b""))  # `finish` knows the keys

    def write(self, number: int, label: int, image: bytes) -> None:
        """The image that is the set's `number`-th, from 0."""
        key = number + self._ranges
        self._append(key, pack(Header(0, float(label), key, 0), image))

    def _append(self, key: int, record: bytes) -> None:
        data = framed(key, record)
        self._idx.write(b"%d\t%d\n" % (key, self._rec.tell()))
        self._rec.write(data)

    def finish(self, counts: np.ndarray) -> None:
        """Everything is written; `counts` (classes,) are the images of each identity, which lie one after another."""
        if self._ranges:
            ends = np.cumsum(counts) + 1
            first = int(ends[-1])
            for identity, (end, count) in enumerate(zip(ends.tolist(), counts.tolist(), strict=True)):
                self._append(first + identity, pack(Header(2, [end - count, end], first + identity, 0), b""))
            self._rec.patch(0, framed(0, pack(Header(2, [first, first + len(counts)], 0, 0), b"")))

    def sync(self) -> dict[str, int]:
        return dict(zip(self.names, (self._idx.sync(), self._rec.sync()), strict=True))

    def close(self) -> None:
        self._idx.close()
        self._rec.close()


def check_keys(images: int, classes: int) -> None:
    """Refuse a header that would not state its keys exactly.

    Raises:
        RecordError: too many records for InsightFace's header.
    """
    if images + classes + 1 > _HEADER_KEYS:
        raise RecordError(
            f"{images} images of {classes} identities: the header counts {_HEADER_KEYS} records; "
            "--shuffle SEED or --shards N write files without it"
        )


class TarSink:
    """A tar file with `<key>.jpg` and `<key>.cls`, the label as text, for each image; nothing of the machine in it."""

    def __init__(self, folder: Path, stem: str, sizes: dict[str, int]):
        self.names = [f"{stem}.tar"]
        self._file = Growing(folder / self.names[0], sizes.get(self.names[0], 0))
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)

    def write(self, number: int, label: int, image: bytes) -> None:
        """The image that is the set's `number`-th, from 0."""
        for name, data in ((f"{number:09d}.jpg", image), (f"{number:09d}.cls", b"%d" % label)):
            member = tarfile.TarInfo(name)  # owner 0, time 0
            member.size = len(data)
            self._tar.addfile(member, io.BytesIO(data))
        self._tar.members.clear()  # it keeps every member for its directory

    def finish(self, counts: np.ndarray) -> None:
        """Everything is written."""
        self._tar.close()

    def sync(self) -> dict[str, int]:
        return {self.names[0]: self._file.sync()}

    def close(self) -> None:
        self._file.close()
