"""What a run writes, and what it prints."""

import itertools
import json
import sys

import pytest

from tests.logged import REST, STEPS, curves, diagnosis, drawn, evaluate, lines, losses, run
from utils.log import Means, RunLog


def test_an_evaluation_is_written_once(tmp_path):
    log = RunLog(tmp_path, STEPS, 0, enabled=True)
    assert not log.has_evaluation(4)
    evaluate(log, 4)
    log.scalars(4, {"val/lfw/accuracy": 0.5, "val/agedb/accuracy": 0.75})
    assert log.has_evaluation(4)
    log.close()
    assert lines(tmp_path) == [
        {"step": 4, "val/lfw/accuracy": 0.25, "val/lfw/eer": None},
        {"step": 4, "val/agedb/accuracy": 0.75},
    ]


def test_other_ranks_write_nothing(tmp_path):
    log = RunLog(tmp_path, STEPS, 0, enabled=False)
    log.step(1, 8, {**REST})
    evaluate(log, 1)
    log.damaged(1, 0, ["train.rec: key 3"])
    log.diagnosis(1, diagnosis(1))
    log.flush()
    log.close()
    assert not list(tmp_path.iterdir())


def test_a_line_that_cannot_be_read_costs_no_other(tmp_path, capsys):
    list(run(tmp_path, 1, {}))
    whole = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)
    wrong = ["\0\0\0\n", "[1]\n", '{"step": "4", "time": 1.0}\n', '{"step": 4, "time": 1.0, "lr": "low"}\n', "{}\n"]
    (tmp_path / "metrics.jsonl").write_text("".join([*whole[:5], *wrong, *whole[5:]]).rstrip("\n"))
    RunLog(tmp_path, STEPS, STEPS, enabled=True).close()
    assert (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True) == whole
    assert f"{len(wrong)} unreadable lines" in capsys.readouterr().out
    assert curves(tmp_path) == drawn(lines(tmp_path))


def test_means_resumed_at_any_step_are_the_same_to_the_last_bit():
    whole = Means()
    for step in range(1, 9):
        whole.add([losses(step), losses(-step)])
    expected = whole.take()
    for cut in range(9):
        first, second = Means(), Means()
        for step in range(1, cut + 1):
            first.add([losses(step), losses(-step)])
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        for step in range(cut + 1, 9):
            second.add([losses(step), losses(-step)])
        assert second.take() == expected
    assert all(value != value for value in second.take().values())


@pytest.mark.parametrize("terminal", (True, False))
def test_a_log_gets_lines_instead_of_a_bar(tmp_path, capsys, monkeypatch, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    list(run(tmp_path, 2, {}, start=0))
    printed, bar = capsys.readouterr()
    steps = [line.split()[:4] for line in printed.splitlines() if line.startswith("step ")]
    assert steps == ([] if terminal else [["step", f"{step}/10", "epoch", "0"] for step in range(2, 11, 2)])
    assert ("loss" in bar and "/10" in bar) == terminal


def test_a_line_says_what_is_left_of_the_run(tmp_path, capsys, monkeypatch):
    clock = itertools.count(0, 60)
    log = RunLog(tmp_path, 1000, 100, enabled=True)
    monkeypatch.setattr("utils.log.time.perf_counter", lambda: next(clock))
    log.clock = next(clock)
    values = {**REST, "loss_classification": 1, "loss_contrastive": 2, "lq_pairs": 0.25}
    for step in (101, 102, 103, 104):
        log.step(step, 30, values if step % 2 == 0 else None)
    log.close()
    assert [line.split("img/s left ") for line in capsys.readouterr().out.splitlines()] == [
        ["step 102/1000 epoch 0 loss 1.000+2.000 lr 0.1 LQ 25% 1 ", "7:29:00"],  # 898 steps at two a minute
        ["step 104/1000 epoch 0 loss 1.000+2.000 lr 0.1 LQ 25% 1 ", "7:28:00"],
    ]
