"""Folders of faces to pack, and runs that are killed."""

import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.faces import photo
from tools.pack import journal
from utils.jpeg import encode

IDENTITIES = {"cara": 3, "anna": 5, "ben": 2}  # photos; in the order of names: anna 0, ben 1, cara 2


def write_folder(root: Path, identities: dict[str, int] = IDENTITIES) -> Path:
    """`root/<name>/<number>.jpg`; the names tell the photos, so that two folders hold different ones."""
    for name, photos in identities.items():
        (root / name).mkdir(parents=True)
        for number in range(photos):
            data = encode(photo(sum(name.encode()) + len(str(root)), number), 90)
            (root / name / f"{number}.jpg").write_bytes(data)
    return root


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def killed(main: Callable[[list[str]], None], words: list[str], after: int) -> bool:
    """Run in a process that kills itself at its `after`-th change of the disk; False if it ended before that.

    It notes its progress after every image, and writes every few bytes.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _prepare(after)
            main(words)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"the run failed: {status}"
    return status == signal.SIGKILL


def _prepare(after: int) -> None:
    journal.SECONDS, journal._BUFFER, left = 0, 3000, [after]
    os.fsync = lambda file: None

    def counted(function):
        def call(*args, **options):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **options)

        return call

    for name in ("pwrite", "replace", "unlink", "ftruncate", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))
