"""The targets of a training run: evaluated while it trains, written beside the model that it ends with."""

from collections.abc import Callable, Mapping
from pathlib import Path

from eval.drawing import draw
from eval.embed import Embed
from eval.faces import write_faces
from eval.protocol import Result, Target, evaluate
from eval.report.page import default_output, write_report
from eval.results import Record, write_results


def evaluate_all(
    embed: Embed, targets: Mapping[str, Target], stopped: Callable[[], bool]
) -> tuple[dict[str, Result], list[str]]:
    """The results, and a line for each thing to know. A target that cannot be evaluated is not worth a run: it is one
    of these lines, on all ranks alike.

    Args:
        embed: the model.
        targets: by name.
        stopped: asked before each target, on all ranks together; no results if it says yes.
    """
    results, notes = {}, []
    for name, target in targets.items():
        if stopped():
            return {}, []
        try:
            results[name] = evaluate(embed, target)
            notes += [f"{name}: {note}" for note in results[name].notes]
        except ValueError as error:
            notes.append(f"{name} was not evaluated: {error}")
    return results, notes


def scalars(results: Mapping[str, Result]) -> dict[str, float]:
    """`val/TARGET/METRIC` -> number."""
    return {f"val/{name}/{metric}": v for name, result in results.items() for metric, v in result.metrics.items()}


def write(
    folder: Path,
    model: Path,
    key: Mapping[str, object],
    results: Mapping[str, Result],
    targets: Mapping[str, Target],
    faces: bool = True,
) -> list[str]:
    """`results.json` of the model, its charts and thumbnails in `results/`, and `report.html`; thumbnails if `faces`.
    `key` is the model's digest and how it takes pixels, as of `Model.key()`; an evaluation notes the same.

    Returns:
        a line where charts, thumbnails or report could not be made: that is not worth a run.

    Raises:
        ValueError, OSError: as `write_results`.
    """
    records = {
        name: Record(result, targets[name].version, targets[name].digest(), {"fusion": "sum", **key})
        for name, result in results.items()
    }
    path = folder / "results.json"
    write_results(path, model, str(key["digest"]), records)
    try:
        default_output(path).unlink(missing_ok=True)  # of earlier results
        for name, result in results.items():
            draw(path.with_suffix(""), name, result)
            write_faces(path, name, targets[name].images if faces else None, result.evidence)
        write_report(path, faces=faces)
    except Exception as error:  # whatever it is, the run has ended well
        return [f"no report ({type(error).__name__}: {error}); python -m eval.report {folder} tries again"]
    return []
