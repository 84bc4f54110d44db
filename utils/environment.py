"""Does this Python have what requirements.txt asks for? Exit code 0: yes; 1: no, and the first thing that is missing is
printed.

Runs before anything is installed: only the standard library and pip. mxnet is not asked for: everything works without
it.
"""

import sys
from importlib import metadata
from pathlib import Path


def missing(requirements: Path) -> str | None:
    """The first requirement this environment does not meet."""
    from pip._vendor.packaging.requirements import Requirement

    for line in requirements.read_text().splitlines():
        text = line.split("#")[0].strip()
        if not text:
            continue
        requirement = Requirement(text)
        if requirement.name == "mxnet" or (requirement.marker and not requirement.marker.evaluate()):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            return f"{requirement.name} is not installed"
        if not requirement.specifier.contains(version, prereleases=True):
            return f"{requirement.name} {version} is not {requirement.specifier}"
    return None


if __name__ == "__main__":
    if not (3, 10) <= sys.version_info < (3, 14):
        sys.exit(f"Python {sys.version.split()[0]} is not 3.10 to 3.13")
    try:
        sys.exit(missing(Path(sys.argv[1])))
    except ImportError as error:
        sys.exit(str(error))
