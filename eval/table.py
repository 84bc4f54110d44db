"""Results as a table on screen and as `results.json`."""

import json
from pathlib import Path

from prettytable import PrettyTable

from utils.files import replacing

Results = dict[str, dict[str, float]]


def results_table(targets: Results) -> str:
    """A row per verification set; `targets` is name -> numbers as `eval.verification.verify` returns them."""
    table = PrettyTable(["target", "accuracy %", "TAR@FAR=1e-3 %", "threshold", "XNorm", "pairs"])
    table.align = "r"
    table.align["target"] = "l"
    for name, numbers in targets.items():
        accuracy = f"{100 * numbers['accuracy']:.2f} +- {100 * numbers['accuracy_std']:.2f}"
        tar = f"{100 * numbers['tar@far=1e-3']:.2f}" if "tar@far=1e-3" in numbers else "-"
        threshold, xnorm = f"{numbers['threshold']:.3f}", f"{numbers['xnorm']:.2f}"
        table.add_row([name, accuracy, tar, threshold, xnorm, numbers["pairs"]])
    return table.get_string()


def write_results(path: Path | str, model: Path | str, targets: Results) -> None:
    """Write `{"model": ..., "targets": {name: {metric: number}}}` as a whole or not at all; rates are fractions.

    Other targets that the file has of the same model, unless the model was written since, stay in it.

    Raises:
        ValueError: a number is NaN or infinite; an earlier file stays.
        OSError: the file cannot be written.
    """
    targets = _earlier(Path(path), Path(model)) | targets
    try:
        text = json.dumps({"model": str(model), "targets": targets}, indent=2, allow_nan=False)
    except ValueError:
        raise ValueError(f"{path}: a result is not a finite number and was not written: {targets}") from None
    with replacing(Path(path)) as beside:
        beside.write_text(text + "\n", encoding="utf-8")


def _earlier(path: Path, model: Path) -> Results:
    """The targets that a results file has of this very model."""
    try:
        if path.stat().st_mtime < model.stat().st_mtime:
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
        return found["targets"] if Path(found["model"]).resolve() == model.resolve() else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
