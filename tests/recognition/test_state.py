"""What a run is made of: put back, or refused where it is of another run."""

from pathlib import Path

import pytest
import torch

from recognition.pool_diagnostics import QueueSample
from recognition.row_optimizer import RowOptimizer
from recognition.state import TrainingState
from tests import make_checkpoint
from tests.make_checkpoint import LittleRun
from tests.ranks.training import copies
from utils.checkpoint import Checkpoint, CheckpointError, Saver, every

(KEPT,) = every(Path(make_checkpoint.__file__).parent / "fixtures" / "checkpoint_format_3")


def everything(run: LittleRun) -> dict[str, torch.Tensor]:
    return copies(run.state.shared() | run.state.sharded())


def assert_refused(run: LittleRun, match: str) -> None:
    before = everything(run)
    with pytest.raises(CheckpointError, match=match):
        run.state.load(Checkpoint(KEPT))
    after = everything(run)
    assert before.keys() == after.keys() and all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize(("name", "value", "own"), [("N", 8, "8 of 3"), ("D", 4, "7 of 4")])
def test_other_classes(monkeypatch, name, value, own):
    monkeypatch.setattr(make_checkpoint, name, value)
    assert_refused(LittleRun(), f"is of another network: 7 classes of dimension 3, the run has {own}")


def test_another_network():
    run = LittleRun()
    run.backbone[4] = torch.nn.Linear(65, make_checkpoint.D)
    assert_refused(run, r"\(backbone\) is of another network: 4.weight has shape \(3, 64\), expected \(3, 65\)")


def adamw(run: LittleRun) -> LittleRun:
    run.optimizer = torch.optim.AdamW(run.backbone.parameters(), 0.01)
    run.row_optimizer = RowOptimizer("adamw", run.objective.head.weight)
    run.state = TrainingState(run.backbone, run.objective, run.optimizer, run.row_optimizer)
    return run


def saved_without_queue(folder: Path) -> Checkpoint:
    run = LittleRun()
    sharded = {name: value for name, value in run.state.sharded().items() if not name.startswith("queue.")}
    saver = Saver(folder, 1)
    saver.save(1, run.state.shared(), sharded, {})
    saver.finish()
    return Checkpoint(every(folder)[0])


def test_a_queue_that_was_not_saved(tmp_path):
    with pytest.raises(CheckpointError, match="was saved without a queue"):
        LittleRun().state.load(saved_without_queue(tmp_path))


@pytest.mark.parametrize("prepare", [lambda run: run, adamw], ids=["sgd", "adamw"])
def test_it_comes_back_and_lets_the_files_go(tmp_path, prepare):
    """A file that is mapped keeps its room on the disk when it is removed."""
    run = prepare(LittleRun())
    for number in range(1, 4):
        run.step(number)
    saver = Saver(tmp_path, 1)
    saver.save(3, run.state.shared(), run.state.sharded(), {})
    saver.finish()
    again, saved = prepare(LittleRun()), Checkpoint(every(tmp_path)[0])
    assert str(tmp_path) in Path("/proc/self/maps").read_text()
    again.state.load(saved)
    del saved
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    one, other = everything(run), everything(again)
    assert one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())
    assert run.step(4) == again.step(4) and run.step(5) == again.step(5)


@pytest.mark.parametrize("saved", [None, QueueSample(4, make_checkpoint.D)], ids=["none", "of another size"])
def test_what_diagnostics_remember_need_not_be_in_a_checkpoint(tmp_path, saved):
    run, again = LittleRun(), LittleRun()
    run.state.sample, again.state.sample = saved, QueueSample(make_checkpoint.Q, make_checkpoint.D)
    saver = Saver(tmp_path, 1)
    saver.save(1, run.state.shared(), run.state.sharded(), {})
    saver.finish()
    again.state.load(Checkpoint(every(tmp_path)[0]))
    assert (again.state.sample.sequence_S == -1).all()
