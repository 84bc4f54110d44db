"""`results.json`: what a model reached, on which data, by which protocol; its evidence in a folder beside it."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval.protocol import Result, file_stem
from utils.files import replacing
from utils.version import environment


class Record(NamedTuple):
    """A result and where it comes from: the protocol's version, SHA-256 of the data, options as `{"fusion": "sum"}`."""

    result: Result
    version: int
    data_digest: str
    options: dict[str, object]


def write_results(path: Path | str, model: Path | str, model_digest: str, records: dict[str, Record]) -> None:
    """Write results.json as a whole or not at all, and `<name of it>/<target>.npz` with each target's evidence.

    `{"model", "model_digest", "targets": {target: {metric: number}}, "intervals": {target: {metric: [low, high]}},
    "provenance": {target: {"protocol", "data_digest", "options", "notes", "headline"}},
    "environment": {what: version}}`; rates are fractions. Other targets that the file has of the same
    model (by its digest) stay in it.

    Raises:
        ValueError: a number is NaN or infinite; an earlier file stays.
        OSError: the files cannot be written.
    """
    path = Path(path)
    content = _earlier(path, model_digest)
    content |= {"model": str(model), "model_digest": model_digest, "environment": environment()}
    for name, record in records.items():
        content["targets"][name] = record.result.metrics
        content["intervals"][name] = record.result.intervals
        content["provenance"][name] = {
            "protocol": record.version,
            "data_digest": record.data_digest,
            "options": record.options,
            "notes": list(record.result.notes),
            "headline": list(record.result.headline),
        }
    try:
        text = json.dumps(content, indent=2, allow_nan=False)
    except ValueError:
        numbers = {name: record.result.metrics for name, record in records.items()}
        raise ValueError(f"{path}: a result is not a finite number and was not written: {numbers}") from None
    for name, record in records.items():
        arrays: dict[str, Any] = record.result.evidence
        evidence = evidence_file(path, name)
        evidence.parent.mkdir(exist_ok=True)
        with replacing(evidence) as beside, beside.open("wb") as file:
            np.savez_compressed(file, **arrays)
    with replacing(path) as beside:
        beside.write_text(text + "\n", encoding="utf-8")


def read_results(path: Path | str) -> dict:
    """What `write_results` wrote.

    Raises:
        ValueError: not readable as such.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        parts = [content[part] for part in ("targets", "intervals", "provenance")]
        if not isinstance(content["model_digest"], str) or not all(isinstance(part, dict) for part in parts):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "it has not the parts that it should have"
        raise ValueError(f"{path} cannot be read ({reason}); expected results.json of an evaluation") from None
    return content


def results_of(model: Path | str) -> Path:
    """Where the evaluation of a model, or of features, is written if nothing else is asked for."""
    model = Path(model)
    return model.with_name("results.json" if model.name == "model.pt" else f"{model.stem}_results.json")


def read_records(path: Path | str) -> tuple[dict, dict[str, Record], dict[str, str]]:
    """All that a results.json has, with its evidence.

    Returns:
        the content of `read_results`; the targets in its order, without evidence where that cannot be read; target ->
        why its evidence cannot.

    Raises:
        ValueError: it is no results.json, or another program's.
    """
    content, records, unreadable = read_results(path), {}, {}
    for name, metrics in content["targets"].items():
        provenance = content["provenance"].get(name, {})
        try:
            record = _record(metrics, content["intervals"].get(name, {}), provenance)
        except (TypeError, ValueError, LookupError, AttributeError):
            raise ValueError(
                f"{path} cannot be read (target {name!r} has not the parts that it should have); "
                "expected results.json of an evaluation"
            ) from None
        try:
            record.result.evidence.update(read_evidence(path, name))
        except ValueError as error:
            unreadable[name] = str(error)
        records[name] = record
    return content, records, unreadable


def _record(metrics: dict, intervals: dict, provenance: dict) -> Record:
    """Files of earlier versions have no headline: then it is what has an interval."""
    metrics = {str(name): _finite(value) for name, value in metrics.items()}
    ends = {name: (_finite(low), _finite(high)) for name, (low, high) in intervals.items()}
    headline = tuple(str(name) for name in provenance.get("headline", ends) if name in metrics)
    notes = tuple(str(note) for note in provenance.get("notes", ()))
    result = Result(metrics, headline, ends, {}, notes)
    digest, options = provenance.get("data_digest", ""), dict(provenance.get("options", {}))
    return Record(result, provenance.get("protocol", 0), digest, options)


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no number")
    return value


def evidence_file(path: Path | str, target: str) -> Path:
    """Where a target's arrays are: a folder beside results.json that is named as it is."""
    return Path(path).with_suffix("") / f"{file_stem(target)}.npz"


def read_evidence(path: Path | str, target: str) -> dict[str, np.ndarray]:
    """A target's arrays.

    Raises:
        ValueError: missing or damaged.
    """
    file = evidence_file(path, target)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # zipfile, zlib and numpy raise whatever they stumble over
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{file} cannot be read ({reason}); evaluate that model again") from None


def _earlier(path: Path, model_digest: str) -> dict:
    """What the file has of this very model."""
    try:
        content = read_results(path)
        if content["model_digest"] == model_digest:
            return content
    except ValueError:
        pass
    return {"model": "", "model_digest": "", "targets": {}, "intervals": {}, "provenance": {}}
