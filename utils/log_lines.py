"""The lines of metrics.jsonl, diagnostics.jsonl and damaged.txt, and the events that TensorBoard draws.

A line of metrics.jsonl is one of the training, one of an evaluation, or one of diagnostics:

    {"step": 20, "time": 1753000000.5, "epoch": 0, "lr": 0.1, "loss_classification": 9.1, ..., "samples_per_s": 820.0}
    {"step": 20, "time": 1753000009.1, "val/lfw/accuracy": 0.99, ...}
    {"step": 20, "time": 1753000000.6, "diag/lq_pairs": 0.21, ...}

with time in unix seconds and null for a number that is not finite. Histograms are the lines of diagnostics.jsonl:

    {"step": 20, "time": 1753000000.6, "z_original": {"least": 3.1, "most": 9.5, "mean": 6.0, "std": 1.1,
     "counts": [1, 0, 4, ...]}, ...}

`counts` are those of as many bins of equal width between `least` and `most`.
"""

import io
import json
import math
from collections.abc import Callable
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from tensorboard.summary.writer.record_writer import RecordWriter


def is_result(name: str) -> bool:
    """Whether a key of a line is an evaluation's."""
    return name.startswith("val/")


def is_diagnosis(name: str) -> bool:
    """Whether a key of a line is one of diagnostics."""
    return name.startswith("diag/")


def write_metrics(line: dict) -> bytes:
    """A line of metrics.jsonl from {"step": ..., "time": ..., name: number}."""
    line = {name: value if math.isfinite(value) else None for name, value in line.items()}  # JSON has no infinity
    return json.dumps(line).encode() + b"\n"


def read_metrics(line: bytes) -> dict:
    """The inverse of `write_metrics`; a number that is not finite is None.

    Raises:
        ValueError, LookupError, TypeError: it is no such line.
    """
    values = json.loads(line)
    if not isinstance(values["step"], int) or not all(isinstance(v, int | float | None) for v in values.values()):
        raise ValueError("a line holds numbers")
    return values


def write_histograms(line: dict) -> bytes:
    """A line of diagnostics.jsonl from {"step": ..., "time": ..., name: histogram}."""
    return json.dumps(line).encode() + b"\n"


def read_histograms(line: bytes) -> dict:
    """The inverse of `write_histograms`.

    Raises:
        ValueError, LookupError, TypeError: it is no such line.
    """
    values = json.loads(line)
    numbers = [values["step"], values["time"]]
    for name in values.keys() - {"step", "time"}:
        histogram = values[name]
        numbers += [*(histogram[key] for key in ("least", "most", "mean", "std")), *histogram["counts"]]
        if not histogram["counts"]:
            raise ValueError("a histogram has bins")
    if not isinstance(values["step"], int) or not all(isinstance(number, int | float) for number in numbers):
        raise ValueError("a histogram is made of numbers")
    return values


def write_damage(step: int, epoch: int, text: str) -> bytes:
    """A line of damaged.txt: what was wrong with a sample of an epoch that ended at `step`."""
    return f"step {step}\tepoch {epoch}\t{text}\n".encode()


def read_damage(line: bytes) -> dict:
    """The step of a line of damaged.txt.

    Raises:
        ValueError: it is no such line, or torn.
    """
    if not line.endswith(b"\n"):
        raise ValueError("the line is torn")
    return {"step": int(line.split(b"\t")[0].removeprefix(b"step "))}


def until(path: Path, start: int, read: Callable[[bytes], dict]) -> tuple[list[tuple[bytes, dict]], int]:
    """The lines of a file up to step `start`, as they are and as `read` has them.

    Returns:
        them, and how many could not be read, but for a last one that a kill has torn.
    """
    lines, unreadable = [], 0
    for line in path.open("rb") if path.exists() else []:
        try:
            values = read(line)
            if values["step"] <= start:
                lines.append((line.rstrip(b"\n") + b"\n", values))
        except (ValueError, LookupError, TypeError):
            unreadable += line.endswith(b"\n")
    return lines, unreadable


def opening(time: float) -> bytes:
    """How an event file begins: a TensorBoard that is open forgets what it read of earlier files.

    Args:
        time: unix seconds.
    """
    start = SessionLog(status=SessionLog.START)
    version = Event(wall_time=time, file_version="brain.Event:2")
    return _record(version) + _record(Event(wall_time=time, step=0, session_log=start))


def event(line: dict) -> bytes:
    """What TensorBoard draws of a line of metrics.jsonl.

    As bytes: TensorBoard's own writer has a thread whose errors cannot be caught and whose buffer a kill loses.
    """
    curves = {
        name if is_result(name) or is_diagnosis(name) else f"train/{name}": value
        for name, value in line.items()
        if name not in ("step", "time", "epoch") and value is not None and math.isfinite(value)
    }
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in curves.items()])
    time = line.get("time", 0.0)  # earlier versions wrote none
    return _record(Event(wall_time=time, step=line["step"], summary=summary))


def histogram_event(line: dict) -> bytes:
    """What TensorBoard draws of a line of diagnostics.jsonl."""
    drawn = {f"diag/{name}": _proto(value) for name, value in line.items() if name not in ("step", "time")}
    summary = Summary(value=[Summary.Value(tag=tag, histo=histo) for tag, histo in drawn.items()])
    return _record(Event(wall_time=line["time"], step=line["step"], summary=summary))


def _proto(histogram: dict) -> HistogramProto:
    least, most, counts = histogram["least"], histogram["most"], histogram["counts"]
    total, width = sum(counts), (most - least) / len(counts)
    limits = [least + width * (number + 1) for number in range(len(counts))]
    squares = total * (histogram["mean"] ** 2 + histogram["std"] ** 2)
    return HistogramProto(
        min=least, max=most, num=total, sum=total * histogram["mean"], sum_squares=squares,
        bucket_limit=limits, bucket=counts,
    )  # fmt: skip


def _record(event: Event) -> bytes:
    content = io.BytesIO()
    RecordWriter(content).write(event.SerializeToString())
    return content.getvalue()
