"""Image lists (`.lst`): the two forms that exist, read and written.

    InsightFace   aligned<TAB>path<TAB>label[<TAB>4 numbers of the box[<TAB>10 of the landmarks]]
    im2rec        index<TAB>label[<TAB>label...]<TAB>path

InsightFace's (face_preprocess.parse_lst_line, face2rec2.py) has `aligned` 0 or 1, and the landmarks as x1 ... x5 y1 ...
y5. mxnet's im2rec writes labels as floats; of several the first one is the identity. The first line tells the form: its
second field is a number in im2rec's only, its last one in InsightFace's only.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.files import replacing
from utils.lists import ListError, is_number, parse_number, text_lines

MAX_LABEL = (1 << 31) - 1
FORMS = "aligned<TAB>path<TAB>label (InsightFace) or index<TAB>label<TAB>path (im2rec)"
_UNLISTABLE = re.compile(r"[\t\r\n]|\A\s|\s\Z")


class Entry(NamedTuple):
    """An image of a list.

    `name` is its path as written, `label` in [0, 2^31). `box` is left, top, right, bottom; `landmarks` is (5, 2)
    float64: x, y of eyes, nose, corners of the mouth, first those on the image's left. Both in pixels of the image,
    None if not given.
    """

    name: str
    label: int
    aligned: bool = True
    box: tuple[float, ...] | None = None
    landmarks: np.ndarray | None = None


def read_list(path: str | Path) -> Iterator[Entry]:
    """The entries of a `.lst`, in order, read as they are taken.

    Raises:
        ListError: names the file and the line, with what was expected there.
    """
    parse = None
    for number, line in text_lines(path):
        fields = [field.strip() for field in line.split("\t")]
        try:
            parse = parse or _form(fields)
            yield parse(fields)
        except ValueError as error:
            raise ListError(f"{path}: line {number}: {error}") from None


def _form(fields: list[str]):
    if len(fields) < 3:
        raise ValueError(f"expected {FORMS}, got {len(fields)} field(s): {' '.join(fields)[:60]!r}")
    second, last = is_number(fields[1]), is_number(fields[-1])
    if second == last:
        raise ValueError(
            f"expected {FORMS}; the path is the only field that is no number, got {' '.join(fields)[:60]!r}"
        )
    return _im2rec if second else _insightface


def _insightface(fields: list[str]) -> Entry:
    if len(fields) not in (3, 7, 17):
        raise ValueError(f"expected aligned, path, label and 0, 4 or 14 numbers, got {len(fields)} fields")
    aligned, name, label, *numbers = fields
    if aligned not in ("0", "1"):
        raise ValueError(f"expected aligned 0 or 1, got {aligned[:40]!r}")
    values = tuple(parse_number(number) for number in numbers)
    landmarks = np.array(values[4:]).reshape(2, 5).T.copy() if len(values) == 14 else None
    return Entry(_path(name), _label(label), aligned == "1", values[:4] or None, landmarks)


def _im2rec(fields: list[str]) -> Entry:
    if len(fields) < 3:
        raise ValueError(f"expected index<TAB>label<TAB>path, got {len(fields)} field(s)")
    index, *labels, name = fields
    parse_number(index)
    for label in labels[1:]:
        parse_number(label)
    return Entry(_path(name), _label(labels[0]))


def _path(text: str) -> str:
    if not text:
        raise ValueError("expected a path, got nothing")
    return text


def _label(text: str) -> int:
    value = parse_number(text) if is_number(text) else -1.0
    if not (value.is_integer() and 0 <= value <= MAX_LABEL):
        raise ValueError(f"expected a label in [0, {MAX_LABEL}], got {text[:40]!r}")
    return int(value)


def check_name(name: str) -> None:
    """Refuse what would not come back from a list.

    Raises:
        ListError: an empty name, one with a tab or an end of line in it, or with white space at an end.
    """
    if _UNLISTABLE.search(name) or not name:
        raise ListError(f"{name!r}: names with tabs, line ends or spaces at their ends cannot be listed; rename it")


def format_entry(entry: Entry) -> str:
    """InsightFace's line of an entry, without the line's end.

    Raises:
        ListError: see `check_name`; landmarks without a box.
    """
    check_name(entry.name)
    if entry.landmarks is not None and entry.box is None:
        raise ListError(f"{entry.name}: landmarks without a box; InsightFace's lists have the box before them")
    landmarks = () if entry.landmarks is None else np.asarray(entry.landmarks, np.float64).T.ravel()
    numbers = [f"{float(value):.10g}" for value in (*(entry.box or ()), *landmarks)]
    return "\t".join([str(int(entry.aligned)), entry.name, str(entry.label), *numbers])


def write_list(path: str | Path, entries: Iterable[Entry]) -> None:
    """Write InsightFace's form; the file appears when it is whole.

    Raises:
        ListError: see `format_entry`.
        OSError: the file cannot be written.
    """
    with replacing(Path(path)) as beside, beside.open("w", errors="surrogateescape", newline="\n") as file:
        file.writelines(f"{format_entry(entry)}\n" for entry in entries)


def write_property(path: str | Path, num_classes: int, side: int) -> None:
    """InsightFace's `property`: classes, height and width in pixels."""
    with replacing(Path(path)) as beside:
        beside.write_text(f"{num_classes},{side},{side}")
