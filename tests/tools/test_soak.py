"""tools.soak: its comparison finds what it should, and a short soak finds nothing."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import faces, gloo, ranks
from tests.conftest import ROOT, usual_signals
from tools.soak.__main__ import main
from tools.soak.compare import differences, faults, relative_distance
from tools.soak.damage import KINDS, damage
from tools.soak.kills import Deck, Plan
from tools.soak.run import Kill, judge
from utils.checkpoint import MANIFEST, check, every
from utils.files import file_digest

WORDS = [
    *("network=tiny", "embedding_size=16", "frequent=1", "num_workers=0", "lr=0.02", "total_batch_size=12"),
    *("views=('original','augmented')", "loss=adaface", "quality_threshold=0.2", "pool=proxy", "queue_size=40"),
    *("num_epoch=1", "verbose=3", "save_every=2", "val_targets=['pairs']", "keep_checkpoints=3"),
]
LAST, VERBOSE = 7, 3  # 88 photos


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that has ended."""
    root = faces.write_run(tmp_path_factory.mktemp("faces"))
    gloo.run(1, ranks.train, [str(root / "run.py"), f"rec={root}", f"output={root / 'run'}", *WORDS])
    return root / "run"


@pytest.fixture
def copy(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def change(run, file: str, name: str, to) -> None:
    """Another tensor in the newest checkpoint, which is whole all the same."""
    folder = every(run / "checkpoints")[-1]
    tensors = load_file(folder / file)
    tensors[name] = to(tensors[name].clone())
    save_file(tensors, folder / file)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][file] = {"size": (folder / file).stat().st_size, "sha256": file_digest(folder / file)}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def edit(run, edit_lines) -> None:
    """Other lines in metrics.jsonl."""
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(edit_lines(lines)))


def is_evaluation(line: str) -> bool:
    return "val/" in line


def test_a_run_is_as_it_should_be_and_as_itself(whole, copy):
    assert faults(whole, LAST, VERBOSE) == []
    for exact in (True, False):
        assert differences(copy, whole, exact) == []


def cut_board(run) -> None:
    file = max((run / "tensorboard").iterdir())
    file.write_bytes(file.read_bytes()[:-200])


def change_model(run) -> None:
    model = torch.load(run / "model.pt", weights_only=True)
    model["fc.bias"][0] += 1e-6
    torch.save(model, run / "model.pt")


PLANTED = {
    "a doubled step": (lambda run: edit(run, lambda lines: lines[:1] + lines), "step 1 2 times"),
    "a missing step": (lambda run: edit(run, lambda lines: lines[:1] + lines[2:]), "step 2 0 times"),
    "steps in another order": (lambda run: edit(run, lambda lines: lines[1::-1] + lines[2:]), "step: not in order"),
    "a step too many": (
        lambda run: edit(run, lambda lines: [*lines, lines[-2].replace('"step": 7', '"step": 8')]),
        "step 8, which should not be there",
    ),
    "a missing evaluation": (
        lambda run: edit(run, lambda lines: [line for line in lines if not is_evaluation(line) or '"step": 7' in line]),
        "evaluation at step 3 0 times",
    ),
    "a doubled evaluation": (
        lambda run: edit(run, lambda lines: [line for line in lines for _ in range(1 + is_evaluation(line))]),
        "evaluation at step 3 2 times",
    ),
    "an event file that is cut": (cut_board, "TensorBoard has 0 points too many"),
    "another model": (change_model, "model.pt is not the backbone"),
    "no results": (lambda run: (run / "results.json").unlink(), "no results.json"),
    "half a checkpoint": (lambda run: (run / "checkpoints" / ".step_00000006.ab").mkdir(), "was left behind"),
    "half a file": (lambda run: (run / "results" / ".roc.png.17.part").touch(), "was left behind"),
    "damage": (lambda run: damage(every(run / "checkpoints")[-1], "deleted", random.Random(0)), "step_00000007: "),
    "an end too early": (lambda run: shutil.rmtree(every(run / "checkpoints")[-1]), "no checkpoint of step 7"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(copy, name):
    plant, message = PLANTED[name]
    plant(copy)
    found = faults(copy, LAST, VERBOSE)
    assert any(message in line for line in found), found


def last_bit(tensor):
    return torch.nextafter(tensor, torch.full_like(tensor, 9.0))


CHANGES = {  # what is found at any number of ranks, and what only where every bit counts
    "weights that differ in the last bit": ("shared", "backbone.fc.weight", last_bit, False),
    "weights that were not trained": ("shared", "backbone.fc.weight", lambda t: t.roll(1, 0), True),
    "momentum that began anew": ("shared", "optimizer.backbone.fc.weight.momentum_buffer", torch.zeros_like, True),
    "classes in another order": ("rank_0", "head.weight", lambda t: t.flip(0), True),
    "a label in the queue": (
        "rank_0",
        "queue.y_K",
        lambda t: t.index_add(0, torch.tensor([0]), torch.tensor([1])),
        True,
    ),
    "a step more": ("shared", "optimizer.head.step", lambda t: t + 1, True),
    "a number that is not finite": ("shared", "quality.mean", lambda t: t * float("nan"), True),
    "another shape": ("rank_0", "head.weight", lambda t: t[1:], True),
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_tensor_is_found(whole, copy, name):
    file, tensor, to, always = CHANGES[name]
    change(copy, f"{file}.safetensors", tensor, to)
    assert any(f"tensor {tensor}" in line for line in differences(copy, whole, exact=True))
    assert bool(differences(copy, whole, exact=False)) == always


@pytest.mark.parametrize("factor", [1.001, 1.1])
def test_another_loss_is_found(whole, copy, factor):
    def other(lines):
        line = json.loads(lines[0])
        return [json.dumps(line | {"loss_classification": line["loss_classification"] * factor}) + "\n", *lines[1:]]

    edit(copy, other)
    assert any("step 1: loss_classification" in line for line in differences(copy, whole, exact=True))
    assert bool(differences(copy, whole, exact=False)) == (factor == 1.1)


def test_distance_is_relative():
    assert relative_distance(torch.tensor([3.3, 4.4]), torch.tensor([3.0, 4.0])) == pytest.approx(0.1)
    assert relative_distance(torch.zeros(2), torch.zeros(2)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_always_noticed(whole, tmp_path, kind):
    for seed in range(40):
        shutil.copytree(every(whole / "checkpoints")[-1], tmp_path / str(seed))
        done = damage(tmp_path / str(seed), kind, random.Random(seed))
        assert kind in done and check(tmp_path / str(seed)), done


def test_each_card_comes_before_any_comes_again():
    deck = Deck("abc", random.Random(1))
    draws = [deck.draw() for _ in range(30)]
    assert all(Counter(draws[first : first + 3]) == Counter("abc") for first in range(0, 30, 3))
    assert len({tuple(draws[first : first + 3]) for first in range(0, 30, 3)}) > 1


def ended(code: int, text: str):
    return SimpleNamespace(
        process=SimpleNamespace(returncode=code), text=lambda: text, last_line=lambda: "", log="start.log"
    )


STOPPED = "\nstopped     by SIGTERM at step {} of 80; everything is saved\n"
SAID = "error: process 0 ended with signal SIGKILL; the others were stopped\n"


@pytest.mark.parametrize(
    ("kind", "step", "saved", "code", "text", "fault"),
    [
        ("SIGTERM", 17, 17, 0, STOPPED.format(17), None),
        ("SIGTERM", None, 0, 143, "", None),
        ("SIGTERM", 17, 17, 143, "", "exit code 143, expected 0"),
        ("SIGTERM", 17, 15, 0, STOPPED.format(17), "saved is 15"),
        ("SIGTERM", 18, 17, 0, STOPPED.format(17), "the log ends at 18"),
        ("SIGKILL all", 20, 10, -9, "", None),
        ("SIGKILL all", 21, 10, -9, "", "10 is the newest whole checkpoint"),
        ("SIGKILL worker", 12, 10, 1, SAID, None),
        ("SIGKILL worker", 12, 10, 1, "", "nothing says"),
        ("SIGKILL launcher", 12, 10, -9, "Traceback (most recent call last):", "a traceback"),
    ],
)
def test_a_start_that_ends_otherwise_than_it_should(kind, step, saved, code, text, fault):
    kill = Kill(1, kind, "training", 1, step, saved, 0.1)
    found = judge(kill, ended(code, text), Plan(80, 5, 20))
    assert (not found) if fault is None else (len(found) == 1 and fault in found[0]), found


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "tools.soak", *words]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ranks", "0"], r"--ranks \[0\]"),
        (["--minutes", "soon"], "invalid float value"),
        (["--kills", "1", "btach_size=4"], "did you mean 'batch_size'"),
    ],
)
def test_a_mistake_is_told_before_anything_is_made(tmp_path, words, message):
    with pytest.raises(ValueError, match=message):
        main(["--output", str(tmp_path / "soak"), *words])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_short_soak_finds_nothing_and_keeps_its_report_only(tmp_path):
    words = ["num_epoch=2", "verbose=10", "--kills", "4", "--minutes", "2", "--ranks", "1", "2", "--seed", "4"]
    done = subprocess.run(
        command(*words, "--output", str(tmp_path / "soak")), cwd=ROOT, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "soak" / "report.json").read_text())
    assert report["wrong"] == [] and report["runs"] and report["kills"]
    assert all(kill["resumed"] is not None and kill["resumed"] <= kill["whole"] for kill in report["kills"])
    assert [path.name for path in (tmp_path / "soak").iterdir()] == ["report.json"]


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(tmp_path):
    words = ["--kills", "9", "--output", str(tmp_path / "soak")]
    process = subprocess.Popen(command(*words), cwd=ROOT, start_new_session=True, preexec_fn=usual_signals)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("soak/runs/uninterrupted*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    assert not list(tmp_path.iterdir())
    assert not subprocess.run(["pgrep", "-f", f"output={tmp_path}"], capture_output=True, text=True).stdout
