"""What `./run.sh doctor` looks at; only the standard library, so that it works before packages are installed."""

from typing import NamedTuple

OK, WARNING, PROBLEM = "ok", "warning", "problem"
GIB = 2**30


class Finding(NamedTuple):
    """One line: how it stands (OK, WARNING, PROBLEM), what was looked at, what was found, and how to mend it."""

    level: str
    what: str
    found: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.level:<8} {self.what:<14} {self.found}" + (f"; {self.mend}" if self.mend else "")
