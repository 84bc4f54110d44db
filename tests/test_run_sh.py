"""`run.sh` as it is typed: help, mistakes, one and several machines, the environment it chooses."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import faces
from utils import environment

ROOT = Path(__file__).resolve().parents[1]
COMMON = ["network=tiny", "embedding_size=16", "batch_size=8", "max_step=2", "num_workers=0", "frequent=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("faces")
    faces.write_records(root, identities=5)
    (root / "run.py").write_text("from easydict import EasyDict as edict\n\nconfig = edict()\n")
    return root


def start(*words: str, **variables: str) -> subprocess.Popen:
    """run.sh in the environment that runs the tests: it satisfies requirements.txt, so no .venv is made."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "MASTER_", "NPROC"))}
    path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([str(ROOT / "run.sh"), *words], env={**kept, **path, **variables}, **pipes)


def finish(process: subprocess.Popen, timeout: int = 120) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=timeout)
    return process.returncode, stdout, stderr


def finish_all(nodes: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """What every machine of one run says; all of them must end well, and soon."""
    deadline = time.time() + 120
    while any(node.poll() is None for node in nodes) and time.time() < deadline:
        time.sleep(0.1)
    hung = [number for number, node in enumerate(nodes) if node.poll() is None]
    for node in nodes:
        node.terminate()
    answers = [finish(node) for node in nodes]
    assert not hung and [code for code, _, _ in answers] == [0, 0], (hung, answers)
    return answers


def test_help_names_every_use():
    code, stdout, _ = finish(start("help"))
    assert code == 0
    for word in (
        "CONFIG",
        "eval",
        "test",
        "setup",
        "doctor",
        "NPROC",
        "NNODES",
        "NODE_RANK",
        "MASTER_ADDR",
        "MASTER_PORT",
        "NNODES=1:2",
        "RENDEZVOUS_FILE",
        "MAX_RESTARTS",
        "STOP_EXIT_CODE",
        "Slurm",
        "Ctrl-C",
    ):
        assert word in stdout


@pytest.mark.parametrize(
    ("words", "variables", "message"),
    [
        (["dmeo"], {}, "no config 'dmeo': did you mean demo?"),
        (["demo", "lr"], {}, "expected key=value"),
        (["doctor", "--workers", "-1"], {}, "--workers -1: expected 0 or more"),
        (["doctor", "data/demo"], {}, "unrecognized arguments: data/demo; ./run.sh doctor --help shows how it is used"),
        (["demo"], {"NPROC": "two"}, "NPROC=two: expected a number of processes"),
        (["demo"], {"NNODES": "2"}, "NODE_RANK and MASTER_ADDR"),
        (["demo"], {"NNODES": "2:1"}, "NNODES=2:1: expected a number of machines, or the fewest and the most of them"),
        (["demo"], {"NNODES": "1:2"}, "MASTER_ADDR says on which machine they meet"),
        (["demo"], {"MAX_RESTARTS": "-1"}, "MAX_RESTARTS=-1: expected a number"),
        (["demo"], {"STOP_EXIT_CODE": "no"}, "STOP_EXIT_CODE=no: expected an exit code"),
        (["demo"], {"NNODES": "2", "NODE_RANK": "2", "MASTER_ADDR": "127.0.0.1"}, "NODE_RANK=2: expected 0 to 1"),
        (
            ["eval", "nowhere.pt", "--data", "nowhere", "--target", "lfw"],
            {},
            "--data nowhere: no such folder",
        ),
    ],
)
def test_mistakes_are_one_line(words, variables, message):
    code, _, stderr = finish(start(*words, **variables))
    assert code == 2 and message in stderr
    assert stderr.startswith("error: ") and stderr.count("\n") == 1


@pytest.mark.slow(longest=True)  # begins first, so that it is not left to run alone
@pytest.mark.timeout(900)
def test_the_demo_knows_people_it_has_never_seen(tmp_path):
    # one thread: two that wait for each other beside other tests take five times as long
    words = ["verbose=1000", f"output={tmp_path / 'run'}"]  # evaluated at its end alone, which changes nothing of it
    code, stdout, stderr = finish(start("demo", *words, OMP_NUM_THREADS="1"), 800)
    assert code == 0, stderr
    targets = json.loads((tmp_path / "run" / "results.json").read_text())["targets"]
    assert targets["demo"]["accuracy"] >= 0.9 and targets["demo_lq"]["accuracy"] >= 0.85
    for word in ("model ", "results ", "log ", "checkpoint ", "next "):
        assert word in stdout


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_two_machines_train_together(data, tmp_path):
    port = free_port()
    words = [str(data / "run.py"), f"rec={data}", f"output={tmp_path / 'run'}", *COMMON]
    common = {"NNODES": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    answers = finish_all([start(*words, NODE_RANK=str(rank), **common) for rank in range(2)])
    assert "on 2 x cpu" in answers[0][1] and "on 2 x cpu" not in answers[1][1]
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


def test_slurm_says_who_is_who(data, tmp_path):
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho 127.0.0.1\necho other\n")
    (tmp_path / "scontrol").chmod(0o755)
    words = [str(data / "run.py"), f"rec={data}", f"output={tmp_path / 'run'}", *COMMON]
    path = f"{Path(sys.executable).parent}{os.pathsep}{tmp_path}{os.pathsep}{os.environ['PATH']}"
    common = {"SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "node[1-2]", "MASTER_PORT": free_port(), "PATH": path}
    finish_all([start(*words, SLURM_NODEID=str(rank), **common) for rank in range(2)])
    assert json.loads((tmp_path / "run" / "config.json").read_text())["rec"] == str(data)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torch>=2.6  # reason\n\n# note\nnumpy>=1.24,<3\n", None),
        ("numpy>=99\n", "numpy .* is not >=99"),
        ("no-such-package>=1\n", "no-such-package is not installed"),
        ('no-such-package; python_version < "3.0"\nmxnet==99\n', None),
    ],
)
def test_what_an_environment_lacks_is_named(text, expected):
    found = environment.missing(text.splitlines())
    assert found is None if expected is None else re.fullmatch(expected, found)
