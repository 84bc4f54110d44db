"""Shards from object storage: fetched whole through fsspec into a folder that processes share, oldest use goes first.

fsspec opens whatever it has a driver for: `https://`, `s3://` (package s3fs), `gs://` (gcsfs), `az://` (adlfs) ...
"""

import contextlib
import fcntl
import hashlib
import os
from pathlib import Path

import fsspec

from recognition.data.index import RecordError


class Cache:
    """Local copies of remote files; files that are local already are used where they are.

    Args:
        folder: of the copies; made when the first one comes.
        limit: bytes that the copies may take together; None: no limit. The newest copy stays whatever its size.
    """

    def __init__(self, folder: Path | None, limit: int | None = None):
        self.folder, self.limit = folder, limit

    def get(self, url: str) -> Path:
        """A local file with the content of `url`; several processes that want one at once fetch it once.

        Raises:
            RecordError: it cannot be fetched; says why.
        """
        if "://" not in url:
            return Path(url)
        if self.folder is None:
            raise RecordError(f"{url} has to be stored on a local disk while it is read: cache=FOLDER says where")
        name = hashlib.blake2b(url.encode(), digest_size=8).hexdigest() + "-" + url.rsplit("/", 1)[-1][-80:]
        path = self.folder / name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / f".{name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists():
                    self._fetch(url, path)
            os.utime(path)
        except Exception as error:  # fsspec's drivers raise whatever their libraries do
            raise RecordError(f"{url} cannot be fetched: {str(error).strip() or type(error).__name__}") from None
        return path

    def _fetch(self, url: str, path: Path) -> None:
        beside = path.with_name(f".{path.name}.part")
        filesystem, remote = fsspec.core.url_to_fs(url)
        filesystem.get_file(remote, str(beside))
        os.replace(beside, path)
        self._make_room(path)

    def _make_room(self, newest: Path) -> None:
        """Other processes may read what goes: their memory maps outlive it."""
        if self.limit is None:
            return
        copies = []
        for path in self.folder.glob("[!.]*"):
            with contextlib.suppress(FileNotFoundError):
                copies.append((path.stat().st_mtime, path.stat().st_size, path))
        total = sum(size for _, size, _ in copies)
        for _, size, path in sorted(copies):
            if total <= self.limit:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                total -= size
