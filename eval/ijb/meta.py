"""The lists of IJB-B and IJB-C as InsightFace distributes them, read and checked against each other.

In a folder's `meta/` (for IJB-C `ijbc_...`):

- `ijbb_face_tid_mid.txt`: name, template and media of each image;
- `ijbb_name_5pts_score.txt`: name, five landmarks (x y in pixels of the image in `loose_crop/`), detector score; the
  same images in the same order;
- `ijbb_template_pair_label.txt`: two templates and 1 (one person) or 0, the pairs of 1:1.

The lists of 1:N are in `subjects.py`.

Shapes: n images, T templates, p pairs.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval.ijb.columns import Columns, MetaError, map_pieces, read_columns

TARGETS = ("IJBB", "IJBC")
LISTS = ("face_tid_mid.txt", "name_5pts_score.txt", "template_pair_label.txt")


class Faces(NamedTuple):
    """The images in the lists' order."""

    names: list[str]
    template: np.ndarray  # (n,) int32, row of `templates`
    media: np.ndarray  # (n,) int32
    score: np.ndarray  # (n,) float32, the detector's
    templates: np.ndarray  # (T,) int32 template numbers, rising
    landmarks: np.ndarray | None  # (n, 5, 2) float32 x, y in pixels of eyes, nose, mouth's corners; if asked for


class Pairs(NamedTuple):
    """The pairs of 1:1 in the list's order."""

    first: np.ndarray  # (p,) int32, row of `Faces.templates`
    second: np.ndarray  # (p,) int32
    issame: np.ndarray  # (p,) bool


def list_path(folder: Path, target: str, name: str) -> Path:
    """Path of a list; `list_path(folder, "IJBB", "face_tid_mid.txt")` is `folder/meta/ijbb_face_tid_mid.txt`.

    Raises:
        ValueError: an unknown target.
        MetaError: the list is not there; if those of the other target are, the message says so.
    """
    if target not in TARGETS:
        raise ValueError(f"target {target!r}: expected {' or '.join(TARGETS)}")
    path = Path(folder) / "meta" / f"{target.lower()}_{name}"
    if not path.is_file():
        other = TARGETS[1 - TARGETS.index(target)]
        if path.with_name(f"{other.lower()}_{name}").is_file():
            raise MetaError(path, None, f"is not there, but {other}'s list is; was --target {other} meant?")
        raise MetaError(path, None, "is not there; expected InsightFace's folder, with meta/ and loose_crop/")
    return path


def read_faces(folder: Path, target: str, landmarks: bool = False) -> Faces:
    """Read both lists of images.

    Args:
        landmarks: read them too, ten more columns.

    Raises:
        MetaError: a list is missing or damaged, or the lists differ in a name or in length.
    """
    expected = "image name, template, media"
    tid_mid = read_columns(list_path(folder, target, LISTS[0]), 3, expected)
    expected = "image name, ten landmark coordinates, detector score"
    points = read_columns(list_path(folder, target, LISTS[1]), 12, expected)
    names = tid_mid.texts(0)
    _same_names(tid_mid, names, points)
    templates, row = np.unique(tid_mid.integers(1), return_inverse=True)
    return Faces(
        _decoded(points, names),
        row.ravel().astype(np.int32),
        tid_mid.integers(2),
        points.floats(11),
        templates,
        np.stack([points.floats(column) for column in range(1, 11)], axis=1).reshape(-1, 5, 2) if landmarks else None,
    )


def _decoded(points: Columns, names: list[bytes]) -> list[str]:
    try:
        return b"\n".join(names).decode().split("\n")
    except UnicodeDecodeError as error:
        index = b"\n".join(names).count(b"\n", 0, error.start)
        points.refuse(index, 0, "no UTF-8")


def _same_names(tid_mid: Columns, names: list[bytes], points: Columns) -> None:
    others = points.texts(0)
    if names != others:
        for index, (name, other) in enumerate(zip(names, others)):  # noqa: B905 a longer list is told of below
            if name != other:
                line = f"line {index + 1} of {tid_mid.path.name}"
                points.refuse(index, 0, f"but {line} names {tid_mid.text(index, 0)}")
        raise MetaError(
            points.path,
            None,
            f"has {len(others)} images, but {tid_mid.path.name} has {len(names)}; is one of them cut?",
        )


def read_pairs(folder: Path, target: str, templates: np.ndarray) -> Pairs:
    """Read the pairs of 1:1.

    Args:
        templates: (T,) template numbers, rising.

    Raises:
        MetaError: the list is missing or damaged, a label is neither 0 nor 1, a template has no images, all labels are
            alike.
    """
    path, row_of = list_path(folder, target, LISTS[2]), rows(templates)

    def parse(piece: Columns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        first, second = (_rows_of(piece, column, row_of) for column in (0, 1))
        label = piece.integers(2)
        if label.max() > 1:
            piece.refuse(int((label > 1).argmax()), 2, "no label")
        return first, second, label.astype(bool)

    parts = map_pieces(path, 3, "two templates and 1 (one person) or 0", parse)
    pairs = Pairs(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    if pairs.issame.all() or not pairs.issame.any():
        raise MetaError(path, None, f"all {len(pairs.issame)} labels are {int(pairs.issame[0])}; 1:1 needs both kinds")
    return pairs


def rows(templates: np.ndarray) -> np.ndarray:
    """Row of each template number in the rising `templates`, -1 where there is none, as for the last entry."""
    row_of = np.full(int(templates[-1]) + 2, -1, np.int32)
    row_of[templates] = np.arange(len(templates), dtype=np.int32)
    return row_of


def _rows_of(piece: Columns, column: int, row_of: np.ndarray) -> np.ndarray:
    found = row_of[np.minimum(piece.integers(column), len(row_of) - 1)]
    if found.min() < 0:
        piece.refuse(int((found < 0).argmax()), column, "a template without images in face_tid_mid.txt")
    return found
