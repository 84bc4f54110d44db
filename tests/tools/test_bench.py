"""`python -m tools.bench`: the quick sizes of every bench run, and what they leave behind."""

import json

import pytest

from tools.bench import __main__ as bench

KEYS = ["case", "unit", "baseline", "ours", "target", "ratio", "ok"]


@pytest.mark.parametrize("name", bench.BENCHES)
def test_a_quick_run_writes_its_rows(name, tmp_path, capsys):
    file = tmp_path / "rows.json"
    bench.main([name, "--quick", "--json", str(file)])
    rows, shown = json.loads(file.read_text()), capsys.readouterr().out
    assert len({(row["case"], row["unit"]) for row in rows}) == len(rows) >= 8
    for row in rows:
        assert sorted(row) == sorted(KEYS)
        assert row["unit"] in ("s", "MiB", "us", "KiB") and row["case"] in shown
        assert row["baseline"] > 0 and row["ours"] > 0
        assert row["ratio"] == pytest.approx(row["ours"] / row["baseline"])
        assert row["target"] is None and row["ok"] is None  # they are for the full sizes


def test_a_target_is_met_or_missed():
    assert bench.head.Row("a case", "s", 2.0, 1.0, target=0.5).ok is True
    assert bench.head.Row("a case", "s", 2.0, 1.1, target=0.5).ok is False
    assert bench.head.Row("a case", "s", 2.0, 1.1).ok is None


@pytest.mark.parametrize("words", [["haed", "--quick"], [], ["head", "--quik"]])
def test_mistyped_words(words, capsys):
    with pytest.raises(SystemExit) as end:
        bench.main(words)
    assert end.value.code == 2
    assert "head" in capsys.readouterr().err


def test_threads_are_at_least_one():
    with pytest.raises(ValueError, match="--threads 0: expected at least 1"):
        bench.main(["head", "--threads", "0"])
