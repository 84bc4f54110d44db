"""`python -m eval` as it is typed."""

import json

import pytest
import torch

from eval.__main__ import main
from eval.results import read_results
from recognition.backbones import get_backbone
from tests import faces
from utils.bins import write_bin
from utils.jpeg import encode


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with a small model, and a verification set beside it."""
    root = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    torch.save(get_backbone("tiny", 16).state_dict(), root / "model.pt")
    (root / "config.json").write_text(json.dumps({"network": "tiny", "embedding_size": 16}))
    faces.write_pairs(root / "pairs.bin")
    faces.write_pairs(root / "more.bin", pairs=20)
    return root


def test_results_are_shown_and_written(run, capsys, tmp_path):
    output = tmp_path / "results.json"
    words = ["--data", str(run), "--target", "pairs", "lfw", "more", "--output", str(output)]
    main([str(run / "model.pt"), *words])
    shown = capsys.readouterr().out
    assert (tmp_path / "results" / "more.npz").is_file() and len(list((tmp_path / "features").iterdir())) == 2
    assert "skipped lfw: no lfw.bin in" in shown and "accuracy" in shown
    results = json.loads(output.read_text())
    assert list(results["targets"]) == ["pairs", "more"] and results["model"] == str(run / "model.pt")
    assert all(0 <= numbers["accuracy"] <= 1 for numbers in results["targets"].values())


def test_the_channel_order_matters(run, tmp_path):
    for channels in ("rgb", "bgr"):
        words = ["--data", str(run), "--target", "pairs", "--channels", channels]
        main([str(run / "model.pt"), *words, "--output", str(tmp_path / f"{channels}.json")])
    rgb, bgr = (read_results(tmp_path / f"{channels}.json")["targets"]["pairs"] for channels in ("rgb", "bgr"))
    assert rgb["xnorm"] != pytest.approx(bgr["xnorm"], rel=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "lfw"], "nothing to evaluate in .*: no lfw.bin in "),
        (["--target", "pairs", "--network", "r51"], "did you mean 'r50'"),
        (["--target", "pairs", "--network", "mbf"], "is of another network"),
        (["--target", "pairs", "--embedding-size", "32"], "makes features of 16 dimensions, not of 32"),
        (["--target", "pairs", "--device", "cuda:7"], "expected 'auto', 'cpu' or 'cuda'"),
    ],
)
def test_mistakes(run, words, message):
    with pytest.raises(ValueError, match=message):
        main([str(run / "model.pt"), "--data", str(run), *words])
    assert not (run / "results.json").exists()


def test_a_model_that_does_not_say_its_channel_order_asks_for_it(run, tmp_path):
    torch.save(get_backbone("tiny", 16).state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match="nothing says the channel order of model .*; add --channels rgb"):
        main([str(tmp_path / "model.pt"), "--data", str(run), "--target", "pairs"])


def test_damaged_data_leaves_the_other_targets_their_results(run, tmp_path, capsys):
    data = tmp_path / "data"
    data.mkdir()
    whole = (run / "pairs.bin").read_bytes()
    for name, content in (("a_cut", whole[:-99]), ("b_whole", whole), ("d_whole", whole)):
        (data / f"{name}.bin").write_bytes(content)
    images = [encode(faces.photo(number, 0)) for number in range(20)]
    images[7] = images[7][:-60] + images[7][-2:]  # its header is whole: found when it is decoded
    write_bin(data / "c_damaged.bin", images, [True] * 10)
    output = tmp_path / "results.json"
    with pytest.raises(SystemExit) as caught:
        main([str(run / "model.pt"), "--data", str(data), "--output", str(output)])
    assert caught.value.code == 2 and list(read_results(output)["targets"]) == ["b_whole", "d_whole"]
    said = capsys.readouterr().err
    assert "error: a_cut: " in said and "error: c_damaged: c_damaged.bin: image 7 of 20 cannot be used" in said


def test_a_second_run_takes_the_features_it_has(run, tmp_path, monkeypatch):
    words = [str(run / "model.pt"), "--data", str(run), "--target", "pairs", "--output"]
    main([*words, str(tmp_path / "a" / "results.json"), "--cache", str(tmp_path / "cache")])
    monkeypatch.setattr("eval.cache.extract", None)
    main([*words, str(tmp_path / "b" / "results.json"), "--cache", str(tmp_path / "cache")])
    first, second = (read_results(tmp_path / folder / "results.json") for folder in "ab")
    assert first == second
