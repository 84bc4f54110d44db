"""What `pip install .` brings, and the files that others read: metadata, citation, container, jobs."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import BytesParser
from importlib import metadata
from pathlib import Path

import pytest

import qgface
from tests.conftest import ROOT

PARTS = ("configs", "eval", "recognition", "tools", "utils")
FILES = ("train.py", "qgface.py", "setup.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE")
OURS = [path for part in PARTS for path in (ROOT / part).rglob("*.py")] + [ROOT / "train.py", ROOT / "qgface.py"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    found = [one.version for one in metadata.distributions(name="setuptools")]  # its import would replace distutils
    if not found or int(found[0].split(".")[0]) < 77:
        pytest.skip("setuptools is missing, or older than pyproject.toml asks for")
    source, place = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for part in PARTS:
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", build, str(place)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(place.glob("*.whl"))


def test_the_wheel_has_every_module_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {path.relative_to(ROOT).as_posix() for path in OURS}


def test_its_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        found = BytesParser().parsebytes(archive.read(name))
    assert (found["Name"], found["Version"], found["License-Expression"]) == ("qgface", qgface.__version__, "MIT")
    listed = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    needed = found.get_all("Requires-Dist")
    plain = {re.match(r"[\w-]+", line)[0] for line in needed if "extra ==" not in line}
    extra = {re.match(r"[\w-]+", line)[0] for line in needed if "extra ==" in line}
    assert plain | extra == {re.match(r"[\w-]+", line)[0] for line in listed if line} and not plain & extra
    assert {"torch", "numpy", "menpo"} < plain and {"pytest", "ruff", "mxnet", "scikit-learn"} < extra


def test_the_command_works_from_the_wheel_alone(wheel, tmp_path):
    """Installed by unpacking, as pip does; its console script is `sys.exit(qgface.main())`."""
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "qgface = qgface:main" in archive.read(entry).decode()
    environment = {**os.environ, "PYTHONPATH": str(site)}
    script = "import sys, qgface; sys.exit(qgface.main())"

    def call(*words: str, **variables: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", script, *words]
        return subprocess.run(command, cwd=work, env=environment | variables, capture_output=True, text=True)

    assert call("--version").stdout == f"qgface {qgface.__version__}\n"
    assert "  train " in call("--help").stdout
    mistake = call("train", "demo", NPROC="two")
    assert (mistake.returncode, mistake.stderr) == (2, "error: NPROC=two: expected a number of processes\n")


def test_an_installed_package_keeps_its_runs_in_the_current_folder(tmp_path, monkeypatch):
    from utils import project

    assert project.home() == ROOT and project.shown("train") == "./run.sh" and project.shown("eval") == "./run.sh eval"
    assert project.training() == [str(ROOT / "run.sh")]
    monkeypatch.setattr(project, "is_checkout", lambda root=ROOT: False)
    monkeypatch.chdir(tmp_path)
    assert project.home() == tmp_path and project.shown("train") == "qgface train"
    assert project.training()[1:] == [str(ROOT / "qgface.py"), "train"]


def test_version_changelog_and_citation_agree():
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["version"] == qgface.__version__
    assert {"message", "title", "authors", "license", "preferred-citation"} < citation.keys()
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest[1] == qgface.__version__


def test_the_kubernetes_job():
    yaml = pytest.importorskip("yaml")
    service, job = yaml.safe_load_all((ROOT / "examples" / "kubernetes" / "train.yaml").read_text())
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"]
    assert environment["NNODES"] == str(spec["completions"])
    name, subdomain = environment["MASTER_ADDR"].split(".")
    assert name == f"{job['metadata']['name']}-0" and subdomain == pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    ignored = [rule for rule in spec["podFailurePolicy"]["rules"] if rule["action"] == "Ignore"]
    assert int(environment["STOP_EXIT_CODE"]) in ignored[0]["onExitCodes"]["values"]
    assert "exec ./run.sh" in container["command"][-1]
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_the_slurm_script_starts_one_run_on_each_machine(tmp_path):
    """With stand-ins for Slurm: srun starts run.sh on both, and a run that was stopped is queued again."""
    script = ROOT / "examples" / "slurm" / "train.sbatch"
    said = tmp_path / "said"
    for name, text in {
        "srun": f'echo "srun $* $STOP_EXIT_CODE" >> {said}; exit $CODE',
        "scontrol": f'echo "scontrol $*" >> {said}',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(tmp_path)}
    codes = []
    for code in ("0", "75", "2"):
        done = subprocess.run(["bash", str(script), "demo", "lr=0.1"], env=environment | {"CODE": code})
        codes.append(done.returncode)
    start = "srun ./run.sh demo lr=0.1 75"
    assert said.read_text().splitlines() == [start, start, "scontrol requeue 7", start]
    assert codes == [0, 75, 2]
    assert " --ntasks-per-node=1" in script.read_text() and "--signal=TERM@" in script.read_text()


def test_what_the_dockerfile_copies_is_there():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert copied and all((ROOT / word).exists() for word in copied)
    left_out = (ROOT / ".dockerignore").read_text().splitlines()
    assert not {Path(word).parts[0] for word in copied if word != "."} & {word.strip("/") for word in left_out}
