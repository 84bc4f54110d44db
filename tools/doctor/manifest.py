"""SHA-256 of the files of a set, in the format of coreutils' `sha256sum`: `cd DIR && sha256sum -c FILE`."""

import hashlib
import re
from pathlib import Path

from tqdm import tqdm

from tools.doctor.findings import Findings
from utils.files import replacing
from utils.workers import ordered_map

NAMES = ("SHA256SUMS", "manifest.sha256")  # looked for in the set
_LINE = re.compile(r"(\\?)([0-9a-f]{64}) [ *](.+)")


def files_of(root: Path) -> list[Path]:
    """Every file below `root`, in name order, without hidden ones and manifests."""
    inside = (path for path in root.rglob("*") if path.is_file() and path.name not in NAMES)
    return sorted(path for path in inside if not any(p.startswith(".") for p in path.relative_to(root).parts))


def write(file: Path, root: Path, leave_out: list[Path], workers: int) -> int:
    """Write the sums of the files below `root`, except those of `leave_out`; returns how many.

    Raises:
        OSError: a file cannot be read or written.
    """
    out = {path.resolve() for path in [file, *leave_out]}
    paths = [path for path in files_of(root) if path.resolve() not in out]
    with replacing(file) as beside, beside.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as text:
        for path, digest in zip(paths, _digests(paths, workers), strict=True):
            name = path.relative_to(root).as_posix()
            plain = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
            text.write(f"{'' if plain == name else chr(92)}{digest}  {plain}\n")
    return len(paths)


def check(file: Path, root: Path, workers: int, findings: Findings) -> dict:
    """Compare the files below `root` with a manifest.

    Returns:
        {"file", "files": how many it lists, "differing": names, "missing": names}

    Raises:
        ValueError: not a manifest.
        OSError: it cannot be read.
    """
    listed = _read(file)
    there = {name: root / name for name in listed if (root / name).is_file()}
    missing = [name for name in listed if name not in there]
    found = zip(there, _digests(list(there.values()), workers), strict=True)
    differing = [name for name, digest in found if digest != listed[name]]
    for name in differing:
        findings.add("manifest", "error", f"{name} differs from {file.name}", [name])
    for name in missing:
        findings.add("manifest", "error", f"{name} of {file.name} is missing", [name])
    return {"file": str(file), "files": len(listed), "differing": differing, "missing": missing}


def _read(file: Path) -> dict[str, str]:
    listed = {}
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="surrogateescape").splitlines(), 1):
        match = _LINE.fullmatch(line)
        if not match:
            raise ValueError(f"manifest {file}: line {number} is not 'sha256  name'; expected what sha256sum prints")
        escaped, digest, name = match.groups()
        if escaped:
            name = re.sub(r"\\(.)", lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[1]), name)
        listed[name] = digest
    return listed


def _digests(paths: list[Path], workers: int):
    with tqdm(total=sum(path.stat().st_size for path in paths), unit="B", unit_scale=True, disable=None) as bar:
        bar.set_description("sha256")
        few = min(workers, len(paths)) if len(paths) > 1 else 0
        for path, digest in zip(
            paths, ordered_map(_digest, paths, few, chunk=1 if len(paths) < 64 else 32), strict=True
        ):
            bar.update(path.stat().st_size)
            yield digest


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            total.update(piece)
    return total.hexdigest()
