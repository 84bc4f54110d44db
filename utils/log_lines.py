"""The lines of metrics.jsonl and damaged.txt, and the events that TensorBoard draws.

A line of metrics.jsonl is one of the training or one of an evaluation:

    {"step": 20, "time": 1753000000.5, "epoch": 0, "lr": 0.1, "loss_classification": 9.1, ..., "samples_per_s": 820.0}
    {"step": 20, "time": 1753000009.1, "val/lfw/accuracy": 0.99, ...}

with time in unix seconds and null for a number that is not finite.
"""

import io
import json
import math
from collections.abc import Callable
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


def is_result(name: str) -> bool:
    """Whether a key of a line is an evaluation's."""
    return name.startswith("val/")


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
        name if is_result(name) else f"train/{name}": value
        for name, value in line.items()
        if name not in ("step", "time", "epoch") and value is not None and math.isfinite(value)
    }
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in curves.items()])
    time = line.get("time", 0.0)  # earlier versions wrote none
    return _record(Event(wall_time=time, step=line["step"], summary=summary))


def _record(event: Event) -> bytes:
    content = io.BytesIO()
    RecordWriter(content).write(event.SerializeToString())
    return content.getvalue()
