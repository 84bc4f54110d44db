"""The images that a set leaves out, kept while it grows and told to the user in `skipped.txt`."""

from pathlib import Path

from tools.pack.journal import Growing

GROWING, FINAL = "skipped.tsv", "skipped.txt"


class Skipped:
    """Position, name and problem of each image that was left out; `size` bytes are from an earlier run."""

    def __init__(self, folder: Path, size: int):
        self._folder, self._file = folder, Growing(folder / GROWING, size)

    def add(self, position: int, name: str, problem: str) -> None:
        self._file.write(f"{position}\t{name}\t{problem}\n".encode(errors="surrogateescape"))

    def rows(self) -> list[tuple[int, str, str]]:
        """All of them, in order."""
        self._file.sync()
        lines = (self._folder / GROWING).read_bytes().decode(errors="surrogateescape").split("\n")[:-1]
        return [(int(position), name, problem) for position, name, problem in (line.split("\t", 2) for line in lines)]

    def finish(self) -> list[str]:
        """Write `skipped.txt`, name<TAB>problem, if there is anything to say; the files' names."""
        rows = self.rows()
        text = "".join(f"{name}\t{problem}\n" for _, name, problem in rows)
        if rows:
            (self._folder / FINAL).write_bytes(text.encode(errors="surrogateescape"))
        return [FINAL] if rows else []

    def sync(self) -> dict[str, int]:
        return {GROWING: self._file.sync()}

    def close(self) -> None:
        self._file.close()
