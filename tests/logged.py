"""The log of a small training, and what a reader finds in it."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from utils.log import Means, RunLog

STEPS, EVALUATE, EPOCH, DIAGNOSE = 10, 4, 5, 5
REST = {"epoch": 0, "lr": 0.1, "skipped": 0, "grad_norm": float("inf")}


def losses(step: int) -> SimpleNamespace:
    parts = (torch.rand(4, generator=torch.Generator().manual_seed(step)) * 1e3).unbind()
    return SimpleNamespace(classification=parts[0], contrastive=parts[1], hq_share=parts[2], lq_pairs=parts[3])


def evaluate(log: RunLog, step: int) -> None:
    log.scalars(step, {"val/lfw/accuracy": 1 / step, "val/lfw/eer": float("nan")})


def diagnosis(step: int) -> tuple[dict, dict]:
    values = [step + number / 7 for number in range(40)]
    mean, std = torch.tensor(values).mean().item(), torch.tensor(values).std(correction=0).item()
    counts = [step, 0, 40 - step]
    histogram = {"least": values[0], "most": values[-1], "mean": mean, "std": std, "counts": counts}
    return {"lq_pairs": 1 / step, "grad_cosine": float("nan")}, {"z_original": histogram, "z_hat_augmented": histogram}


def run(folder: Path, frequent: int, checkpoints: dict[int, str], start: int = 0):
    """A training loop in small; yields at every moment at which it can be killed. A checkpoint is one of each step."""
    log, means = RunLog(folder, STEPS, start, enabled=True), Means()
    if start:
        means.load_state_dict(json.loads(checkpoints[start]))
        if start % EVALUATE == 0 and not log.has_evaluation(start):
            evaluate(log, start)
    yield
    for step in range(start + 1, STEPS + 1):
        means.add([losses(step), losses(-step)])
        log.step(step, 8, {**REST, **means.take()} if step % frequent == 0 or step == STEPS else None)
        yield
        log.diagnosis(step, diagnosis(step) if step % DIAGNOSE == 0 else None)
        if step % DIAGNOSE == 0:
            yield
        if step % EPOCH == 0:
            log.damaged(step, step // EPOCH - 1, ["train.rec: key 3", "train.rec: key \udcff"])
            yield
        log.flush()
        checkpoints[step] = json.dumps(means.state_dict())
        yield
        if step % EVALUATE == 0:
            evaluate(log, step)
            yield
    log.close()


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def lines(folder: Path) -> list[dict]:
    """metrics.jsonl without what differs from run to run."""
    every = read(folder / "metrics.jsonl")
    return [{name: line[name] for name in line if name not in ("time", "samples_per_s")} for line in every]


def events(folder: Path) -> list[tuple]:
    """What is in TensorBoard's files, in their order."""
    files = sorted((folder / "tensorboard").glob("*tfevents*"))
    found = [event for file in files for event in LegacyEventFileLoader(str(file)).Load()]
    return [(event.step, value) for event in found for value in event.summary.value]


def curves(folder: Path) -> list[tuple]:
    """Of these the numbers."""
    found = [(step, value.tag, value.simple_value) for step, value in events(folder) if not value.HasField("histo")]
    return [point for point in found if point[1] != "train/samples_per_s"]


def histograms(folder: Path) -> list[tuple]:
    """Of these the histograms."""
    found = [(step, value) for step, value in events(folder) if value.HasField("histo")]
    return [(step, value.tag, value.histo.min, value.histo.max, [*value.histo.bucket]) for step, value in found]


def drawn(written: list[dict]) -> list[tuple]:
    """What lines of metrics.jsonl are in TensorBoard."""
    return [
        (
            line["step"],
            name if name.startswith(("val/", "diag/")) else f"train/{name}",
            pytest.approx(line[name], rel=1e-6),
        )
        for line in written
        for name in line
        if name not in ("step", "epoch") and line[name] is not None
    ]


def same(folder: Path, whole: Path) -> None:
    assert lines(folder) == lines(whole)
    assert (folder / "damaged.txt").read_bytes() == (whole / "damaged.txt").read_bytes()
    assert curves(folder) == curves(whole) == drawn(lines(whole))
    seen = [(step, diagnosis(step)[1]) for step in range(DIAGNOSE, STEPS + 1, DIAGNOSE)]
    kept = read(folder / "diagnostics.jsonl")
    assert [{name: line[name] for name in line if name != "time"} for line in kept] == [
        {"step": step, **shapes} for step, shapes in seen
    ]
    assert histograms(folder) == [
        (step, f"diag/{name}", shape["least"], shape["most"], shape["counts"])
        for step, shapes in seen
        for name, shape in shapes.items()
    ]


def tear(folder: Path) -> None:
    """The tails that a kill leaves."""
    for name, tail in (
        ("metrics.jsonl", '{"step": 1, "ti'),
        ("damaged.txt", "step 1\tepoch 0\ttrain.r"),
        ("diagnostics.jsonl", '{"step": 1, "time": 1.0, "z_or'),
    ):
        with (folder / name).open("a") as file:
            file.write(tail)
    with max((folder / "tensorboard").iterdir()).open("ab") as file:
        file.write(b"\x18\0\0\0\0\0\0\0\xa3")
