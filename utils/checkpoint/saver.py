"""Saving while training goes on: tensors are copied at once, a thread of each rank writes the copies."""

import atexit
import contextlib
import errno
import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from utils import parallel
from utils.checkpoint.files import FORMAT, MANIFEST, SHARED, STATE, check, place, prune, remove, remove_leftovers, shard
from utils.checkpoint.tensors import sync, write_tensors
from utils.files import file_digest

Tensors = Mapping[str, torch.Tensor | list[torch.Tensor]]  # a list: pieces, one after the other
Copies = dict[str, torch.Tensor]
PATIENCE = 60.0  # seconds that a shared file system may take to show a file to another rank
LINGER = 5.0  # seconds that a process which ends by an error gives to the checkpoint under way
# how a folder that is being removed shows: one rank has just made it for another, or it lies on NFS
GONE = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.ESTALE}


class Saver:
    """Writes checkpoints from all ranks together; one at a time is under way.

    The ranks' threads meet through the file system, which they share anyway: each leaves the digest of its file beside
    it, and rank 0 completes the checkpoint when all are there.

    Args:
        folder: of the checkpoints; made when it is needed.
        keep, keep_every: see `prune`.
        done: called on rank 0, in its thread, with a checkpoint's copy of `shared` when it is complete.
    """

    def __init__(
        self, folder: Path, keep: int, keep_every: int | None = None, done: Callable[[Copies], None] | None = None
    ):
        self.folder, self.keep, self.keep_every, self.done = Path(folder), keep, keep_every, done
        self.rank, self.ranks = parallel.rank(), parallel.world_size()
        if self.rank == 0:
            remove_leftovers(self.folder)
        self._token = parallel.token()
        self._copies: Copies = {}
        self._job: tuple | None = None
        self._thread: threading.Thread | None = None
        self._written, self._all_written, self._abandoned = (threading.Event() for _ in range(3))
        self.error: Exception | None = None

    def save(self, step: int, shared: Tensors, sharded: Tensors, state: dict) -> None:
        """Copy everything and return; the disk is written meanwhile. All ranks together.

        Args:
            step: optimizer steps that were taken.
            shared: what is equal on all ranks; rank 0's is written.
            sharded: this rank's part.
            state: what else there is to tell, as JSON; rank 0's is written.

        Raises:
            OSError: the checkpoint before this one could not be written.
        """
        self.finish()
        shared = self._copy("shared", shared) if self.rank == 0 else {}
        text = json.dumps({**state, "step": step, "ranks": self.ranks}, indent=1)
        self._start((step, shared, self._copy("own", sharded), text))

    def finish(self) -> None:
        """Wait until what is under way is on the disk. All ranks together.

        Raises:
            OSError: it is not; on all ranks alike.
        """
        while self._thread is not None:
            self._written.wait()
            if self.check():
                self._all_written.set()
                self._thread.join()  # rank 0 completes it
                if self.check():
                    self._thread = None
                    atexit.unregister(self._linger)

    def _linger(self) -> None:
        """What ends this process may have nothing to do with the checkpoint under way, which is good."""
        with contextlib.suppress(KeyboardInterrupt):
            if self._thread is not None:
                self._thread.join(LINGER)

    def check(self) -> bool:
        """Has no rank failed? Where the folder has disappeared, all start again: what they write is still in memory.
        All ranks together.

        Raises:
            OSError: one has, for another reason or again; on all ranks alike.
        """
        errors = [error for error in parallel.objects(self.error) if error is not None]
        if not errors:
            return True
        assert self._thread is not None and self._job is not None  # they met the error
        self._abandoned.set()
        self._thread.join()
        parallel.barrier()  # no rank writes any more
        if self.rank == 0:
            remove_leftovers(self.folder)
        if self._again and all(error.errno in GONE for error in errors):
            parallel.barrier()  # nothing of the first attempt is there
            self._start(self._job, again=False)
            return False
        step = place(self.folder, self._job[0])
        raise OSError(f"checkpoint {step} cannot be written: {errors[0].strerror or errors[0]}; earlier ones are whole")

    def _start(self, job: tuple, again: bool = True) -> None:
        self._job, self._again, self.error = job, again, None
        for event in (self._written, self._all_written, self._abandoned):
            event.clear()
        self._thread = threading.Thread(target=self._guarded, args=job, daemon=True)
        self._thread.start()
        atexit.unregister(self._linger)
        atexit.register(self._linger)

    def _copy(self, group: str, tensors: Tensors) -> Copies:
        """Copies on the host, in memory that is used again."""
        return {
            name: self._copy_of(f"{group}/{name}", value if isinstance(value, list) else [value])
            for name, value in tensors.items()
        }

    def _copy_of(self, name: str, pieces: list[torch.Tensor]) -> torch.Tensor:
        size, first = sum(piece.numel() for piece in pieces), pieces[0]
        room = self._copies.get(name)
        if room is None or len(room) < size or room.dtype != first.dtype:  # a queue has fewer rows and more
            room = self._copies[name] = torch.empty(size, dtype=first.dtype, pin_memory=first.is_cuda)
        start = 0
        for piece in pieces:
            room[start : start + piece.numel()].view(piece.shape).copy_(piece.detach())
            start += piece.numel()
        shape = first.shape if len(pieces) == 1 else (sum(map(len, pieces)), *first.shape[1:])
        return room[:size].view(shape)

    def _guarded(self, step: int, shared: Copies, own: Copies, state: str) -> None:
        try:
            attempt = self._token + ("" if self._again else ".again")  # what the first has left must not count
            self._write(self.folder / f".{place(self.folder, step).name}.{attempt}", step, shared, own, state)
        except Exception as error:  # whatever it is, the run must hear of it
            self.error = error if isinstance(error, OSError) else OSError(str(error))
        finally:
            self._written.set()

    def _write(self, beside: Path, step: int, shared: Copies, own: Copies, state: str) -> None:
        beside.mkdir(parents=True, exist_ok=True)
        write_tensors(beside / shard(self.rank), own)
        entry = _entry(beside / shard(self.rank))
        if self.rank != 0:
            _write_json(beside / _note(self.rank), entry)
            return
        files = {shard(0): entry}
        write_tensors(beside / SHARED, shared)
        (beside / STATE).write_text(state)
        sync(beside / STATE)
        files |= {name: _entry(beside / name) for name in (SHARED, STATE)}
        self._written.set()
        files |= {shard(rank): self._entry_of(beside, rank) for rank in range(1, self.ranks)}
        if not all((beside / name).exists() for name in files):  # another rank may have made a lost folder again
            raise FileNotFoundError(errno.ENOENT, f"a part of {beside.name} is missing")
        _write_json(beside / MANIFEST, {"format": FORMAT, "files": files})
        sync(beside)
        self._put(beside, place(self.folder, step))
        if self.done is not None:
            self.done(shared)

    def _entry_of(self, beside: Path, rank: int) -> dict:
        note, patience = beside / _note(rank), PATIENCE
        while not note.exists():
            if self._abandoned.is_set() or not beside.exists() or patience < 0:
                raise FileNotFoundError(errno.ENOENT, f"{note.name} is missing")
            time.sleep(0.02)
            patience -= 0.02 * self._all_written.is_set()
        entry = json.loads(note.read_text())
        note.unlink()
        return entry

    def _put(self, beside: Path, final: Path) -> None:
        if final.exists() and not check(final):  # a first attempt had come so far
            shutil.rmtree(beside)
        else:
            remove(final)
            beside.rename(final)
        sync(self.folder)
        prune(self.folder, self.keep, self.keep_every)


def _note(rank: int) -> str:
    return f"rank_{rank}.json"


def _entry(file: Path) -> dict:
    return {"size": file.stat().st_size, "sha256": file_digest(file)}


def _write_json(path: Path, value: dict) -> None:
    beside = path.with_name(f".{path.name}")
    beside.write_text(json.dumps(value, indent=1))
    sync(beside)
    beside.rename(path)
