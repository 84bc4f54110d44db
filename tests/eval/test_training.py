"""What a training run leaves when it ends."""

import json

import pytest
from easydict import EasyDict

from eval import training
from recognition.run import farewell
from tests.eval.report.pages import Images, verification

KEY = {"digest": "d16e57", "channels": "rgb", "mean": 127.5, "std": 127.5}


class Target:
    version, images = 1, Images(400)

    def digest(self):
        return "da7a"


@pytest.fixture
def ended(tmp_path):
    """A run folder whose model is there; writes the rest of it."""
    (tmp_path / "model.pt").write_bytes(b"model")

    def write(faces=True):
        results = {"lfw": verification(0).result}
        return training.write(tmp_path, tmp_path / "model.pt", KEY, results, {"lfw": Target()}, faces)

    return write


def test_results_charts_faces_and_a_report(ended, tmp_path):
    assert ended() == []
    beside = {path.name for path in (tmp_path / "results").iterdir()}
    assert beside == {"lfw.npz", "lfw_faces.json", "lfw_roc.svg", "lfw_discard.svg", "lfw_similarity.svg"}
    assert "<img " in (tmp_path / "report.html").read_text()
    assert ended(faces=False) == [] and not (tmp_path / "results" / "lfw_faces.json").exists()
    assert "<img " not in (tmp_path / "report.html").read_text()


def test_results_name_the_model_and_how_it_took_pixels(ended, tmp_path):
    ended()
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["model_digest"] == KEY["digest"]
    assert results["provenance"]["lfw"]["options"] == {"fusion": "sum", **KEY}


@pytest.mark.parametrize("part", ["draw", "write_faces", "write_report"])
def test_a_report_that_fails_costs_a_line_and_not_the_run(ended, tmp_path, monkeypatch, part):
    def fails(*_, **__):
        raise MemoryError("no more")

    monkeypatch.setattr(training, part, fails)
    (tmp_path / "report.html").write_text("of earlier results")
    (line,) = ended()
    assert line == f"no report (MemoryError: no more); python -m eval.report {tmp_path} tries again"
    assert "lfw" in json.loads((tmp_path / "results.json").read_text())["targets"]
    assert not (tmp_path / "report.html").exists()
    assert "report.html" not in farewell(tmp_path, {"lfw": None}, EasyDict(name="own"))
