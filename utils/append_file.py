"""A file that grows while a program runs, and can be made anew at any moment."""

import contextlib
import errno
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from utils.files import replacing


class AppendFile:
    """Pieces of bytes, all of them in memory and in a file.

    A piece is in the file when `update` returns: there is no buffer and no thread that could fail later. After a call
    that raised, and after someone removed the file, `update` writes the whole file.

    Args:
        path: the file; what is there stays until the first `update`.
        pieces: what it begins with.
    """

    def __init__(self, path: Path, pieces: Iterable[bytes] = ()):
        self.path, self.pieces = path, list(pieces)
        self._file: io.FileIO | None = None
        self._written, self._size = 0, 0  # pieces and bytes in the file

    def update(self) -> bool:
        """Write the pieces that are not in the file yet; returns whether the file was gone and is made anew.

        Raises:
            OSError: it cannot be written; says why and what to do. A part of a piece may be in the file.
        """
        gone = self._is_gone()
        with self._closed_on_error():
            file = self._file
            if gone or file is None:
                try:
                    file = self._write_anew()
                except FileNotFoundError:  # the folder is being removed
                    file = self._write_anew()
            content = b"".join(self.pieces[self._written :])
            _write(file, content)
            self._written, self._size = len(self.pieces), self._size + len(content)
        return gone

    def sync(self) -> None:
        """`update`, and return when all is on the disk itself.

        Raises:
            OSError: as `update`.
        """
        self.update()
        assert self._file is not None  # opened by `update`
        with self._closed_on_error():
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; `update` would write it anew.

        Raises:
            OSError: as `update`.
        """
        if self._file is not None:
            file, self._file = self._file, None
            with _explained(self.path):
                file.close()

    def _is_gone(self) -> bool:
        """Removed, cut, or another file in its place."""
        if self._file is None:
            return False
        try:
            return self.path.stat().st_size != self._size  # not every file system keeps a file's inode number
        except OSError:
            return True

    def _write_anew(self) -> io.FileIO:
        """All pieces take the place of what is there, at once; the folder is made if it is not there."""
        with contextlib.suppress(OSError):  # what could not be written of it is written now
            self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = b"".join(self.pieces)
        with replacing(self.path) as beside, beside.open("wb", buffering=0) as file:
            _write(file, content)
            os.fsync(file.fileno())
        _sync_folder(self.path.parent)
        self._file = self.path.open("ab", buffering=0)
        self._written, self._size = len(self.pieces), len(content)
        return self._file

    @contextlib.contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            with _explained(self.path):
                yield
        except OSError:
            with contextlib.suppress(OSError):
                self.close()
            raise


def _write(file: io.FileIO, content: bytes) -> None:
    while content:
        content = content[file.write(content) :]  # a disk that is nearly full takes a part


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "mend that"
        reason = error.strerror or error
        raise OSError(f"{path} cannot be written: {reason}; {remedy} and start again with the same command") from None


def _sync_folder(path: Path) -> None:
    """The names of new files outlive a power cut; not every file system can."""
    folder = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(folder)
    finally:
        os.close(folder)
