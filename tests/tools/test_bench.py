"""`python -m tools.bench`: the quick sizes of every bench run, and what they leave behind."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

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
    least = 8 if name not in ("loader", "eval") or find_spec("mxnet") else 5  # some of their peers need mxnet
    assert len({(row["case"], row["unit"]) for row in rows}) == len(rows) >= least
    for row in rows:
        assert sorted(row) == sorted(KEYS)
        assert row["unit"] in ("s", "1/s", "MiB", "us", "KiB") and row["case"] in shown
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
