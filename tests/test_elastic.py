"""Machines that leave a run and come back: two `run.sh` on this one, each with a worker of its own. A small script
stands in for train.py: it writes down how many there are, and does what it is asked.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_run_sh import free_port

pytestmark = pytest.mark.slow

# All workers agree to stop at the same step, as a training run does. One that is told to "crash" does so, once.
WORKER = """
import json, os, sys, time
import torch.distributed as dist
from utils.cli import user_errors
from utils.stop import Stop, exit_code

with user_errors(), Stop() as stop, open(sys.argv[1], "a") as log:
    dist.init_process_group("gloo")
    facts = {name: int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")}
    print(json.dumps(facts | {"pid": os.getpid(), "launcher": os.getppid()}), file=log, flush=True)
    reasons = [None]
    while not any(reasons):
        time.sleep(0.05)
        if os.path.exists(sys.argv[1] + ".crash") and os.environ["RANK"] == "1":
            os.remove(sys.argv[1] + ".crash")
            os._exit(3)
        reasons = [None] * dist.get_world_size()
        dist.all_gather_object(reasons, stop.asked())
    dist.barrier()
    dist.destroy_process_group()
    sys.exit(exit_code(stop, next(filter(None, reasons))))
"""


class Machine:
    """One `run.sh` of an elastic run, and what its workers wrote down.

    Args:
        project: a folder with run.sh and the train.py that it starts.
        words: of the command line.
        log: where workers append a JSON object each when they begin.
        variables: of the environment.
    """

    def __init__(self, project: Path, words: list[str], log: Path, **variables: str):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "NPROC": "1", **variables}
        self.command, self.log, self.process = [str(project / "run.sh"), *words], log, None

    def start(self) -> "Machine":
        self.process = subprocess.Popen(self.command, env=self.environment, stderr=subprocess.PIPE, text=True)
        return self

    def kill(self) -> None:
        """As if the power were cut: the launcher and its workers."""
        workers = [begun["pid"] for begun in read(self.log) if begun["launcher"] == self.process.pid]
        for pid in [self.process.pid, workers[-1]]:
            os.kill(pid, signal.SIGKILL)
        self.process.communicate()

    def end(self, seconds: float = 30) -> tuple[int, str]:
        """Exit code and stderr."""
        _, stderr = self.process.communicate(timeout=seconds)
        return self.process.returncode, stderr


def read(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def wait_for(log: Path, known: int, world: int, seconds: float = 60) -> list[int]:
    """Until, after the first `known` ones, a full world of this size has begun; returns its restart counts by rank."""
    deadline = time.time() + seconds
    while time.time() < deadline:
        new = [begun for begun in read(log)[known:] if begun["WORLD_SIZE"] == world]
        if len(new) == world:
            return [begun["TORCHELASTIC_RESTART_COUNT"] for begun in sorted(new, key=lambda begun: begun["RANK"])]
        time.sleep(0.1)
    raise AssertionError(f"no world of {world} after {read(log)[:known]}: {read(log)[known:]}")


@pytest.fixture
def project(tmp_path):
    shutil.copy(ROOT / "run.sh", tmp_path)
    for name in ("utils", "requirements.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "train.py").write_text(WORKER)
    return tmp_path


@pytest.fixture
def machines(project):
    """Two machines that meet at an address; whatever a test leaves running ends with it."""
    variables = {"NNODES": "1:2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    log = project / "log"
    pair = [Machine(project, [str(log)], log, **variables) for _ in range(2)]
    yield pair
    for machine in pair:
        if machine.process and machine.process.poll() is None:
            machine.process.kill()
            machine.process.communicate()


def begin(machines: list[Machine]) -> Path:
    """Start both; the first is where they meet, which is whichever listens first."""
    machines[0].start()
    deadline = time.time() + 60
    while "RENDEZVOUS_FILE" not in machines[0].environment and not listens(machines[0].environment["MASTER_PORT"]):
        assert time.time() < deadline, "nobody listens at MASTER_PORT"
        time.sleep(0.05)
    machines[1].start()
    wait_for(machines[0].log, 0, 2)
    return machines[0].log


def listens(port: str) -> bool:
    """Whether a process of this machine does; to connect would be taken for one that joins."""
    lines = [line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()]
    return any(line[3] == "0A" and int(line[1].rpartition(":")[2], 16) == int(port) for line in lines)


def test_a_machine_that_is_asked_to_leave_saves_and_the_other_goes_on(machines):
    log = begin(machines)
    known = len(read(log))
    machines[1].process.terminate()
    assert machines[1].end(10) == (0, "")
    assert wait_for(log, known, 1) == [0]  # which used up no restart
    machines[0].process.send_signal(signal.SIGINT)
    assert machines[0].end()[0] == 0


def test_the_machine_where_they_meet_cannot_be_missed(machines):
    begin(machines)
    machines[0].kill()
    code, stderr = machines[1].end()
    assert code == 1 and stderr.startswith("error: the connection to MASTER_ADDR") and stderr.count("\n") == 1


def test_any_machine_can_be_missed_where_they_meet_in_a_file(machines, tmp_path):
    for machine in machines:
        machine.environment["RENDEZVOUS_FILE"] = str(tmp_path / "meeting")
    log = begin(machines)
    machines[0].kill()
    assert wait_for(log, len(read(log)), 1) == [1]
    known = len(read(log))
    machines[0].start()
    assert sorted(wait_for(log, known, 2)) == [0, 1]  # each launcher counts its own restarts; joining is none
    for machine in machines:
        machine.process.terminate()
    assert [machine.end() for machine in machines] == [(0, "")] * 2


def test_a_worker_that_fails_is_started_again_with_all_others(machines):
    for machine in machines:
        machine.environment |= {"NNODES": "2", "MAX_RESTARTS": "1"}
    log = begin(machines)
    known = len(read(log))
    (log.parent / "log.crash").touch()
    assert wait_for(log, known, 2)[1] == 1  # the other machine may see a failure, or the first one waiting for it
    (log.parent / "log.crash").touch()
    codes = {machine.end()[0] for machine in machines}
    assert 3 in codes and 0 not in codes  # a machine that may restart no more ends the run


def test_the_workers_of_one_machine_are_started_again(machines):
    machine, log = machines[0], machines[0].log
    machine.environment |= {"NNODES": "1", "NPROC": "2", "MAX_RESTARTS": "1"}
    machine.start()
    assert wait_for(log, 0, 2) == [0, 0]
    (log.parent / "log.crash").touch()
    assert wait_for(log, 2, 2) == [1, 1]
    machine.process.terminate()
    assert machine.end() == (0, "")
