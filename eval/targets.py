"""Targets by name: what is in a data folder, opened and checked.

| name | what it is | where |
|---|---|---|
| `scface` | eval.scface | `scface/` or `SCface_database/`, or the folder itself |
| `tinyface` | eval.tinyface | `tinyface/`, or the folder itself |
| `ijbb`, `ijbc` | eval.ijb | `IJBB/` or `ijbb/`, or the folder itself |
| `cross_resolution` | eval.cross_resolution of `lfw.bin`; `cross_resolution:NAME` of `NAME.bin` | |
| any other | eval.verification | `NAME.bin` |
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from eval.bins import load_bin
from eval.cross_resolution import CrossResolution
from eval.ijb.target import IJB, find_ijb
from eval.protocol import Target
from eval.scface import find_scface, open_scface
from eval.tinyface import find_tinyface, open_tinyface
from eval.verification import Verification

CROSS_RESOLUTION = "cross_resolution"


class _Kind(NamedTuple):
    """How a target that is a folder is found and opened (with its images or without), and what is looked for."""

    find: Callable[[Path], Path | None]
    open: Callable[[Path, bool], Target]
    expected: str


def _ijb(name: str) -> _Kind:
    upper = name.upper()

    def opened(folder: Path, with_images: bool) -> Target:
        return IJB(folder, upper, with_images=with_images)

    return _Kind(partial(find_ijb, name=name), opened, f"{upper}/meta and {upper}/loose_crop")


_KINDS = {
    "scface": _Kind(find_scface, lambda folder, _: open_scface(folder), "scface/ or SCface_database/"),
    "tinyface": _Kind(find_tinyface, lambda folder, _: open_tinyface(folder), "tinyface/"),
    "ijbb": _ijb("ijbb"),
    "ijbc": _ijb("ijbc"),
}


class Opened(NamedTuple):
    """`targets`: name -> target. `skipped`: name -> why it is not there. `wrong`: name -> what its data has wrong."""

    targets: dict[str, Target]
    skipped: dict[str, str]
    wrong: dict[str, str]


def open_targets(
    root: Path | str, names: Sequence[str] | None = None, pairs: int | None = None, with_images: bool = True
) -> Opened:
    """Open targets; lists and images are checked here, before a model has worked for them.

    Args:
        root: the folder that holds them.
        names: see above; a path of a `.bin` file counts from `root` or from the current folder. None: `everything`.
        pairs: how many of its pairs `cross_resolution` takes; None: all.
        with_images: False: for features made elsewhere; IJB's images need not be there.

    Raises:
        ValueError: two targets have one name.
    """
    root = Path(root)
    opened = Opened({}, {}, {})
    for name in everything(root) if names is None else dict.fromkeys(names):
        try:
            target, where = _open(root, name, pairs, with_images)
        except (ValueError, OSError) as error:
            opened.wrong[name] = str(error)
            continue
        if target is None:
            opened.skipped[name] = where
        elif target.name in opened.targets:
            raise ValueError(f"two targets are named {target.name!r}, the second is {where}; rename one")
        else:
            opened.targets[target.name] = target
    return opened


def everything(root: Path) -> list[str]:
    """The names of all targets that are in `root`; not `cross_resolution`, which takes twelve times its set's time."""
    bins = sorted(path.stem for path in root.glob("*.bin"))
    return [*bins, *(name for name, kind in _KINDS.items() if kind.find(root))]


def _open(root: Path, name: str, pairs: int | None, with_images: bool) -> tuple[Target | None, str]:
    """The target and where it is, or None and why it is not there."""
    if name in _KINDS:
        kind = _KINDS[name]
        folder = kind.find(root)
        if folder is None:
            return None, f"no {kind.expected} in {root}"
        return kind.open(folder, with_images), str(folder)
    graded, _, of = name.partition(":")
    file = f"{(of or 'lfw') if graded == CROSS_RESOLUTION else name.removesuffix('.bin')}.bin"
    places = [root / file, Path(file)] if name.endswith(".bin") else [root / file]
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        return None, f"no {file} in {root}"
    if graded == CROSS_RESOLUTION:
        return CrossResolution(load_bin(path), name, pairs=pairs), str(path)
    return Verification(load_bin(path)), str(path)
