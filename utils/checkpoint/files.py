"""The folder of a checkpoint: which there are, whether they are whole, what goes."""

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from utils.checkpoint.tensors import CheckpointError, TensorFile
from utils.files import file_digest

FORMAT = 3
MANIFEST, STATE, SHARED = "manifest.json", "state.json", "shared.safetensors"
_NAME = re.compile(r"step_\d{8,}")
_PART = re.compile(r"state\.json|shared\.safetensors|rank_\d+\.safetensors")


class Checkpoint:
    """An opened checkpoint: `path`, `state` (state.json), `shared` and `shards`, the tensors of each saving rank.

    Raises:
        CheckpointError: a file cannot be read, or the format is another one.
    """

    def __init__(self, path: Path):
        read_manifest(path)
        self.path, self.state = path, read_state(path)
        self.shared = TensorFile(path / SHARED)
        self.shards = [TensorFile(path / shard(rank)) for rank in range(self.state["ranks"])]

    @property
    def step(self) -> int:
        """Optimizer steps that were taken before it."""
        return self.state["step"]


def shard(rank: int) -> str:
    """The file of a rank."""
    return f"rank_{rank}.safetensors"


def place(folder: Path, step: int) -> Path:
    """The folder of a step's checkpoint."""
    return Path(folder) / f"step_{step:08d}"


def every(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first, whole or not."""
    found = [path for path in Path(folder).glob("step_*") if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step_")))


def newest_whole(paths: list[Path], check: Callable[[Path], list[str]]) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that is whole, and a line for each newer one that is not.

    Args:
        paths: checkpoints, oldest first.
        check: what is wrong with one (see `check`).

    Raises:
        CheckpointError: one was written by a newer version, which must read it.
    """
    lines: list[str] = []
    for path in reversed(paths):
        wrong = check(path)
        if not wrong:
            return path, lines
        lines.append(f"checkpoint {path} is damaged ({wrong[0]}{f' and {len(wrong) - 1} more' if wrong[1:] else ''})")
    return None, lines


def check(path: Path, part: int = 0, parts: int = 1, digests: bool = True) -> list[str]:
    """What is wrong with a checkpoint, a line for each file; empty: it is whole.

    Args:
        path: its folder.
        part, parts: look at this share of the files only, for ranks that share the work.
        digests: read the files; else their sizes are compared and no more.

    Raises:
        CheckpointError: another format.
    """
    try:
        files = read_manifest(path)
    except DamagedError as error:
        return [str(error)]
    names = sorted(files)
    missing = _expected(path, files) if part == 0 else []
    return missing + [line for name in names[part::parts] if (line := _wrong(path / name, files[name], digests))]


def _expected(path: Path, files: dict) -> list[str]:
    if not {STATE, SHARED} <= files.keys():
        return [f"{MANIFEST} does not name {STATE} and {SHARED}"]
    try:
        ranks = read_state(path)["ranks"]
    except CheckpointError:
        return []  # its size or digest says so
    lacking = next((shard(rank) for rank in range(ranks) if shard(rank) not in files), None)
    return [f"{MANIFEST} does not name {lacking}, although {ranks} ranks saved"] if lacking else []


def _wrong(file: Path, entry: dict, digests: bool) -> str | None:
    try:
        if not file.is_file():
            return f"{file.name} is missing"
        size = file.stat().st_size
        if size != entry["size"]:
            return f"{file.name} has {size} bytes, not {entry['size']}"
        if digests and file_digest(file) != entry["sha256"]:
            return f"{file.name} has another SHA-256 than when it was written"
        if digests and file.suffix == ".safetensors":
            TensorFile(file)
    except OSError as error:
        return f"{file.name} cannot be read ({error.strerror or error})"
    except CheckpointError:
        return f"{file.name} is no safetensors file"
    return None


class DamagedError(CheckpointError):
    """Not whole: an older checkpoint may do instead."""


def read_manifest(path: Path) -> dict[str, dict]:
    """File name -> {"size": bytes, "sha256": hex}.

    Raises:
        DamagedError: missing or unreadable, or it names files that a checkpoint does not have.
        CheckpointError: another format.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        version, files = manifest["format"], manifest["files"]
        entries = {name: {"size": int(f["size"]), "sha256": str(f["sha256"])} for name, f in files.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise DamagedError(f"{MANIFEST} {reason}") from None
    if version != FORMAT:
        newer = "; a newer version of this project wrote it" if isinstance(version, int) and version > FORMAT else ""
        raise CheckpointError(f"checkpoint {path} has format {version}, this version reads {FORMAT}{newer}")
    for name in entries:
        if not _PART.fullmatch(name):
            raise DamagedError(f"{MANIFEST} names {name!r}, which is no part of a checkpoint")
    return entries


def read_state(path: Path) -> dict:
    """state.json.

    Raises:
        CheckpointError: unreadable.
    """
    try:
        state = json.loads((path / STATE).read_text())
        if not isinstance(state["ranks"], int) or not isinstance(state["step"], int) or state["ranks"] < 1:
            raise ValueError("ranks and step are expected to be numbers")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"checkpoint {path}: {STATE} cannot be read ({error})") from None
    return state


def expendable(folder: Path, keep: int, keep_every: int | None = None) -> list[Path]:
    """All but the newest `keep` checkpoints and each `keep_every`-th of the run, oldest first."""
    return [path for path in every(folder)[:-keep] if not (keep_every and number(path) % keep_every == 0)]


def prune(folder: Path, keep: int, keep_every: int | None = None) -> None:
    """Remove the expendable checkpoints."""
    for path in expendable(folder, keep, keep_every):
        remove(path)


def number(path: Path) -> int:
    """Which checkpoint of its run it is, from 1; 1 too where that cannot be read."""
    try:
        return int(read_state(path)["number"])
    except (CheckpointError, KeyError, TypeError, ValueError):
        return 1


def remove(path: Path) -> None:
    """Remove a checkpoint; one that is half removed must not look like a damaged one.

    What cannot go yet (NFS keeps files that are open) is a leftover.
    """
    hidden = path.with_name(f".{path.name}.removed")
    shutil.rmtree(hidden, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):  # somebody else has removed it
        path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def leftovers(folder: Path) -> list[Path]:
    """What a process is about to write or to remove, or was when it was killed."""
    return sorted(Path(folder).glob(".step_*"))


def remove_leftovers(folder: Path) -> None:
    """What a killed process had begun to write or to remove; no process may be at it now."""
    for path in leftovers(folder):
        shutil.rmtree(path, ignore_errors=True)
