"""Text lists: their lines with numbers, and numbers that are numbers."""

import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path

LONGEST = 8192  # bytes of a line: two of the longest paths
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")


class ListError(ValueError):
    """A list that is missing or malformed; the message names the file and the line."""


def text_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Number and text of every line that is not blank, without the white space round it; of a binary or endless file
    no more than one line is read. Bytes that are not UTF-8 stay what they are in paths (surrogateescape).

    Raises:
        ListError: not a file of text lines, or nothing in it.
    """
    path, seen = Path(path), False
    try:
        if path.exists() and not path.is_file():
            raise ListError(f"{path} is no file; expected a text file")
        with path.open("rb") as file:
            for number in itertools.count(1):
                line = file.readline(LONGEST + 1)
                if not line:
                    break
                if len(line) > LONGEST or b"\0" in line:
                    raise ListError(f"{path}: line {number}: expected text of at most {LONGEST} bytes; is it binary?")
                text = line.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").decode(errors="surrogateescape")
                if text.strip():
                    seen = True
                    yield number, text.strip()
    except OSError as error:
        raise ListError(f"{path} cannot be read: {error.strerror or error}") from None
    if not seen:
        raise ListError(f"{path} is empty")


def parse_number(text: str) -> float:
    """A finite decimal number.

    Raises:
        ValueError: anything else, "nan", "inf" and "1_0" too.
    """
    if not _NUMBER.fullmatch(text.strip()) or not math.isfinite(value := float(text)):
        raise ValueError(f"expected a number, got {text[:40]!r}")
    return value


def is_number(text: str) -> bool:
    """Whether the text, with nothing round it, is written as a decimal number."""
    return _NUMBER.fullmatch(text) is not None
