"""Starting a training run, finding each of its processes, and waiting for their end."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from utils.project import ROOT

MARK = "QGFACE_SOAK"  # in the environment of every process of a start, by which it is found
BEGIN = re.compile(r"run     \d+ steps of \d+ images, [^\n]*?(?:from step (\d+) on[^\n]*)?\n")


class Start:
    """One start of a run through the launcher; its output goes to a file.

    Args:
        words: CONFIG and key=value, as for train.py.
        ranks: processes.
        log: file for what it prints.
        temporary: its folder for temporary files.
    """

    def __init__(self, words: list[str], ranks: int, log: Path, temporary: Path):
        self.ranks, self.log, self.mark = ranks, log, uuid.uuid4().hex
        self.startup: float | None = None  # seconds until it was seen to begin its steps
        self.memory: set[str] = set()  # files in /dev/shm that its processes were seen to use
        self._resumed_from: int | None = None
        command = [sys.executable, str(ROOT / "utils" / "launch.py"), "--standalone", "--nproc-per-node", str(ranks)]
        own = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}
        self.began = time.monotonic()
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [*command, str(ROOT / "train.py"), *words], env={**os.environ, **own, MARK: self.mark},
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def text(self) -> str:
        """What it has printed."""
        return self.log.read_text(errors="replace")

    def resumed_from(self) -> int | None:
        """The step it goes on from, 0 where it begins; None until it says so."""
        if self._resumed_from is None and (found := BEGIN.search(self.text())):
            self._resumed_from, self.startup = int(found[1] or 0), time.monotonic() - self.began
        return self._resumed_from

    def last_line(self) -> str:
        """The end of what it has printed."""
        return (self.text().strip().splitlines() or ["nothing was printed"])[-1]

    def ended(self) -> bool:
        """The launcher has; its exit code is in `process.returncode`."""
        return self.process.poll() is not None

    def finished(self) -> bool:
        """It has ended, and with it the run."""
        return self.process.returncode == 0 and "\nstopped     by " not in self.text()

    def living(self) -> dict[int, int]:
        """Its processes: process id -> parent's."""
        alive = living(self.mark)
        if self.process.poll() is None:
            alive.setdefault(self.process.pid, os.getpid())  # at its very start it has no environment to be known by
        self.memory |= shared_memory(alive)
        return alive

    def workers(self) -> list[int]:
        """Process ids of the ranks."""
        return [pid for pid, parent in self.living().items() if parent == self.process.pid]

    def loaders(self) -> list[int]:
        """Process ids of the ranks' own processes, which make batches."""
        alive = self.living()
        ranks = {pid for pid, parent in alive.items() if parent == self.process.pid}
        return [pid for pid, parent in alive.items() if parent in ranks]

    def kill(self) -> None:
        """SIGKILL to all, until none is left."""
        while alive := self.living():
            for pid in alive:
                send(pid, signal.SIGKILL)
            time.sleep(0.01)
        self.process.wait()

    def wait(self, seconds: float) -> tuple[float, list[int]]:
        """Wait until all have ended, at most `seconds`; how long that took, and who is left."""
        began = time.monotonic()
        while True:
            alive, passed = self.living(), time.monotonic() - began
            self.resumed_from()
            if not alive or passed > seconds:
                return passed, sorted(alive)
            time.sleep(0.1)


def living(mark: str) -> dict[int, int]:
    """The processes that have `mark` in their environment: process id -> parent's."""
    found, word = {}, f"{MARK}={mark}".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if word in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile, or is another user's
            continue
    return found


def send(pid: int, number: int) -> None:
    """A signal to a process that may have ended meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def shared_memory(pids: Iterable[int]) -> set[str]:
    """The files in /dev/shm that processes have in use."""
    used = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
            used |= {line.split(maxsplit=5)[5] for line in lines if "/dev/shm/" in line}
    return {path for path in used if not path.endswith(" (deleted)")}
