"""Worker processes that write batches straight into memory they share with the training process.

torch's DataLoader makes a new piece of shared memory for each batch; having the kernel clear its pages takes a quarter
of the time that two views take. Here a few slots are filled again and again. They are anonymous memory, inherited by
fork, so a container's small /dev/shm does not matter.
"""

import contextlib
import itertools
import math
import mmap
import multiprocessing
import signal
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess

import numpy as np
import torch

from utils.workers import deaf, one_thread, start_worker

_Worker = tuple[ForkProcess, Connection]
PREFETCH = 2  # batches under way for each worker


class BatchWorkers:
    """Processes that live until the object goes, and make batches in the order of the tasks.

    Args:
        fill: `fill(task, images) -> reply` writes a batch into uint8 `images` of at least as many rows as it has, and
            returns what else there is to tell, its number of rows first. Bad data is a ValueError.
        shape: of the largest batch.
        num_workers: processes, at least 1.

    Raises:
        ValueError: this system cannot fork.
    """

    def __init__(self, fill, shape: tuple[int, ...], num_workers: int):
        if "fork" not in multiprocessing.get_all_start_methods():
            raise ValueError(f"num_workers={num_workers}: this system cannot fork processes; use num_workers=0")
        one_thread()
        self._limit = PREFETCH * num_workers
        slots = self._limit + 2  # and the batch the caller has, and the one it gets
        memory = mmap.mmap(-1, slots * math.prod(shape))
        self._slots = np.frombuffer(memory, np.uint8).reshape(slots, *shape)
        self._free = list(range(slots))
        self._under_way: deque[tuple[_Worker, int]] = deque()  # who makes which slot
        context = multiprocessing.get_context("fork")
        self._workers: list[_Worker] = []
        weakref.finalize(self, _stop, self._workers)
        with _interrupt_held_back():
            for _ in range(num_workers):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, fill, self._slots), daemon=True)
                with deaf():
                    process.start()
                theirs.close()
                self._workers.append((process, ours))

    def run(self, tasks: Iterator) -> Iterator[tuple[torch.Tensor, tuple]]:
        """(images, reply) of each task. What an earlier run left under way is thrown away.

        The images lie in a slot as long as any tensor of them lives; where no slot would be left, they are a copy.

        Raises:
            ValueError: bad data, whichever process met it.
            ChildProcessError: a worker ended.
        """
        while self._under_way:
            self._free.append(self._receive()[0])
        turn = itertools.cycle(self._workers)
        while True:
            while self._free and len(self._under_way) < self._limit and (task := next(tasks, None)) is not None:
                slot, worker = self._free.pop(), next(turn)
                with contextlib.suppress(ConnectionError):  # one that has ended is told of where its batch is awaited
                    worker[1].send((slot, task))
                self._under_way.append((worker, slot))
            if not self._under_way:
                return
            slot, reply = self._receive()
            if isinstance(reply, str):
                self._free.append(slot)
                raise ValueError(reply)
            yield self._images(slot, reply[0]), reply

    def _receive(self) -> tuple[int, tuple | str]:
        (process, connection), slot = self._under_way.popleft()
        try:
            if connection in wait([connection, process.sentinel]):
                return slot, connection.recv()
        except (EOFError, ConnectionError):
            pass
        process.join()
        raise ChildProcessError(
            f"a loader process ended with code {process.exitcode}: -9 is often too little memory, -7 a failing disk or "
            "a file that was cut meanwhile; num_workers=0 shows more"
        )

    def _images(self, slot: int, rows: int) -> torch.Tensor:
        images = self._slots[slot][:rows]
        if not self._free:
            self._free.append(slot)
            return torch.from_numpy(images.copy())
        weakref.finalize(images, self._free.append, slot).atexit = False
        return torch.from_numpy(images)  # which keeps the array, and so the slot


def _stop(workers: list) -> None:
    """Say so: a closed pipe tells a worker nothing while processes that were forked later hold copies of its end."""
    for _, connection in workers:
        with contextlib.suppress(ConnectionError):
            connection.send(None)
        connection.close()


def _serve(connection: Connection, fill, slots: np.ndarray) -> None:
    start_worker()
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, ConnectionError):  # the training process is gone
        while (order := connection.recv()) is not None:
            slot, task = order
            try:
                reply = fill(task, slots[slot])
            except ValueError as error:
                reply = str(error)
            connection.send(reply)


@contextlib.contextmanager
def _interrupt_held_back() -> Iterator[None]:
    """Ctrl-C waits until the workers have started: one that hits a fork gets lost here and is shown by the worker."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held = []
    earlier = signal.signal(signal.SIGINT, lambda *_: held.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)
    if held:
        raise KeyboardInterrupt
