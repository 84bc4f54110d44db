"""Shards from object storage: fetched whole through fsspec into a folder that processes share, oldest use goes first.

fsspec opens whatever it has a driver for: `https://` (package aiohttp), `s3://` (s3fs), `gs://` (gcsfs) ...
"""

import contextlib
import fcntl
import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import fsspec

from recognition.data.index import RecordError, StorageError

_COPIES = "[0-9a-f]" * 16 + "-*"  # the names of the copies: nothing else in the folder is ours to remove


class Cache:
    """Local copies of remote files; files that are local already are used where they are.

    Args:
        folder: of the copies; made when the first one comes.
        limit: bytes that the copies may take together; None: no limit. The newest copy stays whatever its size.
    """

    def __init__(self, folder: Path | None, limit: int | None = None):
        self.folder, self.limit = folder, limit

    def open(self, url: str) -> BinaryIO:
        """The content of `url` in an open local file, which can be read even when another process makes room.

        Several processes that want one at once fetch it once.

        Raises:
            RecordError: a local file that cannot be read, or a URL without a folder for its copy.
            StorageError: it cannot be fetched; says why.
        """
        if "://" not in url or url.startswith("file://"):
            try:
                return Path(url.removeprefix("file://")).open("rb")
            except OSError as error:
                raise RecordError(f"{url} cannot be read: {error.strerror or error}") from None
        if self.folder is None:
            raise RecordError(f"{url} has to be stored on a local disk while it is read: cache=FOLDER says where")
        name = hashlib.blake2b(url.encode(), digest_size=8).hexdigest() + "-" + url.rsplit("/", 1)[-1][-40:]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / f".{name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                return self._opened(url, self.folder / name)
        except Exception as error:  # fsspec's drivers raise whatever their libraries do
            raise StorageError(f"{url} cannot be fetched: {reason(error)}") from None

    def _opened(self, url: str, path: Path) -> BinaryIO:
        with contextlib.suppress(FileNotFoundError):
            file = path.open("rb")
            os.utime(file.fileno())
            return file
        beside = path.with_name(f".{path.name}.part")
        try:
            filesystem, remote = fsspec.core.url_to_fs(url)
            filesystem.get_file(remote, str(beside))
            file = beside.open("rb")
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        self._make_room(path)
        return file

    def _make_room(self, newest: Path) -> None:
        """Other processes may read what goes: their open files outlive it."""
        if self.limit is None:
            return
        copies = []
        for path in newest.parent.glob(_COPIES):
            with contextlib.suppress(FileNotFoundError):
                copies.append((path.stat().st_mtime_ns, path.stat().st_size, path))
        total = sum(size for _, size, _ in copies)
        for _, size, path in sorted(copies):
            if total <= self.limit:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                total -= size


def reason(error: Exception) -> str:
    """What a driver's exception says, in one line: some say nothing but the address, or nothing at all."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
