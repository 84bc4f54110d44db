import json
import math
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from eval.report.__main__ import main
from eval.report.page import write_report
from eval.results import evidence_file, write_results
from eval.svg import STYLE
from tests.eval.report.pages import EVIL, Page, verification, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two run folders, the second one's model worse on lfw."""
    root = tmp_path_factory.mktemp("runs")
    write_run(root / "ours")
    write_run(root / "theirs", seed=1, right=0.6)
    return root


@pytest.fixture
def run(runs, tmp_path):
    """A copy of the first, to break."""
    return shutil.copytree(runs / "ours", tmp_path / "run")


def read(path):
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(runs):
    path = write_report(runs / "ours")
    assert path == runs / "ours" / "report.html"
    return Page(read(path))


def headings(page):
    return [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]


def test_everything_that_there_is_evidence_for(page):
    for words in (
        "On lfw (200 pairs) the model judges",
        "95 % interval 83.00 to 94.00",
        "where one of the two images has a low resolution",
        *("ROC: lfw", "Error versus discard: lfw", "Similarity of pairs: lfw", "CMC: surveillance:<b>"),
        *("Similarity of probes at d1", "Verification accuracy by resolution", "Feature norm by resolution"),
        *("Hardest images", "One person, judged least alike", "Lowest norms", "Highest norms"),
        *("Classification", "Evaluations: lfw", "Cosines with keys", "Feature norms of the last batch looked at"),
        *("network tiny", "evaluation: numpy", "training: machine 1 x CPU", "What the metrics mean", "da7a"),
    ):
        assert words in page.text, words


def test_it_asks_nobody_for_anything(page):
    assert not page.all("script") and not page.all("iframe")
    addresses = [
        value for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href")
    ]
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_what_a_screen_reader_needs(page):
    levels = headings(page)
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert all(len(page.all(landmark)) == 1 for landmark in ("header", "nav", "main", "footer"))
    assert page.all("html")[0]["lang"] == "en"
    identities = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identities) == len(set(identities))
    assert {link["href"][1:] for link in page.all("a")} <= set(identities)
    assert page.all("img") and all(image["alt"] for image in page.all("img"))
    assert all(set(chart["aria-labelledby"].split()) <= set(identities) for chart in page.all("svg"))
    assert all(cell["scope"] in ("row", "col") for cell in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))


def luminance(colour):
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    values = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def test_contrast_in_light_and_dark():
    schemes = re.findall(r":root\{([^}]*)\}", STYLE)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+):(#\w+)", scheme))
        paper = luminance(colours["paper"])
        for name in colours.keys() - {"paper", "grid"}:
            light, dark = sorted([luminance(colours[name]), paper], reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, name


def test_words_of_others_are_escaped(page, runs):
    html = read(runs / "ours" / "report.html")
    assert "<script" not in html and EVIL in page.text and "surveillance:<b>" in page.text
    assert any(EVIL in image["alt"] for image in page.all("img"))


def test_names_in_evidence_and_of_targets_stay_words(tmp_path):
    record = verification(0)
    for kind in ("matched", "unmatched"):
        record.result.evidence[f'{kind}/">{EVIL}'] = np.ones(3)
    write_results(tmp_path / "results.json", f'"{EVIL}/model.pt', "d1", {'a\udcff"': record})
    html = read(write_report(tmp_path / "results.json"))
    page = Page(html)
    assert "<script" not in html and f'Similarity of probes at ">{EVIL}: a\\udcff"' in page.text
    assert f'"{EVIL}/model.pt' in page.text


def test_two_results(runs, tmp_path):
    main([str(runs / "ours"), str(runs / "theirs" / "results.json"), "--output", str(tmp_path / "two.html")])
    page = Page(read(tmp_path / "two.html"))
    assert "Comparison of ours/model.pt and theirs/model.pt" in page.text
    row = re.search(r"accuracy of lfw ([+-][\d.]+) (\w+ \w+) (\S+ ?[\d.]+) McNemar", page.text)
    assert float(row[1]) > 20 and row[2] == "first better" and row[3] == "< 0.0001"
    assert "ours/model.pt is better than theirs/model.pt in 1 and worse in 0" in page.text
    assert "Keys that differ key ours/model.pt theirs/model.pt lr 0.1 1.1" in page.text
    for words in (
        "Similarity of pairs: lfw, ours/model.pt",
        "Hardest images of ours/model.pt",
        "Similarity of probes at d1: surveillance:<b>, ours/model.pt",
        "Low and high quality of ours/model.pt",
    ):
        assert words in page.text, words
    drawn = [svg for svg in re.findall(r"<svg.*?</svg>", read(tmp_path / "two.html")) if "ROC: lfw" in svg]
    assert len(drawn) == 1 and "ours/model.pt" in drawn[0] and "theirs/model.pt" in drawn[0]
    assert write_report(runs / "ours", runs / "ours") == runs / "ours" / "comparison.html"
    assert "1: ours/model.pt" in read(runs / "ours" / "comparison.html")


def test_no_faces(run, capsys):
    main([str(run), "--no-faces"])
    assert capsys.readouterr().out == f"report   {run / 'report.html'}\n"
    html = read(run / "report.html")
    assert "<img" not in html and "Hardest images" not in html and "shows faces" not in html


def test_what_is_missing_is_left_out(run):
    evidence_file(run / "results.json", "lfw").unlink()
    (run / "results" / "cross_resolution.npz").write_bytes(b"no archive")
    (run / "results" / "surveillance_<b>_faces.json").write_text("{")
    for name in ("config.json", "metrics.jsonl", "diagnostics.jsonl"):
        (run / name).write_bytes(b"\xff{")
    page = Page(read(write_report(run)))
    assert page.text.count("its charts are left out") == 2 and page.text.count("faces are left out") == 1
    assert "ROC: lfw" not in page.text and "CMC: surveillance" in page.text and "network tiny" not in page.text
    assert "On lfw (200 pairs)" in page.text


def test_numbers_that_no_axis_holds_are_left_out(run):
    (run / "metrics.jsonl").write_text(
        '{"step": 1, "lr": 0.5}\n{"step": 2, "lr": NaN}\n{"step": 3, "lr": 1e308}\n{"step": 4, "lr": -1e308}\n'
        f'{{"step": 5, "lr": {"9" * 400}}}\n{{"step": {"9" * 400}, "lr": 0.5}}\n'
    )
    shape = {"least": 3, "most": 9, "mean": 6, "std": 1, "counts": [1, 2]}
    line = {"step": 20, "time": 1.0, "z_original": shape, "z_augmented": shape | {"least": math.nan, "most": math.nan}}
    (run / "diagnostics.jsonl").write_text(json.dumps(line))
    page = Page(read(write_report(run)))
    assert "lr: 0.5 at 1. " in page.text and "original: highest, 66.667 % at 6. " in page.text
    assert "augmented: " not in page.text


def test_evidence_that_does_not_fit_is_left_out(run):
    file = evidence_file(run / "results.json", "lfw")
    arrays = dict(np.load(file))
    np.savez(file, **arrays | {"tar": arrays["tar"][:-1], "hard/matched": np.array([[7, 99999]], np.int32)})
    page = Page(read(write_report(run)))
    assert "chart roc is left out, its evidence is not what it should be: curve 'lfw' has arrays" in page.text
    assert "ROC: lfw" not in page.text and "Error versus discard: lfw" in page.text
    assert "faces are left out, they do not belong to the evidence" in page.text


def test_evidence_of_another_program_is_left_out(run):
    np.savez(evidence_file(run / "results.json", "cross_resolution"), **{"z/widepx": np.ones(3)})
    np.savez(evidence_file(run / "results.json", "lfw"), far=np.array(["high"]), tar=np.array(["low"]))
    page = Page(read(write_report(run)))
    assert page.text.count("charts are left out, their evidence is not what it should be") == 2
    assert "On lfw (200 pairs)" in page.text and "CMC: surveillance" in page.text


def test_the_run_is_where_the_model_was_or_beside_results(runs, run, tmp_path):
    (run / "model.pt").write_bytes(b"trained again")
    assert "Classification" in Page(read(write_report(run))).text  # of the folder that results.json names
    content = json.loads((run / "results.json").read_text())
    for gone in ("gone/model.pt", "no\0path/model.pt", None):
        (run / "results.json").write_text(json.dumps(content | {"model": gone}))
        assert "Classification" not in Page(read(write_report(run))).text


def test_results_without_a_target(run):
    content = json.loads((run / "results.json").read_text())
    content |= {"targets": {}, "intervals": {}, "provenance": {}}
    (run / "results.json").write_text(json.dumps(content))
    assert "No target was evaluated" in Page(read(write_report(run))).text


@pytest.mark.parametrize(
    "text", ["", "{}", "[1, 2]", '{"model_digest": "", "targets": {"a": 1}, "intervals": {}, "provenance": {}}']
)
def test_a_file_of_another_program_is_one_line(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="results.json cannot be read .*; expected results.json of an evaluation"):
        main([str(path)])
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_exit_code_of_a_mistake(root, tmp_path):
    command = [sys.executable, "-m", "eval.report", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"error: {tmp_path / 'results.json'} cannot be read")


def test_a_page_is_not_written_over_results(run):
    with pytest.raises(ValueError, match="expected a file name that ends in .html"):
        main([str(run), "--output", str(run / "results.json")])


def test_the_folder_of_a_page_is_made_or_named(run, tmp_path):
    assert "On lfw" in read(write_report(run, output=tmp_path / "new" / "a" / "page.html"))
    with pytest.raises(ValueError, match="output folder .*results.json cannot be written"):
        write_report(run, output=run / "results.json" / "page.html")


def test_names_of_pages(run):
    (run / "results.json").rename(run / "backbone_results.json")
    (run / "results").rename(run / "backbone_results")
    assert write_report(run / "backbone_results.json").name == "backbone_report.html"
