"""Landmarks of own photos: `path x1 y1 x2 y2 ... x5 y5` on each line, separated by tabs, commas or spaces."""

from pathlib import Path

import numpy as np

from utils.lists import ListError, is_number, parse_number, text_lines

_EXPECTED = "expected path x1 y1 ... x5 y5"


def read_landmarks(path: str | Path) -> dict[str, np.ndarray]:
    """(5, 2) float64 landmarks for each path as written; up to two lines of headings may come first (CelebA's lists
    have two). Paths may hold spaces where tabs or commas separate, or numbers follow; quotes round them are dropped.

    Raises:
        ListError: names the file and the line: not ten numbers, or a path twice (one image is one face).
    """
    found: dict[str, np.ndarray] = {}
    lines: dict[str, int] = {}
    for number, line in text_lines(path):
        separator = "\t" if "\t" in line else "," if "," in line else None
        name, *numbers = [field.strip().strip('"') for field in line.rsplit(separator, 10)]
        try:
            values = [parse_number(text) for text in numbers]
        except ValueError as error:
            if not found and number <= 2 and not any(map(is_number, numbers)):
                continue
            raise ListError(f"{path}: line {number}: {_EXPECTED}: {error}") from None
        if len(values) != 10 or not name:
            if not found and number <= 2 and not values:
                continue
            raise ListError(f"{path}: line {number}: {_EXPECTED}, got {len(values)} numbers in {line[:60]!r}")
        if name in lines:
            raise ListError(f"{path}: line {number}: {name} has landmarks in line {lines[name]}; one image is one face")
        lines[name], found[name] = number, np.array(values).reshape(5, 2)
    if not found:
        raise ListError(f"{path}: {_EXPECTED} on each line, got headings only")
    return found
