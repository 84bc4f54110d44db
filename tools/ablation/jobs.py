"""Runs side by side: each through run.sh, as a user starts it, with its own GPUs or its share of the CPU's cores."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.ablation.runs import ROOT, Run
from utils import project
from utils.stop import Stop

# what belongs to the job that this command itself runs in, and must not reach the runs
OUTER = ("NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "RENDEZVOUS_FILE", "STOP_EXIT_CODE")
STOPPED = (128 + signal.SIGTERM, -signal.SIGTERM)  # exit codes of a launcher that had no run yet, and of its shell
SET_PDEATHSIG = 1  # of prctl
_libc = ctypes.CDLL(None)


class Child(NamedTuple):
    """A run that was started at a time, where its output goes, the size that had before, and its place."""

    run: Run
    process: subprocess.Popen
    log: Path
    before: int
    place: dict[str, str]
    began: float


def places(gpus: Sequence[str], gpus_per_run: int | None, jobs: int | None, threads: str | None) -> list[dict]:
    """The environment of each run that goes on at a time.

    Args:
        gpus: those that may be used; empty: on the CPU.
        gpus_per_run: of a run; None: 1.
        jobs: runs at a time; None: as many as there are GPUs for, one on a CPU.
        threads: OMP_NUM_THREADS as the user has set it; None: the cores are shared out.

    Raises:
        ValueError: fewer GPUs than that takes.
    """
    cores = len(os.sched_getaffinity(0))
    if not gpus:
        if gpus_per_run is not None:
            raise ValueError(f"--gpus-per-run {gpus_per_run}: no GPU is here, or device=cpu; leave it out")
        count = jobs or 1
        return [{"NPROC": "1", "OMP_NUM_THREADS": threads or str(max(1, cores // count))}] * count
    each = gpus_per_run or 1
    fit = len(gpus) // each
    if (jobs or 1) > fit:
        raise ValueError(
            f"{jobs or 1} runs of {each} GPUs at a time: {len(gpus)} are here; use a smaller --jobs or --gpus-per-run"
        )
    count = jobs or fit
    own = {"NPROC": str(each), "OMP_NUM_THREADS": threads or str(max(1, cores // (count * each)))}
    return [own | {"CUDA_VISIBLE_DEVICES": ",".join(gpus[i * each : (i + 1) * each])} for i in range(count)]


def run_all(
    runs: Sequence[Run], recipe: Path, places: list[dict], environment: Mapping[str, str], say: Callable[[str], None]
) -> tuple[list[Run], str | None]:
    """Start each run as soon as a place is free, and wait for all.

    A signal stops them as it stops one: they finish their step and save. A second Ctrl-C kills them.

    Returns:
        the runs that failed, and why all were stopped, None where they were not.
    """
    waiting, free, active, failed = list(runs), list(places), [], []
    told = False
    with Stop() as stop:
        try:
            while active or (waiting and not stop.asked()):
                while waiting and free and not stop.asked():
                    active.append(start(waiting.pop(0), recipe, free.pop(0), environment))
                    say(f"{active[-1].run}: started, {len(waiting)} wait; log {active[-1].log}")
                if stop.asked() and not told:
                    told = True
                    for child in active:
                        send(child, signal.SIGTERM)
                time.sleep(0.1)
                for child in [child for child in active if child.process.poll() is not None]:
                    active.remove(child)
                    free.append(child.place)
                    good, how = outcome(child, told)
                    failed += [] if good else [child.run]
                    say(f"{child.run}: {how}")
        except BaseException as trouble:  # the second Ctrl-C kills; trouble of our own is no reason to lose their work
            _end(active, signal.SIGKILL if isinstance(trouble, KeyboardInterrupt) else signal.SIGTERM)
            raise
        return failed, stop.asked()


def start(run: Run, recipe: Path, place: dict[str, str], environment: Mapping[str, str]) -> Child:
    """Begin a run, or go on with it. It gets SIGTERM when this process is gone."""
    own = {key: value for key, value in environment.items() if key not in OUTER and not key.startswith("SLURM_")}
    own["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), own.get("PATH", os.defpath)])  # this Python
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    log = run.folder.with_name(f"{run.folder.name}.log")
    with log.open("ab") as file:
        before = file.tell()
        process = subprocess.Popen(
            [*project.training(ROOT), str(recipe), *run.words], env={**own, **place}, stdin=subprocess.DEVNULL,
            stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=lambda: _libc.prctl(SET_PDEATHSIG, signal.SIGTERM),
        )  # fmt: skip
    return Child(run, process, log, before, place, time.monotonic())


def send(child: Child, number: int) -> None:
    """A signal to the launcher, or to the shell that is about to become it and what that runs."""
    if child.process.poll() is None:
        os.killpg(child.process.pid, number)


def _end(children: Sequence[Child], number: int) -> None:
    for child in children:
        send(child, number)
    for child in children:
        child.process.wait()


def outcome(child: Child, told: bool) -> tuple[bool, str]:
    """Whether a run ended well, and how, in one line; `told`: it was asked to stop."""
    code = child.process.returncode
    if code == 0 and child.run.ended:
        return True, f"finished after {(time.monotonic() - child.began) / 60:.1f} minutes"
    if code == 0:
        return True, "stopped and saved; the same command goes on"
    if told and code in STOPPED:
        return True, "stopped before it had begun"
    text = child.log.read_bytes()[child.before :].decode(errors="replace").splitlines()
    errors = [line for line in text if line.startswith("error: ")] or text or ["nothing was printed"]
    return False, f"failed with exit code {code}: {errors[-1].removeprefix('error: ')} (log {child.log})"
