"""`./run.sh doctor`: what it finds on machines that lack something, and what it says to do."""

import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.conftest import ROOT
from utils.machine import GIB, OK, PROBLEM, WARNING, gpu, resources, software
from utils.machine.__main__ import main

CPU = {"version": "2.6.0", "cuda": None, "hip": None, "gpus": [], "nccl": None, "gloo": True}
BUILT = CPU | {"cuda": "12.8", "nccl": "2.26.2"}
CUDA = BUILT | {"gpus": [["A100", 80 * GIB]] * 2}
DRIVER = {"gpus": ["GPU 0", "GPU 1"], "driver": "535.1", "cuda": "12.8"}


def test_a_healthy_machine(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "ask_torch", lambda: CUDA)
    monkeypatch.setattr(gpu, "ask_driver", lambda: DRIVER)
    monkeypatch.setattr(resources, "SHARED", 0)  # this machine's own, and its disk, may be anything
    assert main(["--output", str(tmp_path / "not" / "yet")]) == 0
    lines = capsys.readouterr().out.splitlines()
    for what in (
        "Python",
        "packages",
        "names",
        "PyTorch",
        "GPU",
        "NCCL",
        "CPU",
        "memory",
        "shared memory",
        "open files",
    ):
        assert [line for line in lines if line[9:24].strip() == what and line.split()[0] in (OK, WARNING)]
    assert lines[-1].startswith("problems: 0, ") and not list(tmp_path.iterdir())


def test_a_problem_is_the_exit_code(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "ask_torch", lambda: {"error": "libcudart.so.12: cannot open shared object file"})
    monkeypatch.setattr(gpu, "ask_driver", lambda: None)
    assert main(["--output", str(tmp_path)]) == 1
    assert "problem  PyTorch        does not work: libcudart.so.12: cannot open" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--workers", "-1"], ["data/demo"], ["--output"]])
def test_mistakes_are_one_line(capsys, words):
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and not said.out


def test_it_runs_where_no_package_is_installed(tmp_path):
    """-S: no site-packages, hence no pip either."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")\n")
    words = [sys.executable, "-S", str(ROOT / "utils" / "machine"), "--output", str(tmp_path)]
    environment = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == ""
    assert "problem  packages" in done.stdout and "does not work: ModuleNotFoundError: No module" in done.stdout


def test_whoever_reads_it_may_stop(tmp_path):
    command = f"{sys.executable} -m utils.machine --output {tmp_path} | head -n 1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == "" and done.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("torch", "driver", "level", "said"),
    [
        (CUDA, DRIVER, OK, "2 x A100 of 80 GiB"),
        (CUDA, DRIVER | {"gpus": ["GPU"] * 8}, WARNING, "the driver has 8; CUDA_VISIBLE_DEVICES hides the others"),
        (CPU, None, WARNING, "training uses the CPU"),
        (CPU, DRIVER, PROBLEM, "2 are there, and this PyTorch is for CPUs only"),
        (CPU, {"error": "couldn't communicate with the NVIDIA driver"}, PROBLEM, "nvidia-smi fails: couldn't"),
        (BUILT, DRIVER | {"gpus": []}, WARNING, "docker run --gpus all"),
        (
            BUILT,
            DRIVER | {"cuda": "12.2"},
            PROBLEM,
            "PyTorch is built for CUDA 12.8, and driver 535.1 knows up to 12.2",
        ),
        (BUILT, DRIVER | {"cuda": "13.0"}, PROBLEM, "the driver has 2, and PyTorch sees none"),
    ],
)
def test_gpus(torch, driver, level, said):
    (found,) = [finding for finding in gpu.findings(torch, driver) if finding.what == "GPU"]
    assert found.level == level and said in str(found)


@pytest.mark.parametrize(("what", "nothing"), [("NCCL", {"nccl": None}), ("gloo", {"gloo": False})])
def test_several_gpus_need_both(what, nothing):
    (found,) = [finding for finding in gpu.findings(CUDA | nothing, DRIVER) if finding.what == what]
    assert found.level == PROBLEM


@pytest.mark.parametrize("torch", [CPU, CUDA | {"gpus": CUDA["gpus"][:1]}])
def test_one_process_needs_no_gloo(torch):
    (found,) = [finding for finding in gpu.findings(torch | {"gloo": False}, None) if finding.what == "gloo"]
    assert found.level == WARNING


def test_the_driver_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.ask_driver() is None
    (tmp_path / "nvidia-smi").write_text(
        '#!/bin/sh\n[ -n "$1" ] && echo "GPU 0: A100 (UUID: x)" && exit\n'
        'echo "| NVIDIA-SMI 550.54.15    Driver Version: 550.54.15    CUDA Version: 12.4 |"\n'
    )
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert gpu.ask_driver() == {"gpus": ["GPU 0: A100 (UUID: x)"], "driver": "550.54.15", "cuda": "12.4"}
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho NVIDIA-SMI has failed\nexit 9\n")
    assert gpu.ask_driver() == {"error": "NVIDIA-SMI has failed"}


def test_python_and_packages(tmp_path):
    assert software.python((3, 11, 7)).level == OK
    for version in ((3, 9, 1), (3, 14, 0)):
        assert software.python(version).level == PROBLEM
    (tmp_path / "requirements.txt").write_text("numpy>=99\n")
    found = software.packages(tmp_path)
    assert found.level == PROBLEM and "is not >=99" in found.found
    (tmp_path / "requirements.txt").write_text("numpy>=1\n")
    assert software.packages(tmp_path).level == OK


def test_another_distribution_with_a_module_of_ours(tmp_path, monkeypatch):
    owners = {"utils": ["qgface", "some-utils"]}
    assert software.names(ROOT, owners).level == OK  # in a checkout its own modules come first
    monkeypatch.setattr(software.project, "is_checkout", lambda root: False)
    found = software.names(ROOT, owners)
    assert found.level == PROBLEM and "some-utils also has a module utils" in found.found
    assert software.names(ROOT, {"utils": ["QGFace"]}).level == OK
    found = software.names(tmp_path, {"configs": ["theirs"]})
    assert found.level == PROBLEM and "import configs gives the module of theirs" in found.found


def test_the_locale():
    assert software.encoding("UTF-8").level == software.encoding("utf8").level == OK
    assert software.encoding("ANSI_X3.4-1968").level == WARNING


@pytest.mark.parametrize(
    "files",
    [{"cpu.max": "150000 100000"}, {"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}],
)
def test_a_container_with_fewer_cores(tmp_path, monkeypatch, files):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(resources.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda pid: set(range(64)))
    found = resources.cores(1, 2, tmp_path)
    assert found.level == WARNING and "1.5 of 64 cores" in found.found and "OMP_NUM_THREADS=1" in found.mend
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert resources.cores(1, 2, tmp_path).level == OK


def test_memory_of_a_container(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 99999999 kB\nMemAvailable: 50331648 kB\n")
    assert str(resources.memory(tmp_path, tmp_path / "meminfo")) == "ok       memory         48.0 GiB free"
    (tmp_path / "memory.max").write_text(f"{3 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{GIB}\n")
    found = resources.memory(tmp_path, tmp_path / "meminfo")
    assert (found.level, found.found) == (WARNING, "2.0 GiB free in this container")
    (tmp_path / "memory.max").write_text("max\n")
    assert resources.memory(tmp_path, tmp_path / "meminfo").level == OK


def test_shared_memory_matters_between_gpus(monkeypatch):
    sizes = SimpleNamespace(total=64 * 2**20, used=0, free=64 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: (sizes.total, sizes.used, sizes.free))
    assert resources.shared_memory(1).level == OK
    found = resources.shared_memory(2)
    assert found.level == PROBLEM and "--shm-size" in found.mend


def test_open_files():
    assert resources.open_files((1024, 4096)).level == OK
    assert "ulimit -n" in resources.open_files((256, 4096)).mend
    assert "administrator" in resources.open_files((256, 256)).mend


def test_a_folder_that_cannot_be_used(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (found,) = resources.folder(tmp_path / "file" / "run")
    assert found.level == PROBLEM and f"{tmp_path / 'file'} cannot be written" in found.found
    monkeypatch.setattr(resources, "PROBE", 2**60)
    (found,) = resources.folder(tmp_path)
    assert found.level == PROBLEM and "make room" in found.mend


def test_a_slow_disk(tmp_path, monkeypatch):
    ticks = iter([0.0, 4.0])
    monkeypatch.setattr(resources, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    monkeypatch.setattr(resources, "file_system", lambda place: "nfs4")
    found = list(resources.folder(tmp_path))[-1]
    assert (
        found.level == WARNING and "8 MiB/s written, a network disk; a checkpoint of 1 GiB takes 128 s" in found.found
    )


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path):
    (tmp_path / "mounts").write_text(f"/dev/a / ext4 rw\nserver:/x {tmp_path} nfs4 rw\n/dev/b {tmp_path}s xfs rw\n")
    assert resources.file_system(tmp_path, tmp_path / "mounts") == "nfs4"
    assert resources.file_system(tmp_path.parent, tmp_path / "mounts") == "ext4"
    assert resources.file_system(tmp_path, tmp_path / "nothing") == "unknown"
