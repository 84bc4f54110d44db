"""A temporary folder that does not outlive its process for long, even one that is killed."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A new folder in the system's place for temporary files; removed after the block.

    It is locked as long as its process lives. Folders of the same prefix that nobody has locked are what killed
    processes have left, and go first.
    """
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with _locked(path, wait=False) as is_ours:
            if is_ours:
                shutil.rmtree(path, ignore_errors=True)
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix))
        with _locked(path, wait=True):
            if not path.exists():
                continue  # another process took it for a leftover before it was locked
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)
            return


@contextlib.contextmanager
def _locked(path: Path, wait: bool) -> Iterator[bool]:
    """Whether the folder is locked for this block; False: another process has it, it is gone, or cannot be locked."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
