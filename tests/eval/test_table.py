import json
import os

import pytest

from eval.table import results_table, write_results

LFW = {
    "accuracy": 0.99449,
    "accuracy_std": 0.0031,
    "threshold": 1.4321,
    "xnorm": 21.5,
    "pairs": 6000,
    "tar@far=1e-3": 0.981,
}
OWN = {"accuracy": 1.0, "accuracy_std": 0.0, "threshold": 1.0, "xnorm": 9.999, "pairs": 20}


def test_table():
    lines = results_table({"lfw": LFW, "own": OWN}).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert rows == [
        ["target", "accuracy %", "TAR@FAR=1e-3 %", "threshold", "XNorm", "pairs"],
        ["lfw", "99.45 +- 0.31", "98.10", "1.432", "21.50", "6000"],
        ["own", "100.00 +- 0.00", "-", "1.000", "10.00", "20"],
    ]


def test_an_empty_table_has_its_head():
    assert "accuracy %" in results_table({})


def test_results_file(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, "runs/model.pt", {"lfw": LFW})
    assert json.loads(path.read_text()) == {"model": "runs/model.pt", "targets": {"lfw": LFW}}
    write_results(path, "other", {"own": OWN, "lfw": LFW})
    assert list(json.loads(path.read_text())["targets"]) == ["own", "lfw"]
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_targets_of_the_same_model_are_added(tmp_path):
    path, model = tmp_path / "results.json", tmp_path / "model.pt"
    model.write_text("weights")
    write_results(path, model, {"lfw": LFW})
    write_results(path, model, {"own": OWN})
    assert list(json.loads(path.read_text())["targets"]) == ["lfw", "own"]
    later = path.stat().st_mtime + 10
    os.utime(model, (later, later))
    write_results(path, model, {"own": OWN})
    assert list(json.loads(path.read_text())["targets"]) == ["own"]
    path.write_text("not json")
    write_results(path, model, {"lfw": LFW})
    assert list(json.loads(path.read_text())["targets"]) == ["lfw"]


def test_earlier_results_survive_bad_ones(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, "model", {"lfw": LFW})
    with pytest.raises(ValueError, match="results.json.*not a finite number"):
        write_results(path, "model", {"lfw": LFW | {"accuracy": float("nan")}})
    assert json.loads(path.read_text())["targets"]["lfw"] == LFW
    with pytest.raises(OSError):
        write_results(tmp_path / "absent" / "results.json", "model", {"lfw": LFW})
