"""utils.launch: what signals do to workers, and what is left when a launcher or a worker goes. Small scripts train."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, is_running, usual_signals
from utils import launch
from utils.stop import STOPPING

# Each worker appends to its own file what it does.
WORKER = """
import os, pathlib, sys, time
from utils.stop import Stop, end_with_launcher, exit_code
how, log = sys.argv[1], pathlib.Path(sys.argv[2], os.environ["RANK"])
def tell(word):
    with log.open("a") as file: file.write(word + "\\n")
if how == "entry":
    from utils.cli import user_errors
    with user_errors():
        tell(str(os.getpid()))
        time.sleep(60)
end_with_launcher()
tell(str(os.getpid()))
if how == "imports":
    time.sleep(2)
if how == "ignorant":
    time.sleep(60)
with Stop() as stop:
    tell("ready")
    while how == "deaf" or not stop.asked():
        time.sleep(0.02)
    tell(stop.asked())
    time.sleep(1.5)
    if how == "fails":
        sys.exit(2)
    tell("saved")
    sys.exit(exit_code(stop))
"""


def start(folder: Path, how: str, *options: str, **variables: str) -> subprocess.Popen:
    (folder / "worker.py").write_text(WORKER)
    options = options or ("--standalone", "--nproc-per-node", "2")
    words = [sys.executable, str(ROOT / "utils" / "launch.py"), *options, str(folder / "worker.py"), how, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    environment |= variables
    pipes = {"stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, env=environment, start_new_session=True, preexec_fn=usual_signals, **pipes)


def told(folder: Path, rank: int) -> list[str]:
    return (folder / str(rank)).read_text().split("\n")[:-1] if (folder / str(rank)).exists() else []


def wait_until(true, seconds: float = 40) -> None:
    deadline = time.time() + seconds
    while not true():
        assert time.time() < deadline, "waited in vain"
        time.sleep(0.05)


def wait_for(word: int, folder: Path) -> None:
    """Until both workers have told this many words."""
    wait_until(lambda: all(len(told(folder, rank)) >= word for rank in range(2)))


def no_worker_is_left(folder: Path, seconds: float) -> None:
    wait_until(lambda: not any(is_running(told(folder, rank)[0]) for rank in range(2)), seconds)


@pytest.mark.parametrize(("number", "name"), [("SIGTERM", "SIGTERM"), ("SIGHUP", "SIGHUP"), ("SIGINT", "Ctrl-C")])
def test_a_signal_lets_all_workers_save(tmp_path, number, name):
    process = start(tmp_path, "asks")
    wait_for(2, tmp_path)
    os.killpg(process.pid, getattr(signal, number))
    wait_for(3, tmp_path)
    process.terminate()  # Slurm sends several
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 0 and stderr == (f"{STOPPING}\n" if name == "Ctrl-C" else "")
    assert [told(tmp_path, rank)[1:] for rank in range(2)] == [["ready", name, "saved"]] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "worker.py"]  # nothing temporary


def test_a_signal_while_workers_still_import_is_not_lost(tmp_path):
    process = start(tmp_path, "imports")
    wait_for(1, tmp_path)
    process.terminate()
    assert process.wait(20) == 0
    assert [told(tmp_path, rank)[1:] for rank in range(2)] == [["ready", "SIGTERM", "saved"]] * 2


@pytest.mark.parametrize(("said", "code"), [("75", 75), ("", 0)])
def test_a_run_that_was_stopped_can_be_told_from_one_that_has_ended(tmp_path, said, code):
    process = start(tmp_path, "asks", STOP_EXIT_CODE=said)
    wait_for(2, tmp_path)
    process.terminate()
    assert process.communicate(timeout=20) == (None, "") and process.returncode == code


def test_a_worker_that_cannot_save_is_an_error(tmp_path):
    process = start(tmp_path, "fails")
    wait_for(2, tmp_path)
    process.terminate()
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 2 and stderr.startswith("error: process ") and stderr.count("\n") == 1


def test_workers_that_had_nothing_to_save_yet_end_the_run_without_a_word(tmp_path):
    """Slurm's SIGTERM reaches every process of a job."""
    process = start(tmp_path, "ignorant")
    wait_for(1, tmp_path)
    process.terminate()
    for rank in range(2):
        os.kill(int(told(tmp_path, rank)[0]), signal.SIGTERM)
    assert process.communicate(timeout=20) == (None, "") and process.returncode == 143


def test_a_second_ctrl_c_ends_workers_that_hang(tmp_path):
    process = start(tmp_path, "deaf")
    wait_for(2, tmp_path)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=5)
    assert (process.returncode, stderr) == (130, f"{STOPPING}\n")
    no_worker_is_left(tmp_path, 1)


def test_a_stop_before_any_worker_was_started(tmp_path):
    """The other machine never comes."""
    process = start(tmp_path, "asks", "--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0")
    wait_until(lambda: list(tmp_path.glob("qgface-*")))
    time.sleep(4)  # torch is imported; both before and after that, nothing runs yet
    process.terminate()
    assert process.communicate(timeout=5) == (None, "") and process.returncode == 143


@pytest.mark.parametrize("how", ["ignorant", "entry"])
def test_workers_do_not_outlive_a_launcher_that_is_killed(tmp_path, how):
    process = start(tmp_path, how)
    wait_for(1, tmp_path)
    process.kill()
    no_worker_is_left(tmp_path, 3)
    process.communicate()


def test_a_worker_that_dies_before_the_others_meet_it_does_not_keep_them(tmp_path):
    (tmp_path / "worker.py").write_text(
        "import os, signal\n"
        "from utils import parallel\n"
        "from utils.cli import user_errors\n"
        "with user_errors():\n"
        "    if os.environ['RANK'] == '1':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    parallel.init('cpu')\n"
    )
    words = [sys.executable, str(ROOT / "utils" / "launch.py"), "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*words, str(tmp_path / "worker.py")], env=environment, capture_output=True, text=True, timeout=25
    )  # torchrun would kill the other after 30 s
    assert (done.returncode, done.stderr) == (
        1,
        "error: process 1 ended with signal SIGKILL; the others were stopped\n",
    )


def test_a_signal_while_workers_start_is_left_to_them(tmp_path):
    """They may have something to save already; before and after, nobody else would end the launcher."""
    job = launch.Job(tmp_path)
    job.starting = True
    job.note(signal.SIGTERM, None)
    assert job.stop_file.read_text() == "SIGTERM"
    idle = launch.Job(tmp_path)
    with pytest.raises(launch.Leave) as left:
        idle.note(signal.SIGTERM, None)
    assert left.value.code == 143
