"""Runs side by side, with a stand-in for run.sh that says what it was given; and whole ones, which train."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from configs import tables
from configs.tables import Column
from tests import faces
from tests.tools.ablation.test_ablation import RECIPE
from tools.ablation import jobs, slurm
from tools.ablation.__main__ import main, say
from tools.ablation.runs import Run

STAND_IN = """#!/bin/bash
trap 'echo "$BASHPID" >> "$folder/stopped"; exit 0' TERM
for word in "$@"; do case "$word" in output=*) folder="${word#output=}" ;; esac; done
mkdir -p "$folder"
echo "$NPROC $OMP_NUM_THREADS $CUDA_VISIBLE_DEVICES $NNODES" >> "$folder/places"
case "$folder" in *bad) echo "step 1"; echo "error: no such thing" >&2; exit 2 ;; esac
case "$folder" in *1st) other="${folder%1st}2nd" ;; *2nd) other="${folder%2nd}1st" ;; esac
for i in $(seq 300); do [ -e "${other:-$folder}/places" ] && break; sleep 0.1; done  # which runs at the same time
[ "$i" -lt 300 ] || exit 3
case "$folder" in *long) for i in $(seq 600); do sleep 0.1; done ;; esac
sleep 0.3
touch "$folder/results.json"
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    script = tmp_path / "run.sh"
    script.write_text(STAND_IN)
    script.chmod(0o755)
    monkeypatch.setattr(jobs, "ROOT", tmp_path)
    return tmp_path


def some(root, *names):
    return [Run(name, 0, (f"output={root / name}",), None, root / name) for name in names]


def places(root, name):
    return (root / name / "places").read_text().splitlines()


def test_a_run_for_each_place_and_a_failed_one_is_named(root):
    said, runs = [], some(root, "1st", "2nd", "bad", "four")
    side_by_side = jobs.places(["3", "5", "6", "7", "8"], 2, None, "4")
    failed, why = jobs.run_all(runs, Path("x"), side_by_side, {**os.environ, "NNODES": "2"}, said.append)
    assert [run.name for run in failed] == ["bad"] and why is None
    (line,) = [line for line in said if "failed" in line]
    assert line == f"bad seed 0: failed with exit code 2: no such thing (log {root / 'bad.log'})"
    assert {*places(root, "1st"), *places(root, "2nd")} == {"2 4 3,5 ", "2 4 6,7 "}
    assert (root / "four" / "results.json").exists() and "four seed 0: finished after 0.0 minutes" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_and_starts_no_more(root, number):
    said, runs = [], some(root, "1long", "2long", "three")
    threading.Thread(target=signal_when_started, args=(root, runs[:2], number)).start()
    failed, why = jobs.run_all(runs, Path("x"), jobs.places([], None, 2, None), os.environ, said.append)
    assert failed == [] and why in ("Ctrl-C", "SIGTERM") and not (root / "three").exists()
    for run in runs[:2]:
        assert len((run.folder / "stopped").read_text().splitlines()) == 1
        assert f"{run}: stopped and saved; the same command goes on" in said


def signal_when_started(root, runs, number):
    while not all((run.folder / "places").exists() for run in runs):
        time.sleep(0.02)
    time.sleep(0.2)
    os.kill(os.getpid(), number)


def test_a_second_interrupt_kills(root):
    (root / "run.sh").write_text(STAND_IN.replace("exit 0' TERM", "' TERM"))  # one that takes long to save
    runs = some(root, "1long")

    def twice():
        signal_when_started(root, runs, signal.SIGINT)
        time.sleep(1.2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=twice).start()
    with pytest.raises(KeyboardInterrupt):
        jobs.run_all(runs, Path("x"), jobs.places([], None, 1, None), os.environ, lambda line: None)
    pid = int((runs[0].folder / "stopped").read_text())
    assert not Path(f"/proc/{pid}").exists()


def test_nobody_listens_any_more(monkeypatch):
    """Ctrl-C also ends the `tee` behind this command."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", buffering=1) as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        say("one: started")
        monkeypatch.undo()
        with pytest.raises(BrokenPipeError):
            gone.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), write)  # for what is left at closing


def test_trouble_of_this_command_lets_runs_save(root):
    """As a full disk, where the next log cannot be opened."""
    runs = some(root, "1long", "two")
    (root / "two.log").mkdir()

    def say(line):
        while not (root / "1long" / "places").exists():
            time.sleep(0.02)

    with pytest.raises(IsADirectoryError):
        jobs.run_all(runs, Path("x"), jobs.places([], None, 2, None), os.environ, say)
    assert len((runs[0].folder / "stopped").read_text().splitlines()) == 1


def test_a_run_is_stopped_when_this_process_is_killed(root):
    (run,) = some(root, "1long")
    if not (pid := os.fork()):
        jobs.start(run, Path("x"), {}, os.environ)
        while not (run.folder / "places").exists():
            time.sleep(0.02)
        os._exit(0)
    os.waitpid(pid, 0)
    deadline = time.monotonic() + 10
    while not (run.folder / "stopped").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_places():
    cores = len(os.sched_getaffinity(0))
    assert jobs.places([], None, None, None) == [{"NPROC": "1", "OMP_NUM_THREADS": str(cores)}]
    assert jobs.places([], None, 2 * cores, None) == [{"NPROC": "1", "OMP_NUM_THREADS": "1"}] * 2 * cores
    gpus = [place["CUDA_VISIBLE_DEVICES"] for place in jobs.places(list("0123"), None, None, None)]
    assert gpus == ["0", "1", "2", "3"]
    assert [place["CUDA_VISIBLE_DEVICES"] for place in jobs.places(list("0123"), 2, 1, None)] == ["0,1"]
    for gpus, each, count in (("01", 4, None), ("0123", 2, 3)):
        with pytest.raises(ValueError, match=f"{count or 1} runs of {each} GPUs at a time: {len(gpus)} are here"):
            jobs.places(list(gpus), each, count, None)


def test_the_slurm_array(tmp_path, root):
    """Each task starts its run's words through srun; a stopped one is queued again."""
    runs = [Run(name, 1, (f"output={name}", "views=('original',)"), None, tmp_path / "runs" / name) for name in "ab"]
    text = slurm.script(runs, Path("/x/a recipe.py"), 4, 20, 2)
    assert "--array=0-1%2\n" in text and "--gpus-per-node=4 --cpus-per-task=20\n" in text
    for name in ("srun", "scontrol"):
        (tmp_path / name).write_text(
            f'#!/bin/bash\nprintf "%s\\n" {name} "$@" >> {tmp_path}/calls\nexit ${{CODE:-0}}\n'
        )
        (tmp_path / name).chmod(0o755)
    (tmp_path / "array.sbatch").write_text(text)
    for task, code in (("1", "75"), ("0", "0"), ("0", "3"), ("2", "0")):
        done = jobs.subprocess.run(
            ["bash", str(tmp_path / "array.sbatch")], stderr=-1,
            env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": task, "SLURM_JOB_ID": "9", "CODE": code},
        )  # fmt: skip
        calls = (tmp_path / "calls").read_text().splitlines() if task != "2" else []
        (tmp_path / "calls").unlink(missing_ok=True)
        words = ["./run.sh", "/x/a recipe.py", f"output={'abc'[int(task)]}", "views=('original',)"]
        expected = ["srun", "--cpus-per-task=20", *words] if task != "2" else []
        assert calls == expected + (["scontrol", "requeue", "9"] if code == "75" else [])
        assert done.returncode == (2 if task == "2" else int(code))


def test_whole_runs(tmp_path, capsys, monkeypatch):
    """Two at a time through run.sh: one trains and is in the table with hours and machine, one cannot be written."""
    faces.write_run(tmp_path)
    (tmp_path / "little.py").write_text(RECIPE)
    monkeypatch.setitem(tables.COLUMNS, "little", (Column("Pairs", ("pairs/accuracy",), "d1"),))
    monkeypatch.setitem(tables.TABLES, "X", tables.Table("Two rows", "Row", {
        "good": tables.Row({"margin": 0.3}), "torn": tables.Row({"margin": 0.2})}))  # fmt: skip
    out = tmp_path / "out"
    (out / "runs").mkdir(parents=True)
    (out / "runs" / "torn_seed3").write_text("a file where a folder should be")
    words = [f"recipe={tmp_path / 'little.py'}", f"data={tmp_path}", "tables=X", "seeds=3", "max_step=2"]
    words += ["--jobs", "2", "--output", str(out)]
    assert main(words, os.environ) == 1
    said = capsys.readouterr()
    assert said.err == "error: torn seed 3 failed\n"
    assert "torn seed 3: failed with exit code 2: " in said.out and "cannot be written" in said.out
    assert "good seed 3: finished after " in said.out
    saved = json.loads((out / "runs" / "good_seed3" / "config.json").read_text())
    assert (saved["margin"], saved["seed"], saved["val_targets"], saved["max_step"]) == (0.3, 3, ["pairs"], 2)
    results = json.loads((out / "runs" / "good_seed3" / "results.json").read_text())
    accuracy = f"{100 * results['targets']['pairs']['accuracy']:.2f}"
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in said.out.splitlines() if line.startswith("|")]
    assert ["good", f"*{accuracy}*", "1/1"] in rows and ["torn", "-", "0/1"] in rows
    (ledger,) = [row for row in rows if row[:2] == ["good", "3"]]
    assert float(ledger[2]) >= 0 and "1 x CPU of 1 threads" in ledger[3] and "torch" in ledger[3]
    before = {path: path.stat().st_mtime_ns for path in (out / "runs" / "good_seed3").rglob("*")}
    (out / "runs" / "torn_seed3").unlink()
    assert main([*words, "--slurm"], {}) == 0  # what is not finished, and nothing is started
    assert "0) set -- " in (said := capsys.readouterr().out) and "1)" not in said and "sbatch " in said
    assert before == {path: path.stat().st_mtime_ns for path in (out / "runs" / "good_seed3").rglob("*")}
