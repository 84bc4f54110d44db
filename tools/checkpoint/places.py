"""Which checkpoints a path means."""

import re
from pathlib import Path

from utils.checkpoint import MANIFEST, every

SET_ASIDE = re.compile(r"(step_\d{8,})\.damaged(_\d+)?")  # see utils.resume.set_aside


def folder_of(run: Path) -> Path:
    """The folder of a run's checkpoints.

    Raises:
        ValueError: it is none.
    """
    for folder in (run / "checkpoints", run):
        if folder.is_dir() and (folder.name == "checkpoints" or every(folder)):
            return folder
    what = "is one checkpoint" if is_checkpoint(run) else "has none" if run.exists() else "does not exist"
    raise ValueError(f"{run} {what}: expected the folder of a run or its folder of checkpoints")


def is_checkpoint(path: Path) -> bool:
    """One checkpoint, whole or not, or set aside."""
    named = SET_ASIDE.fullmatch(path.name) or path in every(path.parent)
    return path.is_dir() and (bool(named) or (path / MANIFEST).exists())


def checkpoints(path: Path) -> list[Path]:
    """The one checkpoint, or all of a run, oldest first, but those that were set aside.

    Raises:
        ValueError: there is none.
    """
    if is_checkpoint(path):
        return [path]
    found = every(folder_of(path))
    if not found:
        raise ValueError(f"{path} has no checkpoint yet")
    return found


def size(path: Path) -> int:
    """Bytes of a file, or of the files in a folder; what goes meanwhile counts as nothing."""
    total = 0
    for file in path.rglob("*") if path.is_dir() else [path]:
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:
            continue
    return total


def megabytes(count: int) -> str:
    """For the user."""
    return f"{count / 1e6:,.1f} MB"
