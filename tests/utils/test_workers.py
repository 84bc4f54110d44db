"""utils.workers: order, bounds and errors of the parallel map."""

import itertools
import multiprocessing
import os
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from tests.conftest import ROOT, is_running
from utils.workers import deaf, ordered_map, start_worker


def triple(number: int) -> int:
    if number == 77:
        raise ValueError("item 77 is bad")
    return 3 * number


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("count", [0, 1, 75])
def test_results_come_in_the_order_of_the_items(workers, count):
    assert list(ordered_map(triple, range(count), workers, chunk=4)) == [3 * number for number in range(count)]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_an_item_reaches_the_caller_after_the_results_before_it(workers):
    results, seen = ordered_map(triple, range(100), workers, chunk=7), []
    with pytest.raises(ValueError, match="item 77 is bad"):
        seen.extend(results)
    assert seen == [3 * number for number in range(len(seen))] and len(seen) == 77


def test_no_more_is_taken_than_the_window_holds():
    taken = itertools.count()
    results = ordered_map(triple, (next(taken) * 0 for _ in range(10_000)), 2, chunk=4)
    next(results)
    assert next(taken) <= 2 * 4 * 4 + 4
    results.close()


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(ValueError, match="workers=-1"):
        next(ordered_map(triple, [], -1))


def big(size: int) -> int:
    return int(cv2.resize(np.ones((size, size, 3), np.uint8), (500, 500)).sum())


def test_a_parent_that_used_opencvs_threads_does_not_stop_its_workers():
    script = (
        "import cv2, numpy as np; from tests.utils.test_workers import big; from utils.workers import ordered_map\n"
        "cv2.setNumThreads(4); cv2.GaussianBlur(np.ones((4000, 4000, 3), np.uint8), (9, 9), 2)\n"
        "print(sum(ordered_map(big, [600] * 8, 2, chunk=1)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout == f"{8 * 3 * 500 * 500}\n", done.stderr


def alive(number: int) -> int:
    time.sleep(60 if number else 0)
    return os.getpid()


def test_a_killed_parent_leaves_no_worker_behind():
    script = (
        "from tests.utils.test_workers import alive; from utils.workers import ordered_map\n"
        "results = ordered_map(alive, range(9), 2, chunk=1)\n"
        "print(next(results), flush=True); next(results)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while is_running(worker):
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.1)


def signalled(_: int) -> int:
    """A child of this worker signals it, as Slurm signals every process of a job."""
    subprocess.run(["sh", "-c", f"kill -TERM {os.getpid()}; kill -INT {os.getpid()}; kill -HUP {os.getpid()}"])
    return os.getpid()


def test_signals_that_reach_workers_too_are_left_to_the_parent():
    assert len(list(ordered_map(signalled, range(4), 2, chunk=1))) == 4


def test_threads_that_a_library_starts_at_the_fork_do_not_take_them():
    script = (
        "import os, threading, time; from tests.utils.test_workers import ordered_map, signalled\n"
        "sleep = lambda: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "os.register_at_fork(after_in_child=sleep)\n"
        "print(len(list(ordered_map(signalled, range(4), 2, chunk=1))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout == "4\n", done.stderr


def waits(ready) -> None:
    start_worker()
    ready.set()
    time.sleep(60)


def test_the_parents_word_ends_a_worker():
    ready = multiprocessing.Event()
    worker = multiprocessing.Process(target=waits, args=(ready,), daemon=True)
    with deaf():
        worker.start()
    assert ready.wait(20)
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0
