"""Runs tests.corpus.run and reads what it prints, also when it crashes or hangs."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED_MEMORY = Path("/dev/shm")


def _run(family: str, folder: Path, *words: str, timeout: float) -> tuple[list[dict], str]:
    """The lines of JSON, and how the process ended: "" if well."""
    command = [sys.executable, "-m", "tests.corpus.run", family, "--folder", str(folder), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENCV_LOG_LEVEL": "SILENT"}
    with tempfile.TemporaryFile("w+") as errors, tempfile.TemporaryFile("w+") as output:
        try:
            code = subprocess.run(
                command, cwd=ROOT, env=environment, timeout=timeout, stdout=output, stderr=errors
            ).returncode
            end = "" if code == 0 else signal.Signals(-code).name if code < 0 else f"exit code {code}"
        except subprocess.TimeoutExpired:
            end = f"no end after {timeout:g} s"
        errors.seek(0)
        output.seek(0)
        tail = errors.read()[-500:] if end else ""
        return [json.loads(line) for line in output], f"{end} {tail}".strip()


def mutations(family: str, seed: int, count: int, timeout: float) -> tuple[dict, list[str]]:
    """The counts at the end, and what failed, each with the command that replays it."""
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None) as folder:
        words = ("--seed", str(seed), "--count", str(count))
        lines, end = _run(family, Path(folder), *words, timeout=timeout)
        failed = [line for line in lines if type(line["raised"]) is str]
        if end:
            number = int.from_bytes((Path(folder) / "number").read_bytes(), "little")
            failed.append({"raised": end, "number": number, "kind": "?"})
    replay = f"python -m tests.corpus.run {family} --seed {seed} --first"
    messages = [f"{line['kind']}: {line['raised']}  replay: {replay} {line['number']}" for line in failed]
    return lines[-1] if lines else {}, messages


def files(family: str, folder: Path, contents: dict[str, bytes], timeout: float) -> dict[str, dict]:
    """What became of each file, by name; one that crashes or hangs does not keep the others from being read."""
    outcomes: dict[str, dict] = {}
    scratch, queue = folder / "scratch", folder / "files"
    for path in (scratch, queue):
        path.mkdir(parents=True)
    for name, data in contents.items():
        (queue / name).write_bytes(data)
    while left := sorted(path.name for path in queue.iterdir()):
        lines, end = _run(family, scratch, "--files", str(queue), timeout=timeout)
        outcomes |= {line["file"]: line for line in lines}
        if len(lines) < len(left):
            outcomes[left[len(lines)]] = {"crashed": end}
        for name in left[: len(lines) + 1]:
            (queue / name).unlink()
    return outcomes
