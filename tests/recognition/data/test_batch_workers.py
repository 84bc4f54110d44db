"""The loader's processes: when they end, and what is said when one ends by itself."""

import gc
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from recognition.data.batch_workers import BatchWorkers
from tests.conftest import ROOT, is_running


def fill(task: int, images: np.ndarray) -> tuple[int, int, int]:
    """`task` rows that hold the task; which process made them."""
    if task < 0:
        raise ValueError(f"task {task} is bad")
    images[:task] = task
    return task, task, os.getpid()


def end(pids: set[int], seconds: float = 10) -> bool:
    deadline = time.time() + seconds
    while any(map(is_running, pids)) and time.time() < deadline:
        time.sleep(0.02)
    return not any(map(is_running, pids))


def pids_of(workers: BatchWorkers) -> set[int]:
    return {pid for _, (_, _, pid) in workers.run(iter([1] * 8))}


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_they_end_with_the_object(num_workers):
    """One training process may make several loaders, one after the other."""
    workers = BatchWorkers(fill, (4, 2), num_workers)
    pids = pids_of(workers)
    assert len(pids) == num_workers and all(map(is_running, pids))
    del workers
    gc.collect()
    assert end(pids)


@pytest.mark.parametrize("num_workers", [1, 3])
def test_they_end_with_a_parent_that_is_killed(num_workers):
    script = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from tests.recognition.data.test_batch_workers import BatchWorkers, fill, pids_of
workers = BatchWorkers(fill, (4, 2), {num_workers})
print(*pids_of(workers), flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pids = {int(pid) for pid in parent.stdout.readline().split()}
    assert len(pids) == num_workers
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert end(pids)


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize("pause", [0, 0.2])
def test_one_that_was_killed_is_told_of_whenever_it_is_noticed(num_workers, pause):
    """At once, while its batch is awaited; or later, when the next task is given to it."""
    workers = BatchWorkers(fill, (4, 2), num_workers)
    stream = workers.run(iter([1] * 50))
    _, (_, _, pid) = next(stream)
    time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    time.sleep(pause)
    with pytest.raises(ChildProcessError, match="a loader process ended with code -9") as caught:
        list(stream)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_results_are_in_the_order_of_the_tasks_and_have_as_many_rows_as_they_say(num_workers):
    workers = BatchWorkers(fill, (4, 2), num_workers)
    tasks = np.random.default_rng(0).integers(1, 5, 40).tolist()
    for _ in range(2):
        found = [(images.tolist(), reply[1]) for images, reply in workers.run(iter(tasks))]
        assert found == [([[task, task]] * task, task) for task in tasks]
    assert list(workers.run(iter([]))) == []


@pytest.mark.parametrize("num_workers", [1, 2])
def test_after_bad_data_the_next_run_is_whole(num_workers):
    """What was under way is thrown away, and its places are free again: also after many failures."""
    workers = BatchWorkers(fill, (4, 2), num_workers)
    for _ in range(20):
        with pytest.raises(ValueError, match="^task -1 is bad$"):
            list(workers.run(iter([1, -1, 2, 3, 4, 1])))
    assert [reply[1] for _, reply in workers.run(iter([1, 2, 3, 4]))] == [1, 2, 3, 4]
