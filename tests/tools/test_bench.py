"""`python -m tools.bench`: the quick sizes of every bench run, and what they leave behind."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from tools.bench import __main__ as bench

KEYS = ["case", "unit", "baseline", "ours", "target", "ratio", "ok"]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "checkpoint")) for name in bench.BENCHES]
)
def test_a_quick_run_writes_its_rows(name, tmp_path, capsys, root):
    file = tmp_path / "rows.json"
    if name in ("loader", "eval"):  # in a process of its own: mxnet does not survive the forks of other tests
        words = [sys.executable, "-m", "tools.bench", name, "--quick", "--json", str(file)]
        shown = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True, timeout=120).stdout
    else:
        bench.main([name, "--quick", "--json", str(file)])
        shown = capsys.readouterr().out
    rows = json.loads(file.read_text())
    fewer = name == "export" or name in ("loader", "eval") and not find_spec("mxnet")  # some of their peers need mxnet
    assert len({(row["case"], row["unit"]) for row in rows}) == len(rows) >= (5 if fewer else 8)
    for row in rows:
        assert sorted(row) == sorted(KEYS)
        assert row["unit"] in ("s", "1/s", "MiB", "us", "KiB", "GFLOP/s") and row["case"] in shown
        assert row["baseline"] > 0 and row["ours"] > 0
        assert row["ratio"] == pytest.approx(row["ours"] / row["baseline"])
        assert row["target"] is None and row["ok"] is None  # they are for the full sizes


def test_a_target_is_met_or_missed():
    assert bench.head.Row("a case", "s", 2.0, 1.0, target=0.5).ok is True
    assert bench.head.Row("a case", "s", 2.0, 1.1, target=0.5).ok is False
    assert bench.head.Row("a case", "s", 2.0, 1.1).ok is None
    assert [bench.head.Row("a case", "1/s", 1.0, ours, 2.0, higher=True).ok for ours in (1.9, 2.0)] == [False, True]


@pytest.mark.parametrize(
    ("words", "said"), [(["haed", "--quick"], "head"), ([], "head"), (["head", "--quik"], "--quik")]
)
def test_mistyped_words(words, said, root):
    done = subprocess.run([sys.executable, "-m", "tools.bench", *words], cwd=root, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and said in done.stderr


def test_threads_are_at_least_one():
    with pytest.raises(ValueError, match="--threads 0: expected at least 1"):
        bench.main(["head", "--threads", "0"])


def test_networks_are_of_backbone_and_export():
    with pytest.raises(ValueError, match="r34: head takes no networks"):
        bench.main(["head", "r34"])
    with pytest.raises(ValueError, match="unknown network 'smal': did you mean 'small'"):
        bench.main(["backbone", "smal"])


def test_flops_are_two_for_each_product():
    """Tiny: four 3x3 convolutions and a linear layer to 512; backward twice that, but no gradient of the images."""
    convolutions = [9 * a * b * side**2 for a, b, side in ((3, 16, 56), (16, 32, 28), (32, 64, 14), (64, 96, 7))]
    products = sum(convolutions) + 96 * 49 * 512
    assert bench.backbone.flops_of_a_sample("tiny", False) == 2 * products
    assert bench.backbone.flops_of_a_sample("tiny", True) == 2 * (3 * products - convolutions[0])


def test_a_way_that_the_machine_lacks_is_left_out(monkeypatch, capsys):
    run = bench.backbone._run

    def refuse(way, x, backward):
        if way.dtype == torch.bfloat16:
            raise RuntimeError("no bfloat16 here")
        run(way, x, backward)

    monkeypatch.setattr(bench.backbone, "_run", refuse)
    rows = bench.backbone.of_network("tiny", False, torch.device("cpu"), quick=True)
    assert "skipped tiny, forward: bfloat16, channels_last: no bfloat16 here" in capsys.readouterr().out
    assert [row.case.removeprefix("tiny, forward: ") for row in rows] == [
        "channels_last", "plain, of the peak", "channels_last, of the peak"
    ]  # fmt: skip
