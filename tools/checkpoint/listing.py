"""What is in a folder of checkpoints, and whether it is whole."""

import time
from pathlib import Path
from typing import NamedTuple

from prettytable import PrettyTable

from tools.checkpoint.places import SET_ASIDE, checkpoints, folder_of, is_checkpoint, megabytes, size
from utils.checkpoint import MANIFEST, CheckpointError, check, every, expendable, leftovers, read_state

UNITS = (("days", 86400), ("h", 3600), ("min", 60), ("s", 1))


class Row(NamedTuple):
    """A line of the table."""

    name: str
    step: str = ""
    epoch: str = ""
    ranks: str = ""
    size: str = ""
    saved: str = ""
    state: str = ""
    kept: str = ""


def show(path: Path, verify: bool = False) -> None:
    """Print a table of everything in a folder of checkpoints, or of one.

    Args:
        path: a run, its folder of checkpoints or one checkpoint.
        verify: hash the files; else their sizes are compared.
    """
    folder = path.parent if is_checkpoint(path) else folder_of(path)
    kept, unfinished = _kept(folder), leftovers(folder)
    entries = [path] if is_checkpoint(path) else [*kept, *sorted(set(folder.iterdir()) - set(kept))]
    rows = [_row(entry, kept, unfinished, verify) for entry in entries]
    table = PrettyTable(["", "step", "epoch", "ranks", "size", "saved", "by SHA-256" if verify else "by size", "kept"])
    table.align = "l"
    table.align["step"] = table.align["epoch"] = table.align["ranks"] = table.align["size"] = "r"
    table.add_rows(rows)
    print(table if rows else f"{folder} is empty")


def verify(paths: list[Path]) -> int:
    """Hash every file of every checkpoint; a line for each checkpoint.

    Returns:
        1 where one is not whole, else 0.
    """
    found = [checkpoint for path in paths for checkpoint in checkpoints(path)]
    bad = 0
    for path in found:
        wrong = problems(path)
        bad += bool(wrong)
        print(f"{path}  {'; '.join(wrong) or 'whole'}", flush=True)
    return int(bad > 0)


def problems(path: Path, digests: bool = True) -> list[str]:
    """What is wrong with a checkpoint; another format is, too."""
    try:
        return check(path, digests=digests)
    except CheckpointError as error:
        return [str(error).removeprefix(f"checkpoint {path} ")]


def _row(path: Path, kept: dict[Path, str], unfinished: list[Path], verify: bool) -> Row:
    about = {"name": path.name, "size": megabytes(size(path)), "saved": _saved(path)}
    if path in unfinished:
        what = "half removed" if path.name.endswith(".removed") else "half written"
        return Row(**about, state=what, kept="until the run starts again")
    if path not in kept and not is_checkpoint(path):
        return Row(**about, state="no checkpoint")
    wrong = problems(path, verify)
    more = f" and {len(wrong) - 1} more" if wrong[1:] else ""
    other = "set aside as damaged" if SET_ASIDE.fullmatch(path.name) else "under a name that no run gives"
    about |= {"state": wrong[0] + more if wrong else "whole", "kept": kept.get(path, other)}
    try:
        state = read_state(path)
    except CheckpointError:
        return Row(**about)
    return Row(**about, step=str(state["step"]), epoch=_epoch(state), ranks=str(state["ranks"]))


def _saved(path: Path) -> str:
    file = path / MANIFEST
    try:
        when = (file if file.exists() else path).stat().st_mtime
    except OSError:
        return ""
    age = max(time.time() - when, 0)
    unit, seconds = next((unit for unit in UNITS if age >= 2 * unit[1]), UNITS[-1])
    return f"{time.strftime('%Y-%m-%d %H:%M', time.localtime(when))}, {age / seconds:.0f} {unit} ago"


def _epoch(state: dict) -> str:
    """How many epochs were done."""
    try:
        config = state["config"]
        steps = state["data"]["images"] // config["total_batch_size"] // config["gradient_acc"]
        return f"{state['step'] / steps:.2f}"
    except (KeyError, TypeError, ZeroDivisionError):
        return ""


def _kept(folder: Path) -> dict[Path, str]:
    """Each checkpoint, and why it is there still, by the config of the newest that can be read."""
    found = every(folder)
    for path in reversed(found):
        try:
            config = read_state(path)["config"]
            keep, keep_every = config["keep_checkpoints"], config["keep_every"]
            gone = expendable(folder, keep, keep_every)
            break
        except (CheckpointError, KeyError, TypeError):
            continue
    else:
        return dict.fromkeys(found, "")
    newest = found[-keep:]
    return {
        path: "until the next is saved" if path in gone
        else f"keep_checkpoints={keep}" if path in newest
        else f"keep_every={keep_every}"
        for path in found
    }  # fmt: skip
