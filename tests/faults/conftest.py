"""A run on two ranks that all tests of this folder share, its uninterrupted reference, and a healthy start of it."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import faces, gloo
from tests.faults import injection
from tests.test_resume import assert_ended_alike
from tests.test_train import ROOT, environment
from utils.checkpoint import check, every

WORDS = [
    *("network=tiny", "embedding_size=16", "frequent=1", "num_workers=0", "lr=0.02", "total_batch_size=12"),
    *("views=('original','augmented')", "loss=adaface", "quality_threshold=0.2", "quality_ema=0.5", "quality_std=1"),
    *("pool=proxy", "queue_size=40", "num_epoch=2", "max_step=12", "save_every=2"),
]  # an epoch has 7 steps: checkpoints after steps 2, 4, 6, 7, 8, 10, 12, of which two are kept


class Trial:
    """A run of two ranks that something happens to.

    Args:
        data: the faces, with an empty config run.py.
        folder: of the run.
        words: beside WORDS, of every start.
    """

    def __init__(self, data: Path, folder: Path, *words: str):
        self.folder, self.checkpoints = folder, folder / "checkpoints"
        self.words = [str(data / "run.py"), f"rec={data}", f"output={folder}", *WORDS, *words]

    def start(self, *faults: dict, words: tuple = ()) -> subprocess.Popen:
        """Real processes, as a user starts them."""
        start = [sys.executable, str(ROOT / "utils" / "launch.py"), "--standalone", "--nproc-per-node", "2"]
        command = [*start, injection.__file__, injection.json.dumps(faults), *self.words, *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=environment(), start_new_session=True, **pipes)

    def ends(self, *faults: dict, words: tuple = ()) -> subprocess.CompletedProcess:
        """Real processes until their end, which must come; all of them are gone then."""
        process = self.start(*faults, words=words)
        try:
            stdout, stderr = process.communicate(timeout=90)
        finally:
            for pid in [process.pid, *processes(self.folder)] if process.returncode is None else []:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        assert not processes(self.folder)
        assert "Traceback" not in stderr, stderr
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def again(self, *faults: dict, words: tuple = ()) -> tuple[str, str]:
        """The same command once more, on ranks that are there already: what it printed, and its error or ""."""
        outcomes = gloo.run(2, injection.train, [*self.words, *words], list(faults))
        assert len({error for _, error in outcomes}) == 1 and "\n" not in outcomes[0][1]
        return outcomes[0]

    def steps(self) -> list[int]:
        """Of the checkpoints, all of which must be whole."""
        assert not [line for path in every(self.checkpoints) for line in check(path)]
        return [injection.step_of(path) for path in every(self.checkpoints)]

    def ends_as(self, reference: "Trial", *faults: dict, words: tuple = ()) -> str:
        """The same command goes on until the end, which is the reference's; returns what it printed."""
        said, error = self.again(*faults, words=words)
        assert not error
        assert_ended_alike(reference.folder, self.folder, exact=True)
        models = [torch.load(trial.folder / "model.pt", weights_only=True) for trial in (reference, self)]
        torch.testing.assert_close(*models, rtol=0, atol=0)
        assert self.steps() == reference.steps() and not list(self.checkpoints.glob(".*"))
        return said


def processes(folder: Path) -> list[int]:
    """Whose command line names the folder, but for those that have ended and wait for their parent."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"output={folder}".encode() in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


def one_error(done: subprocess.CompletedProcess) -> str:
    """The only line that it said of an error; on a line of its own, unless the process with the bar was killed."""
    (line,) = [line for line in done.stderr.splitlines() if "error:" in line]
    before, _, error = line.partition("error: ")
    assert not before or error.startswith("process 0 ended with signal"), done.stderr
    return error


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    root = faces.write_run(tmp_path_factory.mktemp("faces"))
    faces.write_pairs(root / "more.bin")
    return root


@pytest.fixture(scope="session")
def reference(data, tmp_path_factory) -> Trial:
    """An uninterrupted run."""
    trial = Trial(data, tmp_path_factory.mktemp("reference") / "run")
    assert trial.again()[1] == "" and trial.steps() == [10, 12]
    return trial


@pytest.fixture
def trial(data, tmp_path) -> Trial:
    return Trial(data, tmp_path / "run")
