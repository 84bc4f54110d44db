"""An output folder whose files appear when all of them are whole, and that a killed run leaves ready to go on with.

Files grow in a folder of the output's own. Every second they are flushed to the disk and their sizes noted; a run that
starts again cuts them to the noted sizes and goes on from there, so that the result does not depend on where it was
killed. At the end the folder says so, and the files are renamed into their places, those that make a set last.
"""

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path

SECONDS = 1.0  # between two notes: what a kill costs at most
_BUFFER = 1 << 20


class Growing:
    """A file that is only appended to, from a known size on; its errors come from `write` and `sync`, never `close`."""

    def __init__(self, path: Path, size: int = 0):
        self._file, self._size, self._waiting = os.open(path, os.O_RDWR | os.O_CREAT, 0o666), size, bytearray()
        os.ftruncate(self._file, size)

    def tell(self) -> int:
        """Bytes so far."""
        return self._size + len(self._waiting)

    def write(self, data: bytes) -> int:
        self._waiting += data
        if len(self._waiting) >= _BUFFER:
            self._flush()
        return len(data)

    def _flush(self) -> None:
        while self._waiting:
            written = os.pwrite(self._file, self._waiting, self._size)
            self._size += written
            del self._waiting[:written]

    def sync(self) -> int:
        """Bring everything to the disk; the size."""
        self._flush()
        os.fsync(self._file)
        return self._size

    def patch(self, offset: int, data: bytes) -> None:
        """Replace bytes that were written before."""
        self._flush()
        os.pwrite(self._file, data, offset)

    def close(self) -> None:
        os.close(self._file)


class Journal:
    """The unfinished set in `output`, started or found again.

    with Journal(output, "pack", stamp, arguments, existing, force) as journal:
        if not journal.finished: ...  journal.finish(names)
        journal.publish()

    Args:
        output: the folder; made if it is not there.
        tool: names the folder within it, `.TOOL-unfinished`.
        stamp: alike for the same arguments and sources.
        arguments: as the user knows them, for messages.
        patterns: file names that a finished set in `output` has.
        force: replace a finished set, drop an unfinished one of other arguments.
        in_place: other files are written into `output` itself, after a first note; nothing may be there before.

    Attributes:
        folder: where the files grow.
        notes: what was noted last; {} at the start.

    Raises:
        ValueError: the folder cannot be written, another run writes there, or something is in the way without `force`.
    """

    def __init__(
        self,
        output: Path,
        tool: str,
        stamp: str,
        arguments: str,
        patterns: tuple[str, ...],
        force: bool,
        in_place: bool = False,
    ):
        self.output, self.folder, self._patterns = output, output / f".{tool}-unfinished", patterns
        self._noted, self._in_place, self._made = 0.0, in_place, not output.exists()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / "lock").open("a")
        except OSError as error:
            raise ValueError(
                f"output folder {output} cannot be written ({error.strerror or error}); choose another with --output"
            ) from None
        try:
            self._start(stamp, arguments, force)
        except BaseException:
            self.__exit__()
            raise

    def _start(self, stamp: str, arguments: str, force: bool) -> None:
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # forked workers do not keep it, flock's they would
        except OSError:
            raise ValueError(f"{self.output}: another run is writing there; wait for it, or stop it") from None
        plan = self._read("plan.json")
        self.notes = self._read("notes.json") if plan else {}
        if plan and plan.get("stamp") != stamp:
            if self.notes.get("done") and not force:
                raise ValueError(
                    f"{self.output} holds an unfinished set of other arguments or sources ({plan.get('arguments')}); "
                    "start that one again, choose another --output, or add --force to drop it"
                )
            plan, self.notes = {}, {}
        found = self._in_the_way()
        if found and not self.finished and not force:
            if not self.notes:
                (self.folder / "plan.json").unlink(missing_ok=True)
            raise ValueError(f"{self.output} holds {found[0].name} already; choose another --output, or add --force")
        if not plan or not (self.finished or self._whole()):
            self._clear()
            self.notes = {}
            self._write("plan.json", {"stamp": stamp, "arguments": arguments})

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exception) -> None:
        self._lock.close()
        if not (self.folder / "plan.json").exists():  # nothing began: leave no trace
            with contextlib.suppress(OSError):
                (self.folder / "lock").unlink(missing_ok=True)
                self.folder.rmdir()
                if self._made:
                    self.output.rmdir()

    @property
    def finished(self) -> bool:
        return "names" in self.notes

    def due(self) -> bool:
        """Whether it is time for a note."""
        return time.monotonic() - self._noted >= SECONDS

    def note(self, notes: dict, sizes: dict[str, int]) -> None:
        """What is done, and the sizes to which the files were brought to the disk."""
        self._write("notes.json", {**notes, "sizes": sizes})
        self.notes, self._noted = {**notes, "sizes": sizes}, time.monotonic()

    def finish(self, names: list[str], notes: dict) -> None:
        """Everything is written. `names` are the set's files in the order in which they appear, what makes it a set
        last.
        """
        self.notes = {**notes, "names": names}
        self._write("notes.json", self.notes)

    def publish(self) -> None:
        """Put the files into their places; an older set's are removed first. After a kill, doing it again is safe."""
        names = self.notes["names"]
        new = {name for name in names if not (self.folder / name).exists()}  # renamed before a kill
        for path in sorted(self._existing(), key=lambda path: path.suffix in (".lst", ".idx")):
            if path.name not in new:
                path.unlink()
        for name in names:
            if name not in new:
                os.replace(self.folder / name, self.output / name)
        self._clear()
        (self.folder / "plan.json").unlink(missing_ok=True)

    def _in_the_way(self) -> list[Path]:
        if not self._in_place:
            return self._existing()
        return [] if self.notes else sorted(path for path in self.output.iterdir() if path != self.folder)

    def _existing(self) -> list[Path]:
        return sorted(path for pattern in self._patterns for path in self.output.glob(pattern))

    def _whole(self) -> bool:
        """Whether the files are at least as long as noted: a power cut may have taken what a kill cannot."""
        sizes = self.notes.get("sizes", {})
        files = {name: self.folder / name for name in sizes}
        return all(path.is_file() and path.stat().st_size >= sizes[name] for name, path in files.items())

    def _clear(self) -> None:
        (self.folder / "notes.json").unlink(missing_ok=True)  # first: they would vouch for files that are gone
        for path in self.folder.iterdir():
            if path.name not in ("lock", "plan.json"):
                path.unlink()

    def _read(self, name: str) -> dict:
        try:
            found = json.loads((self.folder / name).read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, name: str, content: dict) -> None:
        beside = self.folder / f"{name}.part"
        with beside.open("w") as file:
            file.write(json.dumps(content))
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.folder / name)
