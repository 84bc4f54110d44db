"""What a report is made of: results.json, the evidence and faces beside it, and the run that the model comes from."""

import datetime
from pathlib import Path
from typing import NamedTuple

from eval.faces import Face, read_faces
from eval.report.training import Run, open_run
from eval.results import Record, read_records
from utils.files import file_digest


class Source(NamedTuple):
    """`label`: the model in few letters. `faces`: target -> index -> thumbnail. `notes`: target -> what is missing."""

    path: Path
    label: str
    content: dict
    records: dict[str, Record]
    faces: dict[str, dict[int, Face]]
    notes: dict[str, list[str]]
    run: Run | None
    date: str


def results_file(path: Path) -> Path:
    """A results.json, or that of a run folder."""
    return path / "results.json" if path.is_dir() else path


def open_source(path: Path, faces: bool = True) -> Source:
    """Read results.json and what is there beside it.

    Args:
        path: results.json or a run folder.
        faces: take thumbnails too.

    Raises:
        ValueError: it is no results.json.
    """
    path = results_file(path)
    content, records, unreadable = read_records(path)
    notes = {name: [f"its charts are left out: {why}"] for name, why in unreadable.items()}
    kept = {}
    for name in records:
        try:
            kept[name] = read_faces(path, name) if faces else {}
        except ValueError as error:
            kept[name] = {}
            notes.setdefault(name, []).append(f"faces are left out: {error}")
    date = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    model = Path(str(content.get("model", "")))
    return Source(path, "/".join(model.parts[-2:]), content, records, kept, notes, _run(path, model, content), date)


def _run(path: Path, model: Path, content: dict) -> Run | None:
    """The run whose model this is: beside results.json, or where the model was."""
    for folder in (path.parent, model.parent):
        try:
            if file_digest(folder / "model.pt") == content["model_digest"]:
                return open_run(folder)
        except (OSError, ValueError):  # the latter: no path at all
            continue
    return None
