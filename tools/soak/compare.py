"""Is a finished run what it should be, and the same as another one?"""

import json
import math
from collections import Counter
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from utils.checkpoint import Checkpoint, check, every
from utils.log_lines import is_result

# Sums over ranks are taken in another order on another number of ranks. The last bit in which they then differ (1e-7)
# grows where a gradient jumps, at the bends of PReLU. Uninterrupted runs of the soak's 80 steps on 1, 3 and 4 ranks
# were up to 7e-3 of a tensor's norm apart in the biases, which are near 0, 3e-3 in other weights and the queue, 4e-2 in
# the momentum of gradients, which cancel, and 3e-3 in the numbers of the log. Five times that is allowed. A tensor that
# was not restored, or rows that another rank should have, are about 1 apart; labels and counters must be equal.
WEIGHTS, MOMENTUM, NUMBERS = 3.5e-2, 2e-1, 1.5e-2
PASSING = ("time", "samples_per_s")  # of a line; no two runs have the same
JUMPING = ("accuracy", "accuracy_std", "accuracy_se", "threshold", "far=", "pauc")  # results that one pair changes


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, those of several ranks joined by class or by age."""
    saved = Checkpoint(path)
    joined = {name: saved.shared[name] for name in saved.shared.names()}
    for name in saved.shards[0].names():
        if name not in ("head.start", "queue.ring", "queue.next_sequence"):
            joined[name] = torch.cat([shard[name] for shard in saved.shards])
    if "queue.sequence_K" in joined:
        age = joined["queue.sequence_K"].argsort()
        joined |= {name: value[age] for name, value in joined.items() if name.startswith("queue.")}
        joined["queue.next_sequence"] = saved.shards[0]["queue.next_sequence"]
    return joined


def read_lines(folder: Path, name: str = "metrics.jsonl") -> list[dict]:
    """The whole lines of metrics.jsonl, or of another such file; none where there is no file."""
    try:
        text = (folder / name).read_text()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def faults(folder: Path, last_step: int, verbose: int) -> list[str]:
    """What is wrong with a finished run by itself, a line for each.

    Args:
        folder: of the run, which wrote a line for every step.
        last_step: of the run.
        verbose: steps between its evaluations.
    """
    saved = every(folder / "checkpoints")
    if not saved or saved[-1].name != f"step_{last_step:08d}":
        return [f"no checkpoint of step {last_step}"]
    wrong = [f"{saved[-1].name}: {line}" for line in check(saved[-1])]
    lines = read_lines(folder)
    wrong += _counted("step", [line["step"] for line in lines if "lr" in line], range(1, last_step + 1))
    due = sorted({*range(verbose, last_step, verbose), last_step})
    wrong += _counted("evaluation at step", [line["step"] for line in lines if any(map(is_result, line))], due)
    return wrong or [*_board_faults(folder, lines), *_model_faults(folder, saved[-1]), *leftovers(folder)]


def _counted(what: str, found: list[int], expected: range | list[int]) -> list[str]:
    times = Counter(found)
    wrong = [f"metrics.jsonl: {what} {step} {times[step]} times" for step in expected if times[step] != 1]
    wrong += [f"metrics.jsonl: {what} {step}, which should not be there" for step in times.keys() - set(expected)]
    return wrong or ([] if found == list(expected) else [f"metrics.jsonl: {what}: not in order"])


def _board_faults(folder: Path, lines: list[dict]) -> list[str]:
    """TensorBoard draws exactly what metrics.jsonl and diagnostics.jsonl say."""
    drawn = []
    for file in sorted((folder / "tensorboard").iterdir()):
        for event in LegacyEventFileLoader(str(file)).Load() if file.stat().st_size else []:
            drawn += [(event.step, v.tag.removeprefix("train/"), v) for v in event.summary.value]
    found = [(step, tag, v.simple_value) for step, tag, v in drawn if not v.HasField("histo")]
    found += [(step, tag, tuple(v.histo.bucket)) for step, tag, v in drawn if v.HasField("histo")]
    expected = [
        (line["step"], name, float(torch.tensor(value, dtype=torch.float32)))
        for line in lines for name, value in line.items() if name not in ("step", "time", "epoch") and value is not None
    ]  # fmt: skip
    expected += [
        (line["step"], f"diag/{name}", tuple(shape["counts"]))
        for line in read_lines(folder, "diagnostics.jsonl")
        for name, shape in line.items()
        if name not in ("step", "time")
    ]
    if found == expected:
        return []
    more, less = Counter(found) - Counter(expected), Counter(expected) - Counter(found)
    first = next(iter((more | less).elements()), "their order")
    return [f"TensorBoard has {more.total()} points too many and {less.total()} too few: {first}"]


def _model_faults(folder: Path, saved: Path) -> list[str]:
    model = torch.load(folder / "model.pt", weights_only=True)
    backbone = Checkpoint(saved).shared.below("backbone.")
    if model.keys() != backbone.keys() or not all(torch.equal(model[name], backbone[name]) for name in model):
        return [f"model.pt is not the backbone of {saved.name}"]
    return [] if (folder / "results.json").is_file() else ["no results.json"]


def leftovers(folder: Path) -> list[str]:
    """Files and folders below `folder` that were only meant to pass."""
    paths = sorted(path for path in folder.rglob("*") if path.name.startswith(".") or path.suffix == ".part")
    return [f"{path.relative_to(folder.parent)} was left behind" for path in paths]


def differences(folder: Path, reference: Path, exact: bool) -> list[str]:
    """Where a finished run differs from another, a line for each tensor or number.

    Args:
        exact: to the last bit; else as far as another number of ranks explains.
    """
    paths = [every(run / "checkpoints")[-1] for run in (folder, reference)]
    wrong = _tensor_differences(*map(tensors, paths), exact)
    states = [Checkpoint(path).state for path in paths]
    for key in ("step", "images", "last_step", "data", *(["parts"] if exact else [])):
        if states[0][key] != states[1][key]:
            wrong.append(f"state.json: {key} {states[0][key]}, expected {states[1][key]}")
    return wrong + _line_differences(read_lines(folder), read_lines(reference), exact)


def _tensor_differences(found: dict, expected: dict, exact: bool) -> list[str]:
    if found.keys() != expected.keys():
        return [f"tensors {sorted(found.keys() ^ expected.keys())} in one of the two only"]
    wrong = []
    for name, value in expected.items():
        distance = relative_distance(found[name], value)
        allowed = MOMENTUM if "momentum" in name else WEIGHTS
        if not value.is_floating_point() or exact:
            allowed = 0.0
        if not distance <= allowed or (exact and not torch.equal(found[name], value)):
            wrong.append(f"tensor {name} is {distance:.2g} of its norm away, allowed are {allowed:g}")
    return wrong


def largest_distance(folder: Path, reference: Path) -> float:
    """Over all tensors of two finished runs: the largest |difference| / |tensor|."""
    found, expected = (tensors(every(run / "checkpoints")[-1]) for run in (folder, reference))
    return max(relative_distance(found[name], expected[name]) for name in found.keys() & expected.keys())


def relative_distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """|found - expected| / |expected|; nan where a number is not finite or the shapes differ."""
    if found.shape != expected.shape:
        return math.nan
    distance = float((found.double() - expected.double()).norm())
    return distance / (float(expected.double().norm()) or 1.0) if distance else distance


def _line_differences(found: list[dict], expected: list[dict], exact: bool) -> list[str]:
    if [line["step"] for line in found] != [line["step"] for line in expected]:
        return ["metrics.jsonl has lines of other steps"]
    wrong = []
    for line, theirs in zip(found, expected, strict=True):
        if line.keys() != theirs.keys():
            wrong.append(f"metrics.jsonl: step {line['step']} has other columns")
            continue
        for name in line.keys() - set(PASSING):
            if not _same_number(name, line[name], theirs[name], exact):
                wrong.append(f"metrics.jsonl: step {line['step']}: {name} {line[name]}, expected {theirs[name]}")
    return wrong


def _same_number(name: str, value: float | None, expected: float | None, exact: bool) -> bool:
    if exact or value is None or expected is None:
        return value == expected
    if is_result(name) and any(word in name for word in JUMPING):
        return True
    return math.isclose(value, expected, rel_tol=NUMBERS, abs_tol=NUMBERS)
