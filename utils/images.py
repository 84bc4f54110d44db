"""Which files of a folder are images that are read, by their names."""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
_OTHERS = (".webp", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".tif", ".tiff", ".gif", ".pgm", ".ppm")


def is_image(name: str | PurePath) -> bool:
    """By its suffix, in any case."""
    return str(name).lower().endswith(SUFFIXES)


def passed_over(place: object, names: Iterable[str | PurePath]) -> str | None:
    """A line that says how many of the files in `place` are images of formats that are not read; None: none is."""
    others = (text for name in names if (text := str(name).lower()).endswith(_OTHERS))  # millions of names, few others
    counts = Counter(PurePath(text).suffix for text in others)
    if not counts:
        return None
    said = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common())
    return f"{place}: {said} passed over, only {', '.join(SUFFIXES)} are read; convert them"
