"""The same function over many items in several processes, results in the items' order."""

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

import cv2

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, chunk: int = 32
) -> Iterator[Result]:
    """`map(function, items)` by `workers` processes; what `function` raises comes out here.

    At most four chunks for each worker are under way, so that neither items nor results pile up.

    Args:
        function: can be pickled, as can its arguments and results.
        items: taken as they are needed.
        workers: processes; 0 works in this one.
        chunk: items that a process takes at a time.

    Raises:
        ValueError: a negative number of workers.
    """
    if workers < 0:
        raise ValueError(f"workers={workers}: expected 0 (no worker processes) or more")
    if workers == 0:
        yield from map(function, items)
        return
    rest = iter(items)
    under_way: deque[Future[list[Result]]] = deque()
    one_thread()
    pool = ProcessPoolExecutor(workers, initializer=start_worker)
    try:
        while True:
            while len(under_way) < 4 * workers and (part := list(itertools.islice(rest, chunk))):
                with deaf():
                    under_way.append(pool.submit(_run, function, part))
            if not under_way:
                return
            yield from under_way.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _run(function: Callable[[Item], Result], part: list[Item]) -> list[Result]:
    return [function(item) for item in part]


def one_thread() -> None:
    """OpenCV without threads of its own, to be said before a fork: a child that reached for them would wait forever."""
    cv2.setNumThreads(1)


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """Around what forks: SIGTERM waits, and in the child so do all threads that libraries start there at the fork
    (mxnet does). One that did not would take the signal that `start_worker` blocks.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker() -> None:
    """A worker that is one thread and leaves signals to its parent, which may still want its work: Ctrl-C reaches every
    process of a terminal and Slurm's SIGTERM every process of a job. It ends when its parent says so (by SIGTERM), and
    does not outlive it: a killed parent would leave it waiting for work forever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    one_thread()
    parent = multiprocessing.parent_process()
    for function in (_end_with, _end_at_the_word_of):
        threading.Thread(target=function, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.Process) -> None:
    parent.join()
    os._exit(1)


def _end_at_the_word_of(parent: multiprocessing.Process) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent.pid:
        pass
    os._exit(0)
