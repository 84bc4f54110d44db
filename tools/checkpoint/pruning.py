"""Making room among checkpoints."""

from pathlib import Path

from tools.checkpoint.places import folder_of, megabytes, size
from utils.checkpoint import check, every, expendable, leftovers, newest_whole, remove, remove_leftovers


def prune(path: Path, keep: int, keep_every: int | None, leftovers: bool = False, dry_run: bool = False) -> None:
    """Remove what a run with these settings would not keep, but never the newest whole checkpoint.

    Args:
        path: a run or its folder of checkpoints.
        keep, keep_every: see `utils.checkpoint.expendable`.
        leftovers: remove what is half written too. Nothing tells whether a process, perhaps on another machine, is
            still writing it: the user must know.
        dry_run: only tell.

    Raises:
        ValueError: no checkpoint is whole, or a number below 1.
    """
    for name, value in (("--keep", keep), ("--keep-every", keep_every)):
        if value is not None and value < 1:
            raise ValueError(f"{name} {value}: expected 1 or more")
    folder = folder_of(path)
    gone = _spared(folder, expendable(folder, keep, keep_every))
    room = sum(map(size, gone))
    for checkpoint in gone:
        print(f"{'would remove' if dry_run else 'removed'} {checkpoint}, {megabytes(size(checkpoint))}")
        if not dry_run:
            remove(checkpoint)
    room += _leftovers(folder, leftovers, dry_run)
    stay = len(every(folder)) - len(gone) * dry_run
    print(f"{stay} checkpoint{'s' * (stay != 1)} stay{'s' * (stay == 1)}; {megabytes(room)} {_made(dry_run)}")


def _made(dry_run: bool) -> str:
    return "would be free; nothing was removed" if dry_run else "are free again"


def _spared(folder: Path, gone: list[Path]) -> list[Path]:
    """Without the newest whole one, where none of those that stay is whole."""
    if not gone:
        return gone
    whole, notes = newest_whole([path for path in every(folder) if path not in gone], check)
    if whole is None:
        whole, more = newest_whole(gone, check)
        notes += [*more, f"{whole} stays, it is the newest whole one"]
    if whole is None:
        raise ValueError(f"no checkpoint in {folder} is whole, and nothing was removed: {notes[0]}")
    for note in notes:
        print(f"note: {note}")
    return [path for path in gone if path != whole]


def _leftovers(folder: Path, wanted: bool, dry_run: bool) -> int:
    """Remove leftovers, or tell of them; returns their bytes."""
    found = leftovers(folder)
    if not found:
        return 0
    room = sum(map(size, found))
    what = f"{len(found)} half-written or half-removed, {megabytes(room)}"
    if not wanted:
        print(f"note: {what}: they go when the run starts again, or with --leftovers if no run writes here now")
        return 0
    print(f"{'would remove' if dry_run else 'removed'} {what}")
    if not dry_run:
        remove_leftovers(folder)
    return room
