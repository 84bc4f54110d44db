"""`python -m tools.ablation`: tables of results whose numbers are known, rows and runs, mistakes, the dry run."""

import ast
import csv
import json
import shutil

import numpy as np
import pytest
from scipy import stats

from configs import tables
from configs.tables import Column
from eval.confidence import mean_replicates, p_value
from eval.protocol import Result
from eval.results import Record, write_results
from eval.targets import open_targets
from tests import faces
from tools.ablation import estimate, render, results, significance
from tools.ablation.__main__ import main
from tools.ablation.runs import Run, make_study, word

RECIPE = """from easydict import EasyDict as edict

config = edict(network="tiny", embedding_size=16, batch_size=8, num_epoch=2, num_workers=0, frequent=1, lr=0.02)
config.update(views=("original", "augmented"), augment="qgface", loss="adaface", quality_threshold=0.2, pool="proxy")
config.update(quality_ema=0.5, quality_std=1.0, device="cpu")
"""
COLUMNS = (Column("Pairs", ("pairs/accuracy",), "d1"), Column("Mean", ("pairs/accuracy", "pairs/other"), "HQ"))
RIGHT = {("Baseline", 0): (48, 41), ("Baseline", 1): (46, 43), ("E", 0): (58, 47), ("E", 1): (54, 47)}  # of 60 and 50
SEEDS = (0, 1)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A recipe, data, and the finished runs of two rows and two seeds."""
    root = faces.write_run(tmp_path_factory.mktemp("ablation"))
    (root / "little.py").write_text(RECIPE)
    tables.COLUMNS["little"] = COLUMNS
    digest = open_targets(root, ["pairs"]).targets["pairs"].digest()
    for run in study(root).every():
        if (run.name, run.seed) in RIGHT:
            finish(run, *RIGHT[run.name, run.seed], digest)
    yield root
    del tables.COLUMNS["little"]


def study(root, *more, names=("I",)):
    return make_study(str(root / "little.py"), names, SEEDS, [*data(root), *more], root / "out" / "runs")


def data(root):
    return [f"rec={str(root)!r}", f"val_dir={str(root)!r}"]


def finish(run, right, other, digest):
    """What a run leaves that had so many of 60 pairs, and of 50, right."""
    run.folder.mkdir(parents=True)
    saved = {**run.cfg, "total_batch_size": 8, "num_classes": 11, "num_image": 88}
    (run.folder / "config.json").write_text(json.dumps(saved))
    rng = np.random.default_rng(run.seed)
    flags = rng.permutation(np.arange(60) < right)
    replicates = mean_replicates(rng.permutation(np.arange(50) < other))
    evidence = {"right/accuracy": flags, "replicates/other": replicates}
    result = Result({"accuracy": right / 60, "other": other / 50}, ("accuracy",), {}, evidence)
    write_results(run.results, "model.pt", "0" * 64, {"pairs": Record(result, 1, digest, {})})


def command(root, *more):
    return [f"recipe={root / 'little.py'}", f"data={root}", "seeds=0,1", "--output", str(root / "out"), *more]


def shown_rows(text):
    """The cells of every line of every table on screen."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def test_of_the_tables_only_some_rows(place, capsys):
    """proxy and 0.2 are E's runs; Table I without Baseline, A, B, C and D."""
    assert main(command(place, "tables=I,II,III,differences", "rows=E,momentum", "--report"), {}) == 0
    shown = [row[0] for row in shown_rows(capsys.readouterr().out)]
    assert shown == ["Setting", "E", "Queue", "momentum", "proxy", "Threshold", "0.2", "Difference", "none of them",
                     "run", *["E", "momentum"] * 2]  # fmt: skip


def test_tables_have_the_papers_form(place, capsys):
    assert main(command(place, "tables=I,II,III", "against=E", "--report"), {}) == 0
    rows = shown_rows(capsys.readouterr().out)
    assert ["Setting", "Augmentation", "Quality partition", "Contrast", "Pairs", "Mean", "seeds"] in rows
    assert ["Baseline", "×", "×", "×", "78.33 ± 2.36 (61.69)", "81.17 ± 0.24 (95.62)", "2/2"] in rows
    assert ["C", "AdaFace", "✓", "✓", "- (70.92)", "- (95.71)", "0/2"] in rows
    # one run for three rows, the best of each column
    numbers = ["*93.33 ± 4.71* (92.31)", "*93.67 ± 2.36* (95.43)", "2/2"]
    assert ["E", "Ours", "✓", "✓", *numbers] in rows and ["proxy", *numbers] in rows and ["0.2", *numbers] in rows


def test_the_files(place, capsys):
    assert main(command(place, "tables=I,III", "--report"), {}) == 0
    markdown, latex = ((place / "out" / f"tables.{kind}").read_text() for kind in ("md", "tex"))
    assert "| E | Ours | ✓ | ✓ | **93.33 ± 4.71** (92.31) | **93.67 ± 2.36** (95.43) | 2/2 |" in markdown
    assert r"E & Ours & \checkmark & \checkmark & \textbf{93.33 $\pm$ 4.71} (92.31) & " in latex
    assert r"Baseline & $\times$ & $\times$ & $\times$ & 78.33 $\pm$ 2.36 (61.69) & " in latex
    assert latex.count(r"\toprule") == latex.count(r"\end{table}") == 2 and latex.isascii()
    lines = {(line["table"], line["row"], line["column"]): line
             for line in csv.DictReader((place / "out" / "tables.csv").read_text().splitlines())}  # fmt: skip
    assert len(lines) == (6 + 4) * 2
    line = lines["I", "Baseline", "Mean"]
    assert [float(x) for x in line["values"].split()] == pytest.approx(
        [50 * (48 / 60 + 41 / 50), 50 * (46 / 60 + 0.86)]
    )
    assert (line["run"], line["seeds"], line["paper"], line["against"]) == ("Baseline", "0 1", "95.62", "")
    assert lines["III", "0.3", "Mean"]["mean"] == "" and lines["III", "0.2", "Pairs"]["run"] == "E"


def test_p_values(place, capsys):
    """Against scipy's test over seeds, and the bootstrap of the mean over seeds."""
    made = study(place)
    runs, reached = made.runs, results.Reached(made.every())
    found = significance.compare(reached, runs["Baseline"], runs["E"], COLUMNS[0])
    ours, theirs = [100 * 48 / 60, 100 * 46 / 60], [100 * 58 / 60, 100 * 54 / 60]
    assert found.points == pytest.approx(np.mean(ours) - np.mean(theirs)) and found.seeds == 2
    assert found.p_seeds == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    draws = {}
    for name in ("Baseline", "E"):
        flags = [np.random.default_rng(seed).permutation(np.arange(60) < RIGHT[name, seed][0]) for seed in SEEDS]
        draws[name] = np.mean([mean_replicates(x) for x in flags], axis=0)
    assert found.p_people == pytest.approx(p_value(draws["Baseline"], draws["E"])) and found.p_people < 0.05
    assert significance.compare(reached, runs["C"], runs["E"], COLUMNS[0]) is None
    assert main(command(place, "against=E", "--report", "tables=I"), {}) == 0
    rows = shown_rows(capsys.readouterr().out)
    assert found.p_people == 2 / 1001  # as small as 1,000 draws can tell
    assert ["Baseline", f"-15.00 ({found.p_seeds:.3f} / ≤ 0.002)"] in [row[:2] for row in rows]
    assert not [row for row in rows if row[0] == "E" and "/ " in row[1]]  # not against itself


def test_paired_t_where_nothing_can_be_said():
    """All seeds may have the same difference where few probes are counted: that is not p = 0."""
    assert significance.paired_t([1.0]) is significance.paired_t([0.0, 0.0]) is None
    assert significance.paired_t([100 * (0.3 - 0.1), 100 * 0.2, 20.0]) is None  # but for rounding


def little_run(folder, targets, digest="data"):
    """A run with the flags of each target's pairs."""
    records = {}
    for name, right in targets.items():
        metrics = {"accuracy": float(right.mean()), "other": 0.5}
        result = Result(metrics, ("accuracy",), {}, {"right/accuracy": right})
        records[name] = Record(result, 1, digest, {})
    folder.mkdir()
    write_results(folder / "results.json", "model.pt", "0" * 64, records)
    return {0: Run(folder.name, 0, (), None, folder)}


def test_people_of_several_sets_are_drawn_apart(tmp_path):
    """The mean of two sets varies less than either, although both have as many pairs and draws are seeded."""
    right = np.random.default_rng(0).random(400) < 0.8
    (run,) = little_run(tmp_path / "run", {"one": right, "two": right}).values()
    one, both = (
        significance.replicates(results.Reached([run]), [run], Column("", tuple(f"{name}/accuracy" for name in names)))
        for names in (["one"], ["one", "two"])
    )
    assert both.std() / one.std() == pytest.approx(0.5**0.5, rel=0.05)
    assert both.mean() == pytest.approx(one.mean())


def test_what_is_tested_may_be_another_metric(tmp_path):
    """InsightFace's TAR of IJB has no replicates, the strict one has."""
    flags = np.arange(50) < 30
    ours, theirs = (little_run(tmp_path / name, {"pairs": right}) for name, right in (("a", flags), ("b", flags[::-1])))
    reached = results.Reached([ours[0], theirs[0]])
    for metrics, known in (((), False), (("pairs/accuracy",), True)):
        found = significance.compare(reached, ours, theirs, Column("", ("pairs/other",), None, metrics))
        assert (found.p_people is not None) == known and found.points == 0


def test_a_few_of_the_seeds_are_said():
    found = significance.Difference(1.0, 2, 0.25, 0.5)
    assert render.difference(found, 2) == "+1.00 (0.250 / 0.500)"
    assert render.difference(found, 3) == "+1.00 (n = 2: 0.250 / 0.500)"


def test_signs_that_a_format_means_otherwise():
    grid = render.Grid("T", "a < b_c", ["Row", "p"], [[render.Cell("x|y & z"), render.Cell("1.0 (- / < 0.001)", True)]])
    assert r"| x\|y & z | **1.0 (- / < 0.001)** |" in render.as_markdown(grid)
    latex = render.as_latex(grid)  # a bare < is another sign in TeX's first encoding
    assert r"\caption{a $<$ b\_c}" in latex and r"x|y \& z & \textbf{1.0 (- / $<$ 0.001)} \\" in latex


def test_ties_are_all_bold():
    numbers = [results.Number(x) for x in ({0: 90.001}, {0: 90.004}, {0: 89.9}, {})]
    assert results.best(numbers) == [True, True, False, False]
    assert numbers[0].std is None and numbers[3].mean is None
    assert not any(
        results.best([*numbers, results.Number({0: 80.0, 1: 95.0})])
    )  # the others' second seed may be better


def test_hours_leave_stops_out(place):
    """4 steps of 8 images at 2 images/s, an evaluation of 30 s, a night, 2 steps at 4 images/s."""
    run = study(place).runs["E"][0]
    lines = [{"step": 2, "time": 1000.0, "samples_per_s": 2.0}, {"step": 4, "time": 1008.0, "samples_per_s": 2.0},
             {"step": 4, "time": 1038.0, "val/pairs/accuracy": 0.9},
             {"step": 6, "time": 50000.0, "samples_per_s": 4.0}]  # fmt: skip
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert results.hours(run) == pytest.approx((16 + 30 + 4) / 3600)
    assert results.hours(study(place).runs["C"][0]) is None and results.machine(run) == "-"


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("data_digest", "1" * 64, "plain, data 11111111, most have protocol 1, plain, data "),
        ("options", {"fusion": "none"}, "protocol 1, fusion='none', data "),
    ],
)
def test_what_is_evaluated_otherwise_is_named_and_left_out(place, capsys, key, value, said):
    path = place / "out" / "runs" / "E_seed1" / "results.json"
    kept = path.read_text()
    content = json.loads(kept)
    content["provenance"]["pairs"][key] = value
    path.write_text(json.dumps(content))
    assert main(command(place, "tables=I", "against=E", "--report"), {}) == 0
    path.write_text(kept)
    out = capsys.readouterr().out
    notes = [line for line in out.splitlines() if line.startswith("note: ")]
    if key == "data_digest":
        assert "E seed 1 has no pairs of this data" in notes.pop() and f"{path.parent}/model.pt" in out
    (note,) = notes
    assert note.startswith("note: E seed 1 is left out of pairs: it has protocol 1, ") and said in note
    rows = shown_rows(out)
    assert ["E", "Ours", "✓", "✓", "96.67 (92.31)", "95.33 (95.43)", "2/2"] in rows
    assert ["Baseline", "-16.67 (n = 1: - / ≤ 0.002)"] in [row[:2] for row in rows]


def test_what_an_evaluation_says_of_the_model_is_no_difference(tmp_path):
    """Training writes {"fusion": "sum"} and the model's facts, `python -m eval` its options too."""
    plain = {"fusion": "sum", "use_norm_score": True, "use_detector_score": True}
    found = []
    for number, options in enumerate(
        ({"fusion": "sum"}, {**plain, "digest": "3f", "mean": 127.5}, {**plain, "mean": 0.0})
    ):
        run = Run("a", 0, (), None, tmp_path / str(number))
        run.folder.mkdir()
        write_results(run.results, "m", "0", {"pairs": Record(Result({"x": 1.0}, (), {}, {}), 1, "d", options)})
        found.append(results.Reached([run]).source(run, "pairs"))
    assert found[0] == found[1] == found[2] == results.Source("d", 1, "")


def test_a_contrast_that_did_nothing_is_named(place):
    run = study(place).runs["E"][1]
    for shares, named in (([0.0, 0.0], True), ([0.0, 0.1], False)):
        lines = [{"step": step, "time": 1.0, "lq_pairs": share} for step, share in enumerate(shares)]
        (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        made = study(place)
        said = results.notes(made, results.Reached(made.every()), {})
        notes = [note for note in said if "no pair was found LQ" in note]
        assert [note.partition(":")[0] for note in notes] == ["E seed 1"] * named
    (run.folder / "metrics.jsonl").unlink()


def test_a_part_of_a_run_is_not_its_end(place):
    """Who evaluates the model of a run that was stopped writes its results.json."""
    made = study(place)
    run = made.runs["E"][0]
    checkpoint = run.folder / "checkpoints" / "step_00000011"
    checkpoint.mkdir(parents=True)
    for last_step, ended in ((22, False), (11, True)):
        state = {"ranks": 1, "step": 11, "last_step": last_step}
        (checkpoint / "state.json").write_text(json.dumps(state))
        reached = results.Reached(made.every())
        assert run.ended == ended and bool(reached.number({0: run}, COLUMNS[0]).by_seed) == ended
    (checkpoint / "state.json").unlink()  # as where checkpoints were removed to save room
    assert run.ended


def test_words_and_keys_of_a_row(place):
    made = study(place, "quality_threshold=0.4", "margin=0.3", names=("I", "III"))
    assert made.runs["E"][1].cfg.quality_threshold == 0.4 and made.runs["D"][0].cfg.quality_threshold is None
    assert {run.cfg.margin for run in made.every()} == {0.3}
    assert made.rows["III", "0.2"] == "0.2"  # no longer setting E
    assert [run.cfg.seed for run in made.every()[:2]] == [0, 0]  # a whole table first
    assert made.runs["E"][1].cfg.val_targets == ["pairs"]
    assert made.runs["E"][1].cfg.verbose > 100_000  # evaluated at the end alone ...
    assert {run.cfg.verbose for run in study(place, "verbose=50").every()} == {50}  # unless the user wants more
    alone = make_study(str(place / "little.py"), ["II"], [0], data(place), place)
    assert alone.rows["II", "proxy"] == alone.find("proxy", "against") == "E"  # its name in every table


@pytest.mark.parametrize("value", [None, 0.1, True, "a'b", 'a"b', "a\\b", "7", ("x",), ["x'y", 'x"y'], {"a": (1, 2)}])
def test_a_word_says_its_value(value):
    key, _, text = word("key", value).partition("=")
    assert (key, ast.literal_eval(text)) == ("key", value)


NEW = ("--output", "/nowhere")
MISTAKES = {
    "table": (["tables=I,IV"], "tables=IV: did you mean I? expected some of I, II, III"),
    "seeds": (["seeds=0,0"], "seeds=0,0: expected different whole numbers, as seeds=0,1,2"),
    "no seed": (["seeds=a"], "seeds=a: expected different whole numbers"),
    "data": (["data=/nowhere"], "data=/nowhere: no such folder"),
    "against": (["against=F", "tables=I"], "against=F: expected a row, one of Baseline, A, B, C, D, E"),
    "rows": (["rows=D,F", "tables=I"], "rows=F: expected a row, one of Baseline, A, B, C, D, E"),
    "recipe": (["recipe=vgg2_r34_qgfac"], "no config 'vgg2_r34_qgfac': did you mean vgg2_r34_qgface?"),
    "key": (["lrr=0.1"], "unknown key 'lrr'"),
    "word": (["table=I"], "unknown key 'table' on the command line: did you mean 'tables'?"),
    "seed": (["seed=3"], "seed=3: each run has its own seed; seeds=0,1,2 says which"),
    "output": (["output=x"], "output=x: each run has its own output; --output FOLDER says which"),
    "jobs": (["--jobs", "0"], "--jobs 0: expected 1 or more"),
    "GPUs": (["--gpus-per-run", "2"], "--gpus-per-run 2: no GPU is here"),
    "modes": (["--report", "--dry-run"], "--dry-run, --report, --slurm: expected one of them"),
    "another config": (["--report", "lr=0.01"], "E_seed0 is another run: lr=0.02, now 0.01; --output names a folder"),
    "another batch": (["--report", "batch_size=4"], "total_batch_size=8, now 4"),
    "shorter": (["--report", "max_step=2"], "max_step=None, now 2"),
    "other weights": (["--report", "pretrained='a.pt'"], "pretrained=None, now 'a.pt'"),
    "no step": (["--dry-run", "gradient_acc=12", *NEW], "row no: gradient_acc=12: an epoch has fewer batches than one"),
    "batch": (
        ["--dry-run", "batch_size=100", *NEW],
        "row no: the total batch size 100 is larger than the data set of 88",
    ),
    "keys": (["--slurm", "contrast_queries=both", *NEW], "row momentum: contrast_queries='both' with pool='momentum'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(place, name):
    more, message = MISTAKES[name]
    with pytest.raises(ValueError) as trouble:
        main([*command(place, "tables=II"), *more], {})
    assert message in str(trouble.value) and "\n" not in str(trouble.value)


BROKEN = {
    "name": ({"E": tables.Row({})}, "table Mine, row 'E': table I has a row of that name; runs are named so"),
    "folder": ({"a/b": tables.Row({})}, "table Mine, row 'a/b': expected a name that a folder may have"),
    "numbers": ({"x": tables.Row({}, (1.0, 2.0))}, "row 'x': 2 numbers and 0 marks; expected none or 6 numbers"),
    "marks": ({"x": tables.Row({}, (), ("yes",))}, "row 'x': 0 numbers and 1 marks; expected"),
    "key": ({"x": tables.Row({"pol": "none"})}, "table Mine, row x: unknown key 'pol' in the command line: did you"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_table_of_ones_own_that_is_wrong(place, monkeypatch, name):
    rows, message = BROKEN[name]
    monkeypatch.setitem(tables.TABLES, "Mine", tables.Table("", "Row", rows))
    with pytest.raises(ValueError) as trouble:
        study(place)
    assert message in str(trouble.value) and str(trouble.value).startswith("configs/tables.py, ")


def test_data_without_training_faces(place, tmp_path):
    """A folder of targets is not taken for one of identities; rec= says where the faces are."""
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "1.jpg").write_bytes(b"")
    recipe = tmp_path / "other.py"
    recipe.write_text(RECIPE + 'config.rec = "data/vggface2"\n')
    words = [f"recipe={recipe}", f"data={tmp_path}", "--report", "--output", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="no vggface2, the recipe's training faces, and no train.rec is in it; rec="):
        main(words, {})
    assert main([*words, f"rec={place}", "seeds=0"], {}) == 0


def test_a_folder_that_is_no_run(place, tmp_path):
    (tmp_path / "runs" / "no_seed0").mkdir(parents=True)
    (tmp_path / "runs" / "no_seed0" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="no_seed0/config.json is no config of a run"):
        main([*command(place, "tables=II", "--report"), "--runs", str(tmp_path / "runs")], {})


def test_the_prospect(place, capsys):
    assert main(command(place, "tables=I", "--dry-run"), {}) == 0
    out = capsys.readouterr().out
    row = next(row for row in shown_rows(out) if row[0] == "E")
    assert row[1:5] == ["I/E", "none", "2/2", "22"]  # 88 images, 8 a step, 2 epochs
    assert "8 runs to go: " in out  # 6 rows, two seeds, two rows are finished
    assert "GB of disk" in out and "1 x CPU" in out


def test_the_prospect_of_runs_side_by_side(place):
    made = study(place)
    found = {name: estimate.Estimate(100, 2.0 if name == "A" else 1.0, 10**9) for name in made.runs}
    assert "8 runs to go: 10.0 hours one after the other (10.0 device hours), 5.0 with 2 at a time; 8.0 GB" in (
        estimate.report(made, found, 1, 2, "here")
    )
    checkpoint = made.runs["A"][0].folder / "checkpoints" / "step_00000050"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text(json.dumps({"ranks": 1, "step": 50, "last_step": 100}))
    text = estimate.report(made, found, 1, 20, "here")  # half of a run is done, and one of them takes two hours
    shutil.rmtree(made.runs["A"][0].folder)
    assert "8 runs to go: 9.0 hours" in text and ", 2.0 with 20 at a time" in text


def test_the_prospect_of_what_is_beyond_the_paper(place, capsys):
    assert main(command(place, "tables=beyond", "--dry-run"), {}) == 0
    keys = {row[1]: row[2] for row in shown_rows(capsys.readouterr().out) if row[1].startswith("beyond/")}
    assert len(keys) == len(tables.TABLES["beyond"].rows) and keys["beyond/share 0.1"] == "quality_lq_share=0.1"
