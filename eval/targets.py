"""Targets by name: what is in a data folder, opened and checked.

| name | what it is | where |
|---|---|---|
| `scface` | eval.scface | `scface/` or `SCface_database/`, or the folder itself |
| `tinyface` | eval.tinyface | `tinyface/`, or the folder itself |
| `ijbb`, `ijbc` | eval.ijb | `IJBB/` or `ijbb/`, or the folder itself |
| `cross_resolution` | eval.cross_resolution of `lfw.bin`; `cross_resolution:NAME` of `NAME.bin` | |
| `surveillance:NAME` | eval.surveillance | faces as training takes them, `NAME` or `NAME.rec` |
| any other | eval.verification | `NAME.bin` |
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from eval.bins import load_bin
from eval.cross_resolution import CrossResolution
from eval.ijb.target import IJB, find_ijb
from eval.protocol import Target
from eval.scface import find_scface, open_scface
from eval.surveillance import OpenFaces, Surveillance, find_faces
from eval.tinyface import find_tinyface, open_tinyface
from eval.verification import Verification

CROSS_RESOLUTION, SURVEILLANCE = "cross_resolution", "surveillance"


class _Kind(NamedTuple):
    """How a target that is a folder is found and opened, and what is looked for."""

    find: Callable[[Path], Path | None]
    open: Callable[..., Target]
    expected: str


_KINDS = {
    "scface": _Kind(find_scface, open_scface, "scface/ or SCface_database/"),
    "tinyface": _Kind(find_tinyface, open_tinyface, "tinyface/"),
    "ijbb": _Kind(partial(find_ijb, name="ijbb"), partial(IJB, target="IJBB"), "IJBB/meta and IJBB/loose_crop"),
    "ijbc": _Kind(partial(find_ijb, name="ijbc"), partial(IJB, target="IJBC"), "IJBC/meta and IJBC/loose_crop"),
}


class Opened(NamedTuple):
    """`targets`: name -> target. `skipped`: name -> why it is not there. `wrong`: name -> what its data has wrong."""

    targets: dict[str, Target]
    skipped: dict[str, str]
    wrong: dict[str, str]


def open_targets(
    root: Path | str,
    names: Sequence[str] | None = None,
    pairs: int | None = None,
    ijb: Mapping[str, bool] | None = None,
    open_faces: OpenFaces | None = None,
) -> Opened:
    """Open targets; lists and images are checked here, before a model has worked for them.

    Args:
        root: the folder that holds them.
        names: see above; a path of a `.bin` file counts from `root` or from the current folder. None: `everything`.
        pairs: how many of its pairs `cross_resolution` takes; None: all.
        ijb: `use_norm_score`, `use_detector_score`, `with_images` of `eval.ijb.target.IJB`.
        open_faces: opens what `surveillance` takes, training's `open_source`.

    Raises:
        ValueError: two targets have one name.
    """
    root = Path(root)
    opened = Opened({}, {}, {})
    for name in everything(root) if names is None else dict.fromkeys(names):
        try:
            target, where = _open(root, name, pairs, ijb or {}, open_faces)
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
    """The names of all targets that are in `root`; not those that make theirs: `cross_resolution`, `surveillance`."""
    bins = sorted(path.stem for path in root.glob("*.bin"))
    return [*bins, *(name for name, kind in _KINDS.items() if kind.find(root))]


def _open(
    root: Path, name: str, pairs: int | None, ijb: Mapping[str, bool], open_faces: OpenFaces | None
) -> tuple[Target | None, str]:
    """The target and where it is, or None and why it is not there."""
    if name in _KINDS:
        kind = _KINDS[name]
        folder = kind.find(root)
        if folder is None:
            return None, f"no {kind.expected} in {root}"
        return kind.open(folder, **(ijb if name.startswith("ijb") else {})), str(folder)
    graded, _, of = name.partition(":")
    if graded == SURVEILLANCE:
        return _open_surveillance(root, of, open_faces)
    file = f"{(of or 'lfw') if graded == CROSS_RESOLUTION else name.removesuffix('.bin')}.bin"
    places = [root / file, Path(file)] if name.endswith(".bin") else [root / file]
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        return None, f"no {file} in {root}{_hint(root, name)}"
    if graded == CROSS_RESOLUTION:
        return CrossResolution(load_bin(path), name, pairs=pairs), str(path)
    return Verification(load_bin(path)), str(path)


def _open_surveillance(root: Path, of: str, open_faces: OpenFaces | None) -> tuple[Target | None, str]:
    if not of:
        raise ValueError("it names no faces; expected surveillance:NAME, the folder NAME or NAME.rec of faces")
    if open_faces is None:
        raise ValueError("it needs open_faces, which opens a set of faces")
    path = find_faces(root, of)
    if path is None:
        faces = [path.name.removesuffix(".rec") for path in root.iterdir()] if root.is_dir() else []
        return None, f"no {of} or {of}.rec in {root}{_nearest(of, faces)}"
    return Surveillance(open_faces(path), f"{SURVEILLANCE}:{path.name.removesuffix('.rec')}"), str(path)


def _hint(root: Path, name: str) -> str:
    return _nearest(name, [*everything(root), *_KINDS, CROSS_RESOLUTION, SURVEILLANCE])


def _nearest(name: str, names: Sequence[str]) -> str:
    """The nearest name, whatever its case."""
    known = {other.casefold(): other for other in names}
    near = difflib.get_close_matches(name.casefold(), known, 1, cutoff=0.6)
    return f"; did you mean {known[near[0]]}?" if near and known[near[0]] != name else ""
