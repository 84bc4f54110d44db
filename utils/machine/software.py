"""Python, the packages and the names that this project's own modules have."""

import importlib.util
import locale
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from utils import project
from utils.machine import OK, PROBLEM, WARNING, Finding

NAMES = ("configs", "eval", "qgface", "recognition", "tools", "train", "utils")
LEAST, BELOW = (3, 10), (3, 14)


def python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """The version of Python, and where it is."""
    text = ".".join(map(str, version))
    if LEAST <= version[:2] < BELOW:
        return Finding(OK, "Python", f"{text}, {sys.executable}")
    return Finding(PROBLEM, "Python", text, "install one of 3.10 to 3.13; ./run.sh takes it from the PATH")


def packages(root: Path = project.ROOT) -> Finding:
    """Whether requirements.txt is met; of an installed package its own metadata, without the extra for tests."""
    from utils.environment import missing, needed_by

    listed = root / "requirements.txt"
    try:
        lines = listed.read_text().splitlines() if listed.exists() else needed_by("qgface")
        lacking = missing(lines)
    except ImportError:
        return Finding(PROBLEM, "packages", "pip is missing", "python -m ensurepip, or apt install python3-pip")
    mend = "./run.sh setup" if project.is_checkout(root) else "pip install qgface again"
    if lacking:
        return Finding(PROBLEM, "packages", lacking, mend)
    return Finding(OK, "packages", f"all that {'requirements.txt' if listed.exists() else 'qgface'} asks for")


def names(root: Path = project.ROOT, owners: Mapping[str, list[str]] | None = None) -> Finding:
    """Whether `import utils` and the like give this project's modules, and no other distribution has their names."""
    owners = metadata.packages_distributions() if owners is None else owners
    for name in NAMES:
        spec = importlib.util.find_spec(name)
        place = Path((spec and spec.origin) or "nowhere").resolve()
        others = sorted({owner for owner in owners.get(name, ()) if owner.lower() != "qgface"})
        if not place.is_relative_to(root):
            whose = f"of {_and(others)}" if others else f"at {place}"
            return Finding(PROBLEM, "names", f"import {name} gives the module {whose}", "use a venv of its own")
        if others and not project.is_checkout(root):
            found = f"{_and(others)} also has a module {name}, and may have replaced files of ours"
            return Finding(PROBLEM, "names", found, "install qgface into a venv of its own")
    return Finding(OK, "names", f"{', '.join(NAMES)} are this project's")


def _and(words: Iterable[str]) -> str:
    return " and ".join(words)


def encoding(name: str | None = None) -> Finding:
    """What file names and printed text are written in."""
    name = name or locale.getpreferredencoding(False)
    if name.lower().replace("-", "") == "utf8":
        return Finding(OK, "locale", name)
    return Finding(
        WARNING, "locale", f"text is {name}; names in other scripts cannot be printed", "export LC_ALL=C.UTF-8"
    )
