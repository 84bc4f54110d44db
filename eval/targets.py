"""Targets by name: what is in a data folder, opened and checked."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from eval.bins import load_bin
from eval.protocol import Target
from eval.verification import Verification


class Opened(NamedTuple):
    """`targets`: name -> target. `skipped`: name -> why it is not there. `wrong`: name -> what its data has wrong."""

    targets: dict[str, Target]
    skipped: dict[str, str]
    wrong: dict[str, str]


def open_targets(root: Path | str, names: Sequence[str] | None = None) -> Opened:
    """Open targets; lists and images are checked here, before a model has worked for them.

    Args:
        root: the folder that holds them.
        names: `lfw` is `root/lfw.bin`; a path of a `.bin` file counts from `root` or from the current folder. None:
            everything that is in `root`.

    Raises:
        ValueError: two targets have one name.
    """
    root = Path(root)
    opened = Opened({}, {}, {})
    for name in everything(root) if names is None else names:
        try:
            target, where = _open(root, name)
        except (ValueError, OSError) as error:
            opened.wrong[name] = " ".join(str(error).split())
            continue
        if target is None:
            opened.skipped[name] = where
        elif target.name in opened.targets:
            raise ValueError(f"two targets are named {target.name!r}, the second is {where}; rename one")
        else:
            opened.targets[target.name] = target
    return opened


def everything(root: Path) -> list[str]:
    """The names of all targets that are in `root`."""
    return sorted(path.stem for path in root.glob("*.bin"))


def _open(root: Path, name: str) -> tuple[Target | None, str]:
    """The target and where it is, or None and why it is not there."""
    places = [root / name, Path(name)] if name.endswith(".bin") else [root / f"{name}.bin"]
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        return None, f"no {places[0].name} in {root}"
    return Verification(load_bin(path)), str(path)
