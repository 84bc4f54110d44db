"""The folder of a run: what was in it before stays until the new run has something to put in its place."""

import atexit
import fcntl
import json
import os
import shutil
import time
from pathlib import Path

from utils import parallel
from utils.checkpoint import every
from utils.files import file_digest, replacing, writable_folder

CONTENTS = (
    *("config.json", "metrics.jsonl", "diagnostics.jsonl", "damaged.txt", "results.json", "results", "model.pt"),
    *("report.html", "checkpoints", "tensorboard"),
)
LEFTOVERS = (".*.[0-9]*.part", "*/.*.[0-9]*.part", ".writable.*", ".token.*")  # of a process that was killed
# what a run has at first
PASSING = {"config.json", "metrics.jsonl", "diagnostics.jsonl", "damaged.txt", "checkpoints", "tensorboard"}
PATIENCE, AT_ONCE = 20.0, 1.0  # seconds for the processes of a training that was stopped to end; not worth a word

locked: dict[Path, int] = {}  # the folders that this process has locked, and the handles that hold them


class RunFolder:
    """`config.json`, `metrics.jsonl`, `diagnostics.jsonl`, `results.json`, `results/`, `report.html`, `model.pt`,
    `checkpoints/`, `tensorboard/`.

    Rank 0 writes; every rank must see the same folder (on several machines: a shared file system).

    Args:
        path: the folder.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        # `.moving` holds a part of the earlier contents, `.earlier` all of them
        self._moving, self._earlier = self.path / ".moving", self.path / ".earlier"

    def _lock(self) -> None:
        """Keep other trainings out until `close` or the end of this process (rank 0); not where the file system, as
        NFS, has no locks for folders.

        Raises:
            ValueError: another training writes into the folder, and goes on doing so.
        """
        if parallel.rank() != 0 or self.path in locked or not self.path.is_dir():
            return
        handle = locked[self.path] = os.open(self.path, os.O_RDONLY)
        began, waiting = time.monotonic(), False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                waited = time.monotonic() - began
                if waited > PATIENCE:
                    self.close()
                    raise ValueError(
                        f"output folder {self.path}: another training writes into it; wait until that has ended, or "
                        f"output=FOLDER names another"
                    ) from None
            except OSError:
                return
            if waited > AT_ONCE and not waiting:
                print(f"note: another training writes into {self.path}; waiting {PATIENCE:.0f} s for its end")
                waiting = True
            time.sleep(0.1)

    def close(self) -> None:
        """Nothing more is written: another training may come."""
        if self.path in locked:
            os.close(locked.pop(self.path))

    def open(self) -> None:
        """Make the folder if it is not there; what a killed process had only begun to write goes.

        Raises:
            ValueError: it cannot be written, another training writes into it, or another rank sees another folder.
        """
        if parallel.rank() == 0:
            writable_folder(self.path)
            self._lock()
            for path in [path for pattern in LEFTOVERS for path in self.path.glob(pattern)]:
                path.unlink(missing_ok=True)
        token = self.path / f".token.{parallel.token()}"
        if parallel.rank() == 0:
            token.touch()
        parallel.barrier()
        blind = [rank for rank, sees in enumerate(parallel.objects(token.exists())) if not sees]
        if parallel.rank() == 0:
            token.unlink()
        if blind:
            raise ValueError(
                f"output folder {self.path.resolve()} of process 0 is not there for process {blind[0]}: several "
                f"machines need a shared folder; output=FOLDER names one"
            )

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def begin(self, config: dict, overwrite: bool) -> None:
        """Put earlier contents aside, if `overwrite` allows it, and write the resolved config.

        They come back if the process ends before `keep`.

        Raises:
            ValueError: the folder holds results, and `overwrite` is False.
        """
        earlier = parallel.objects([name for name in CONTENTS if (self.path / name).exists()])[0]
        if earlier and not overwrite:
            raise ValueError(
                f"{self.path} holds {', '.join(earlier)} of a run; resume='auto' continues one that has checkpoints, "
                f"output=FOLDER starts another beside it, overwrite=True replaces it"
            )
        if parallel.rank() == 0:
            _move(earlier, self.path, self._moving)
            if earlier:
                self._moving.rename(self._earlier)
            atexit.register(self.restore)
            self.write_config(config)

    def write_config(self, config: dict) -> None:
        """`config.json`, whole or not at all."""
        with replacing(self.path / "config.json") as beside:
            beside.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")

    def unfinished(self) -> dict | None:
        """The config of a run that ended before its first checkpoint and left nothing else of worth; else None."""
        found = {name for name in CONTENTS if (self.path / name).exists()}
        if "config.json" not in found or not found <= PASSING or every(self.path / "checkpoints"):
            return None
        try:
            config = json.loads((self.path / "config.json").read_text())
            return config if isinstance(config["total_batch_size"], int) else None
        except (ValueError, LookupError, TypeError):  # another program's
            return None

    def has_ended(self) -> bool:
        """Whether results.json is there, of this model.pt: the last thing that a run writes. All ranks together."""
        return parallel.objects(parallel.rank() == 0 and self._has_results())[0]

    def _has_results(self) -> bool:
        try:
            content = json.loads((self.path / "results.json").read_text())
            return content["model_digest"] == file_digest(self.path / "model.pt")
        except (OSError, ValueError, LookupError, TypeError):
            return False

    def keep(self) -> None:
        """The new run has a checkpoint: what was put aside goes (rank 0)."""
        atexit.unregister(self.restore)
        shutil.rmtree(self._earlier, ignore_errors=True)

    def restore(self) -> None:
        """A run that ended before its first checkpoint goes, and what it had put aside comes back.

        May be stopped anywhere: the next call goes on.

        Raises:
            ValueError: another training writes into the folder.
        """
        if parallel.rank() != 0:
            return
        self._lock()
        if self._earlier.exists() and every(self.path / "checkpoints"):
            self.keep()  # it was stopped between its first checkpoint and this
        if self._earlier.exists():
            for path in (self.path / name for name in CONTENTS):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            self._earlier.rename(self._moving)
        if self._moving.exists():
            _move([path.name for path in self._moving.iterdir()], self._moving, self.path)
            self._moving.rmdir()


def _move(names: list[str], source: Path, target: Path) -> None:
    if names:
        target.mkdir(exist_ok=True)
    for name in names:
        (source / name).rename(target / name)
