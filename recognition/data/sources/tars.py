"""WebDataset's tar shards, read at random: `train.json` lists them, each holds `<key>.jpg` and `<key>.cls` pairs.

`train.json` is the index of webdataset's `wids` (`{"shardlist": [{"url", "nsamples"}, ...]}`) with `num_classes` and
`side` beside the list; relative URLs are relative to it. `python -m tools.pack --format webdataset` writes all of it.
"""

import json
import mmap
import tarfile
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin

import fsspec
import numpy as np

from recognition.data.index import RecordError
from recognition.data.sources.digest import digest
from recognition.data.sources.fetch import Cache, reason
from recognition.data.sources.places import Places
from utils.images import is_image

_OPEN = 64  # shards that a process keeps open
_EXPECTED = 'expected {"shardlist": [{"url": ..., "nsamples": ...}, ...], "num_classes": ..., "side": ...}'


class TarSource:
    """The faces that a `train.json` lists, on this machine or in object storage.

    Args:
        index: path or URL of the `train.json`.
        cache: folder for shards that come from a URL; needed for those only.
        cache_limit: bytes these may take; None: no limit.

    Raises:
        RecordError: the index is missing or says something else, or the first shard cannot be fetched or is damaged.
    """

    def __init__(self, index: str, cache: str | Path | None = None, cache_limit: int | None = None):
        self.name, self._cache = index, Cache(Path(cache) if cache else None, cache_limit)
        self._read(_load(index))
        self._shards: OrderedDict[int, _Shard] = OrderedDict()
        self._damaged: dict[int, str] = {}  # a shard that is cut is read once, not once for each of its samples
        self[0]

    def _read(self, content: dict) -> None:
        try:
            shards = [(shard["url"], shard["nsamples"]) for shard in content["shardlist"]]
            self.num_classes, self.side = content["num_classes"], content.get("side", 112)
            numbers = [self.num_classes, self.side, *(count for _, count in shards)]
        except (TypeError, KeyError, AttributeError):
            raise RecordError(f"{self.name}: {_EXPECTED}") from None
        if not shards or not all(type(number) is int and 0 < number < 1 << 32 for number in numbers):
            raise RecordError(f"{self.name}: {_EXPECTED}, the numbers whole and at least 1")
        if not all(type(url) is str for url, _ in shards):
            raise RecordError(f"{self.name}: {_EXPECTED}")
        self.urls = [_beside(self.name, url) for url, _ in shards]
        self.shard_sizes = [count for _, count in shards]
        self._places = Places(self.shard_sizes)

    def __len__(self) -> int:
        return len(self._places)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_shards": OrderedDict()}

    def _shard(self, place: int) -> "_Shard":
        shard = self._shards.get(place)
        if shard is None:
            if place in self._damaged:
                raise RecordError(self._damaged[place])
            with self._cache.open(self.urls[place]) as file:
                try:
                    shard = self._shards[place] = _Shard(file, self.urls[place], self.shard_sizes[place])
                except RecordError as error:
                    self._damaged[place] = str(error)
                    raise
            if len(self._shards) > _OPEN:
                self._shards.popitem(last=False)
        self._shards.move_to_end(place)
        return shard

    def where(self, index: int) -> str:
        place, within = self._places[index]
        return f"{self.urls[place]}: sample {within}"

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        """Encoded image and label of a sample.

        Raises:
            RecordError: its shard is damaged, or its label is no class.
            StorageError: its shard cannot be fetched.
        """
        place, within = self._places[index]
        return self._shard(place).image(within), self._label(place, within)

    def _label(self, place: int, within: int) -> int:
        label = self._shard(place).label(within)
        if not 0 <= label < self.num_classes:
            where = f"{self.urls[place]}: sample {within}"
            raise RecordError(f"{where} has label {label}, expected a class in [0, {self.num_classes})")
        return label

    def labels(self) -> np.ndarray:
        """(n,) int64 labels of all samples; every shard is fetched."""
        places = ((place, within) for place, count in enumerate(self.shard_sizes) for within in range(count))
        return np.fromiter((self._label(*place) for place in places), np.int64, len(self))

    def digest(self) -> str:
        """Alike for the same index; the shards themselves are not read."""
        names = (url.rsplit("/", 1)[-1] for url in self.urls)
        return digest(f"{self.num_classes} {self.side} {self.shard_sizes}", *names)


class _Shard:
    """A tar file's images and labels, through a memory map."""

    def __init__(self, file: BinaryIO, name: str, count: int):
        images: dict[str, tuple[int, int]] = {}  # where the bytes begin, and how many there are
        labels: dict[str, tuple[int, int]] = {}
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    key, dot, suffix = member.name.rpartition(".")
                    suffix = suffix.lower()
                    if member.isreg() and dot:
                        kind = images if is_image(member.name) else labels if suffix == "cls" else {}
                        kind[key] = (member.offset_data, member.size)
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError, OverflowError, tarfile.TarError) as error:
            raise RecordError(f"{name} is no whole tar file: {error}") from None
        if len(images) != count or images.keys() != labels.keys():
            raise RecordError(
                f"{name} has {len(images)} images and {len(labels)} labels (.cls), its index announces {count} of each"
            )
        self._name = name
        self._at = np.array([(*images[key], *labels[key]) for key in images], np.int64)
        if (self._at[:, 0] + self._at[:, 1] > len(self._map)).any():
            raise RecordError(f"{name} is cut: it ends after {len(self._map)} bytes")

    def image(self, within: int) -> bytes:
        start, size = self._at[within, :2].tolist()
        return self._map[start : start + size]

    def label(self, within: int) -> int:
        start, size = self._at[within, 2:].tolist()
        text = self._map[start : start + min(size, 20)].strip()
        if not text.isdigit():
            raise RecordError(f"{self._name}: sample {within} has label {text!r}, expected a whole number")
        return int(text)


def _beside(index: str, url: str) -> str:
    """A shard's URL, which may be relative to the index's."""
    if "://" in url:
        return url
    if index.startswith(("http://", "https://")):
        return urljoin(index, url)  # the index's own query string, a signature perhaps, is not the shard's
    return url if url.startswith("/") else index[: index.rfind("/") + 1] + url


def _load(index: str) -> dict:
    try:
        filesystem, path = fsspec.core.url_to_fs(index)
        content = filesystem.cat_file(path)
    except Exception as error:  # fsspec's drivers raise whatever their libraries do
        raise RecordError(f"{index} cannot be read: {reason(error)}") from None
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{index}: no JSON ({error}); {_EXPECTED}") from None
