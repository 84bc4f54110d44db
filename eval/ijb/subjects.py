"""The lists of 1:N: who is in the two galleries, who is searched for.

`meta/ijbb_1N_gallery_S1.csv`, `..._S2.csv` (IJB-C: `_G1`, `_G2`) and `ijbb_1N_probe_mixed.csv`: a header line, then a
line for each image, template and subject first; further fields are not read.

Shapes: k templates.
"""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval.ijb.columns import MetaError
from eval.ijb.meta import rows


class Subjects(NamedTuple):
    """Templates and whom they show, rising by template."""

    template: np.ndarray  # (k,) int32, row of `Faces.templates`
    subject: np.ndarray  # (k,) int64


class SearchLists(NamedTuple):
    """1:N: each probe is searched for in the galleries, where its subject has one template."""

    galleries: tuple[Subjects, Subjects]
    probes: Subjects


def read_search(folder: Path, target: str, templates: np.ndarray) -> SearchLists | None:
    """Read the three lists of 1:N; None where none of them is there.

    Args:
        folder, target: as `eval.ijb.meta.read_faces` has found them right.
        templates: (T,) numbers of the templates that have images, rising.

    Raises:
        MetaError: one list is missing or damaged; a template has no images or two subjects; a subject has two templates
            in the galleries; a probe's subject has none.
    """
    paths = search_paths(folder, target)
    if not any(path.is_file() for path in paths):
        return None
    for path in paths:
        if not path.is_file():
            raise MetaError(path, None, "is not there, but other lists of 1:N are")
    row_of = rows(templates)
    first, second, probes = (_read(path, row_of) for path in paths)
    enrolled: dict[int, tuple[Path, int]] = {}
    for path, gallery in zip(paths, (first, second)):  # noqa: B905 the third are the probes
        for subject, line in gallery.values():
            if subject in enrolled:
                there = "{}:{}".format(*enrolled[subject])
                raise MetaError(path, line, f"subject {subject} has a second gallery template; one is in {there}")
            enrolled[subject] = path, line
    for subject, line in probes.values():
        if subject not in enrolled:
            raise MetaError(paths[2], line, f"subject {subject} is in no gallery")
    return SearchLists((_subjects(first), _subjects(second)), _subjects(probes))


def search_paths(folder: Path, target: str) -> list[Path]:
    """Where both galleries and the probes are, or should be."""
    names = ("gallery_S1", "gallery_G1"), ("gallery_S2", "gallery_G2"), ("probe_mixed",)
    return [_path(folder, target, *alternatives) for alternatives in names]


def _path(folder: Path, target: str, *names: str) -> Path:
    """The first of these lists that is there; the first where none is."""
    paths = [Path(folder) / "meta" / f"{target.lower()}_1N_{name}.csv" for name in names]
    return next((path for path in paths if path.is_file()), paths[0])


def _read(path: Path, row_of: np.ndarray) -> dict[int, tuple[int, int]]:
    """Template row -> its subject and the line that says so first."""
    found: dict[int, tuple[int, int]] = {}
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        for line, fields in enumerate(csv.reader(file), 1):
            numbers = [_whole(field) for field in fields[:2]]
            if len(numbers) < 2 or (None in numbers) != (line == 1):
                expected = (
                    "a header, TEMPLATE_ID,SUBJECT_ID,..." if line == 1 else "template and subject, whole numbers"
                )
                raise MetaError(path, line, f"{ascii(','.join(fields)[:60])}: expected {expected}")
            if line == 1:
                continue
            template, subject = (number for number in numbers if number is not None)
            row = int(row_of[min(template, len(row_of) - 1)])
            if row < 0:
                raise MetaError(path, line, f"template {template} has no images in face_tid_mid.txt")
            before = found.setdefault(row, (subject, line))
            if before[0] != subject:
                raise MetaError(
                    path, line, f"template {template} shows subject {subject}, in line {before[1]} subject {before[0]}"
                )
    if not found:
        raise MetaError(path, None, "is empty; expected a header and lines of template and subject")
    return found


def _whole(field: str) -> int | None:
    """The whole number that a field holds, None where it holds none."""
    field = field.strip()
    return int(field) if field.isascii() and field.isdigit() and len(field) < 19 else None


def _subjects(found: dict[int, tuple[int, int]]) -> Subjects:
    order = sorted(found)
    return Subjects(np.array(order, np.int32), np.array([found[row][0] for row in order], np.int64))
