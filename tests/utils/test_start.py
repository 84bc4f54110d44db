"""utils.start: how the environment becomes torchrun's words, and what training processes are given."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from utils import start

ELASTIC = "last_call_timeout=5,keep_alive_interval=2,keep_alive_max_attempt=5"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Puts stand-ins for nvidia-smi and scontrol on a PATH that has nothing else."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(name: str, said: str, code: int = 0) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\nprintf '{said}'\nexit {code}\n")
        (tmp_path / name).chmod(0o755)

    return put


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        ([], {}, 2),
        (["device=cpu"], {}, 1),
        (["device=cpu"], {"NPROC": "3"}, 3),
        ([], {"NPROC": ""}, 2),
        ([], {"CUDA_VISIBLE_DEVICES": "0,GPU-8932f937,2"}, 3),
        ([], {"CUDA_VISIBLE_DEVICES": ""}, 1),
        ([], {"CUDA_VISIBLE_DEVICES": "-1"}, 1),
    ],
)
def test_one_process_for_each_gpu(programs, words, environment, expected):
    programs("nvidia-smi", "GPU 0: one\\n  MIG 1g.5gb\\nGPU 1: other\\n")
    assert start.processes(words, environment) == expected


def test_one_process_without_a_gpu(programs):
    assert start.processes([], {}) == 1  # no nvidia-smi
    programs("nvidia-smi", "NVIDIA-SMI has failed\\n", 9)
    assert start.processes([], {}) == 1


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "--nnodes 1 --max-restarts 0 --standalone"),
        ({"MAX_RESTARTS": "3"}, "--nnodes 1 --max-restarts 3 --standalone"),
        (
            {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "host0"},
            "--nnodes 2 --max-restarts 0 --node-rank 1 --master-addr host0 --master-port 29500",
        ),
        (
            {"SLURM_NNODES": "2", "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "node[1-2]", "MASTER_PORT": "29600"},
            "--nnodes 2 --max-restarts 0 --node-rank 0 --master-addr node1 --master-port 29600",
        ),
        (
            {"NNODES": "1:2", "MASTER_ADDR": "host0"},
            f"--nnodes 1:2 --max-restarts 3 --rdzv-backend c10d --rdzv-endpoint host0:29500 --rdzv-id qgface "
            f"--rdzv-conf {ELASTIC}",
        ),
        (
            {"NNODES": "2", "MAX_RESTARTS": "1", "RENDEZVOUS_FILE": "/shared/meeting", "SLURM_JOB_ID": "7"},
            f"--nnodes 2 --max-restarts 1 --rdzv-backend c10d --rdzv-endpoint /shared/meeting --rdzv-id 7 "
            f"--rdzv-conf {ELASTIC},store_type=file",
        ),
    ],
)
def test_machines_in_torchruns_words(programs, environment, expected):
    programs("scontrol", "node1\\nnode2\\n")
    assert start.machines(environment) == expected.split()


def test_slurm_that_does_not_answer_is_said_in_one_line(programs):
    programs("scontrol", "", 1)
    with pytest.raises(ValueError, match="the machines of the Slurm job are not known .*; MASTER_ADDR names the first"):
        start.machines({"SLURM_NNODES": "2", "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "node[1-2]"})


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setattr(start.os, "sysconf", lambda name: 12)
    given = {"MALLOC_MMAP_MAX_": "9", "OMP_NUM_THREADS": ""}
    start.prepare(given, 5)
    assert given == {
        "MALLOC_MMAP_MAX_": "9",
        "MALLOC_TRIM_THRESHOLD_": "17179869184",
        "OMP_NUM_THREADS": "2",
        "PYTHONUNBUFFERED": "1",
    }


def test_a_script_of_the_users_own_is_started_by_name(tmp_path):
    script = tmp_path / "own.py"
    said = "f\"{os.environ['WORLD_SIZE']} {sys.argv[1:]}\\n\""
    script.write_text(f"import os, sys\nfrom utils.stop import Stop\nos.write(1, {said}.encode())\n")  # in one piece
    words = [sys.executable, "-m", "utils.start", str(script), "lr=0.05"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NPROC": "2"}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout == "2 ['lr=0.05']\n" * 2, done.stderr
