"""What the scripts leave behind: colours, method names, score files."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from eval.ijb import report
from eval.ijb.target import FARS

SET2 = [(102, 194, 165), (252, 141, 98), (141, 160, 203), (231, 138, 195), (166, 216, 84)]


@pytest.mark.parametrize("menpo", [True, False])
def test_colours_are_menpos_also_where_it_cannot_be_imported(monkeypatch, menpo):
    module = report
    if not menpo:
        monkeypatch.setitem(sys.modules, "menpo.visualize.viewmatplotlib", None)
        spec = importlib.util.find_spec("eval.ijb.report")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.sample_colours_from_colourmap.__doc__.startswith("menpo's choice")
    assert 255 * np.array(module.sample_colours_from_colourmap(1, "Set2")) == pytest.approx(np.array(SET2[:1]))
    colours = 255 * np.array(module.sample_colours_from_colourmap(4, "Set2"))  # of 8: every second one
    assert colours[:3] == pytest.approx(np.array(SET2[::2]))


def test_method_names():
    assert report.method_names([Path("out/a/ijbb.npy")]) == ["ijbb"]
    paths = [Path("out/a/ijbb.npy"), Path("out/b/ijbb.npy"), Path("out/c.npy")]
    assert report.method_names(paths) == ["ijbb-a", "ijbb-b", "c"]


def test_a_curve_and_its_row():
    """Four genuine scores, ten impostors: one accepted leaves 3 of 4, nobody 2 of 4."""
    scores = np.array([0.9, 0.8, 0.6, 0.1, 0.7, *np.linspace(0.2, 0.5, 9)])
    issame = np.arange(14) < 4
    shown = report.curve(scores, issame)
    assert shown.tar.tolist() == [0.5] * 5 + [0.75]
    assert shown.auc == pytest.approx((10 + 10 + 9 + 0) / 40)
    table = report.tar_table({"own": shown}, "IJBB")
    assert "own-IJBB" in table and table.count("50.00") == 5 and table.count("75.00") == 1
    assert all(str(far) in table for far in FARS.values())


def test_score_files_are_of_one_list(tmp_path):
    report.write_scores(tmp_path / "x.npy", np.arange(3.0))
    assert report.read_scores(tmp_path / "x.npy", 3).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="expected \\(4,\\)"):
        report.read_scores(tmp_path / "x.npy", 4)
