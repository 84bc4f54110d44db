"""Runs that go wrong: numbers that are not finite, machines that disagree, processes that die."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from tests import faces
from tests.test_train import ROOT, command, environment, lines

# A run whose features are nan on one process at some steps; which, the words say.
FAULTY = """
import json, os, sys
sys.path.insert(0, {root!r})
import torch, train
from utils.cli import user_errors

steps, row, words = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
make, calls = train.get_backbone, iter(range(1, 1000))

class Faulty(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network, self.norm = network, torch.nn.BatchNorm1d(32)
    def forward(self, images):
        h = self.network(images)
        if self.training and next(calls) in steps and os.environ["RANK"] == "1":
            h = h.index_fill(0, torch.tensor([row]), float("nan"))
        return self.norm(h)

train.get_backbone = lambda *a, **k: Faulty(make(*a, **k))
with user_errors():
    train.main(words)
"""

# A run whose processes are given different words.
DIFFERENT = """
import os, sys
sys.path.insert(0, {root!r})
import train
from utils.cli import user_errors

words = sys.argv[1:]
with user_errors():
    train.main(words[:-2] + [words[-2 + int(os.environ["RANK"])]])
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("faces")
    faces.write_records(root)
    (root / "run.py").write_text("from easydict import EasyDict as edict\n\nconfig = edict()\n")
    for name, text in (("faulty.py", FAULTY), ("different.py", DIFFERENT)):
        (root / name).write_text(text.format(root=str(ROOT)))
    return root


def start(data: Path, script: str, before: list[str], *words: str) -> subprocess.CompletedProcess:
    arguments = command(data, *words, processes=2)
    at = arguments.index(str(ROOT / "train.py"))
    arguments[at : at + 1] = [str(data / script), *before]
    return subprocess.run(arguments, env=environment(), capture_output=True, text=True, timeout=120)


def test_a_step_that_is_not_finite_is_skipped_and_counted_everywhere(data, tmp_path):
    """Process 1 holds samples 4 to 7 of each batch of 8; its second image is bad at steps 3 and 5."""
    words = ["total_batch_size=8", "max_step=6", f"output={tmp_path / 'run'}"]
    done = start(data, "faulty.py", ["[3, 5]", "1"], *words)
    assert done.returncode == 0, done.stderr
    assert [line["skipped"] for line in lines(tmp_path / "run")] == [0, 0, 1, 1, 2, 2]
    empty = [line["step"] for line in lines(tmp_path / "run") if line["loss_classification"] is None]
    assert empty == [3, 5]
    notes = [line for line in done.stdout.splitlines() if line.startswith("note: the feature is not finite")]
    assert len(notes) == 2 and "at step 3, in sample " in notes[0] and "train.rec: key " in notes[0], done.stdout
    model = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    assert all(tensor.isfinite().all() for tensor in model.values() if tensor.is_floating_point())
    assert int(model["norm.num_batches_tracked"]) == 4  # the skipped steps left nothing behind


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nonfinite=stop"], "the feature is not finite at step 3, in sample"),
        (["nonfinite_limit=2"], "the last of 2 skipped steps in a row"),
    ],
    ids=["stop", "limit"],
)
def test_a_run_stops_at_a_bad_step_or_at_too_many(data, tmp_path, words, message):
    words = ["total_batch_size=8", "max_step=6", f"output={tmp_path / 'run'}", *words]
    done = start(data, "faulty.py", ["[3, 4]", "1"], *words)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("error:") == 1


def test_a_learning_rate_that_is_far_too_high_ends_with_one_line(data, tmp_path):
    done = subprocess.run(
        command(data, "batch_size=8", "lr=1e30", "nonfinite_limit=3", f"output={tmp_path / 'run'}"),
        env=environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2 and "not finite at step" in done.stderr and "lower lr" in done.stderr, done.stderr


def test_a_queue_that_cannot_fit_is_refused_before_it_grows(data, tmp_path):
    words = ["batch_size=8", "views=('original','augmented')", "pool=proxy", "queue_size=2000000000"]
    done = subprocess.run(
        command(data, *words, f"output={tmp_path / 'run'}"),
        env=environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2 and "queue_size=2000000000" in done.stderr and "GiB are free" in done.stderr
    assert not (tmp_path / "run").exists()


def test_processes_with_different_configs_or_data_say_so_at_once(data, tmp_path):
    other = tmp_path / "other"
    faces.write_records(other, identities=3)
    output = f"output={tmp_path / 'run'}"
    for words, message in (
        (["lr=0.1", "lr=0.2"], "config differs between processes: lr=0.1 on rank 0, 0.2 on rank 1"),
        ([f"rec={data}", f"rec={other}"], "data differs between processes: identities="),
    ):
        done = start(data, "different.py", [], "batch_size=4", output, *words)
        assert done.returncode == 2 and message in done.stderr, done.stderr
        assert done.stderr.count("error:") == 1 and "Traceback" not in done.stderr
        assert not (tmp_path / "run").exists()


def test_when_a_process_is_killed_the_others_stop_and_name_it(data, tmp_path):
    process = subprocess.Popen(
        command(data, "batch_size=4", "num_epoch=1000", f"output={tmp_path / 'run'}", processes=2),
        env=environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.time() + 60
    while not (tmp_path / "run" / "metrics.jsonl").exists() and time.time() < deadline:
        time.sleep(0.2)
    os.kill(process_of_rank(process.pid, 1), signal.SIGKILL)
    _, stderr = process.communicate(timeout=40)
    assert process.returncode == 1, stderr
    assert stderr.splitlines()[-1] == "error: process 1 ended with signal SIGKILL; the others were stopped", stderr


def process_of_rank(launcher: int, rank: int) -> int:
    lists = Path(f"/proc/{launcher}/task").glob("*/children")  # workers are started by a thread
    children = [child for children in lists for child in children.read_text().split()]
    for child in children:
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise AssertionError(f"no process of rank {rank} among {children}")
