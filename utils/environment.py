"""Does this Python have what requirements.txt asks for? Exit code 0: yes; 1: no, and the first thing that is missing is
printed.

Runs before anything is installed: only the standard library and pip. mxnet is not asked for: everything works without
it.
"""

import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path


def missing(requirements: Iterable[str]) -> str | None:
    """The first requirement this environment does not meet, of the lines of a requirements.txt."""
    from pip._vendor.packaging.requirements import Requirement

    for line in requirements:
        text = line.split("#")[0].strip()
        if not text:
            continue
        requirement = Requirement(text)
        if requirement.name == "mxnet" or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            return f"{requirement.name} is not installed"
        if not requirement.specifier.contains(version, prereleases=True):
            return f"{requirement.name} {version} is not {requirement.specifier}"
    return None


def needed_by(distribution: str) -> list[str]:
    """What an installed distribution asks for; none where it is not installed."""
    try:
        return metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return []


if __name__ == "__main__":
    if not (3, 10) <= sys.version_info < (3, 14):
        sys.exit(f"Python {sys.version.split()[0]} is not 3.10 to 3.13")
    try:
        sys.exit(missing(Path(sys.argv[1]).read_text().splitlines()))
    except ImportError as error:
        sys.exit(str(error))
