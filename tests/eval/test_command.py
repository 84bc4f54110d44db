"""`python -m eval` as it is typed."""

import json
import shutil

import numpy as np
import pytest
import torch

from eval.__main__ import main
from eval.metrics import fold_accuracies
from eval.results import read_results
from recognition.backbones import get_backbone
from recognition.models import save_model
from tests import faces
from tests.ijb import write_ijb
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
    beside = {path.name for path in (tmp_path / "results").iterdir()}
    kinds = (".npz", "_quality.csv", "_faces.json", "_roc.svg", "_similarity.svg", "_discard.svg")
    assert beside == {f"{name}{kind}" for name in ("pairs", "more") for kind in kinds}
    assert (tmp_path / "results" / "more_quality.csv").read_text().count("\n") == 41
    assert len(list((tmp_path / "features").iterdir())) == 2
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


def test_two_models_are_compared(run, tmp_path, capsys):
    torch.manual_seed(1)
    save_model(tmp_path / "other.pt", get_backbone("tiny", 16).state_dict(), "tiny", 16)
    words = ["--data", str(run), "--target", "pairs", "--no-cache", "--output"]
    main([str(run / "model.pt"), *words, str(tmp_path / "a.json")])
    main([str(tmp_path / "other.pt"), *words, str(tmp_path / "b.json"), "--against", str(tmp_path / "a.json")])
    shown = capsys.readouterr().out
    assert f"against {tmp_path / 'a.json'}" in shown and "McNemar" in shown and not (run / "features").exists()
    ours, theirs = (read_results(tmp_path / f"{name}.json")["targets"]["pairs"]["accuracy"] for name in "ba")
    assert f"{100 * (ours - theirs):+.2f}" in shown
    for other, message in (("absent", "absent.json cannot be read"), ("a", "is where the results go")):
        with pytest.raises(ValueError, match=message):
            main(
                [str(run / "model.pt"), *words, str(tmp_path / "a.json"), "--against", str(tmp_path / f"{other}.json")]
            )
    main([str(tmp_path / "other.pt"), "--data", str(run), "--target", "pairs", "--no-cache"])
    assert read_results(tmp_path / "other_results.json")["model"] == str(tmp_path / "other.pt")


def test_cross_resolution(run, tmp_path, capsys):
    words = ["--data", str(run), "--target", "cross_resolution:pairs", "--pairs", "20", "--no-cache", "--output"]
    main([str(run / "model.pt"), *words, str(tmp_path / "results.json")])
    assert "mean_cross" in capsys.readouterr().out
    beside = {path.name.removeprefix("cross_resolution_pairs") for path in (tmp_path / "results").iterdir()}
    assert beside == {".npz", "_quality.csv", "_faces.json", "_accuracy.svg", "_norm.svg", "_discard.svg"}


def test_features_made_elsewhere(run, tmp_path, capsys):
    h = np.random.default_rng(0).standard_normal((80, 8)).astype(np.float32)
    np.save(tmp_path / "h.npy", h)
    words = ["--features", str(tmp_path / "h.npy"), "--data", str(run), "--target", "pairs"]
    main(words)
    numbers = read_results(tmp_path / "h_results.json")["targets"]["pairs"]
    u = h / np.linalg.norm(h.astype(float), axis=1, keepdims=True)
    issame = np.tile([True, False], 20)
    assert numbers["accuracy"] == fold_accuracies(np.square(u[0::2] - u[1::2]).sum(1), issame)[0].mean()
    assert numbers["xnorm"] == pytest.approx(np.linalg.norm(h, axis=1).mean(), rel=1e-6)
    for wrong, message in (
        (["more"], "features of 80 images, but more has 40"),
        (["pairs", "more"], "they are of one"),
    ):
        with pytest.raises(ValueError, match=message):
            main([*words[:-1], *wrong])
    with pytest.raises(ValueError, match="--fusion norm, --channels, --mean: of no meaning with --features"):
        main([*words, "--fusion", "norm", "--channels", "rgb", "--mean", "127.5"])
    with pytest.raises(ValueError, match="--check-color takes a model"):
        main([*words, "--check-color"])
    with pytest.raises(ValueError, match="expected a model or --features FILE.npy, one of them"):
        main([str(run / "model.pt"), *words])


def test_check_color_says_which_order(run, capsys):
    main([str(run / "model.pt"), "--data", str(run), "--target", "pairs", "--check-color"])
    shown = capsys.readouterr().out
    assert (
        "pairs: channels: rgb " in shown
        and "bgr " in shown
        and "takes rgb" in shown
        and "None" not in shown
        and not (run / "results.json").exists()
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pairs", "25"], "pairs=25: expected a multiple of 10"),
        (["--check-color", "--target", "pairs", "lfw"], "--check-color takes a model and one verification set"),
        (["--against", "absent.json"], "absent.json cannot be read"),
        (["--output", "results"], "expected a file name that ends in .json"),
        (["--target", "pairs", "--pairs", "20"], "--pairs: of cross_resolution, which --target does not name"),
        (["--data", "nowhere"], "--data nowhere: no such folder"),
        (["--check-color", "--target", "absent"], "absent.bin cannot be read"),
    ],
)
def test_options_that_cannot_be(run, tmp_path, words, message, capsys):
    words = ["--target", "cross_resolution:pairs", *words]
    with pytest.raises((ValueError, SystemExit)) as caught:
        main([str(run / "model.pt"), "--data", str(run), *words])
    assert message in (str(caught.value) + capsys.readouterr().err)


def test_the_halves_of_image_and_mirror_image_are_added(run, tmp_path):
    h = np.random.default_rng(0).standard_normal((80, 2, 512)).astype(np.float32)
    np.save(tmp_path / "both.npy", h.reshape(80, 1024))
    np.save(tmp_path / "sum.npy", h[:, 0] + h[:, 1])
    for name in ("both", "sum"):
        words = ["--features", str(tmp_path / f"{name}.npy"), "--data", str(run), "--target", "pairs"]
        main([*words, "--output", str(tmp_path / f"{name}.json")])
    both, added = (read_results(tmp_path / f"{name}.json")["targets"] for name in ("both", "sum"))
    assert both == added


def test_sets_that_are_folders(run, tmp_path, capsys):
    data = tmp_path / "data"
    write_ijb(data / "IJBB")
    (data / "scface").mkdir()
    for who in (1, 2, 7):
        (data / "scface" / f"{who:03d}_frontal.jpg").write_bytes(encode(faces.photo(who, 0)))
        for probe in (f"cam{camera}_{distance}" for camera in range(1, 6) for distance in (1, 2, 3)):
            (data / "scface" / f"{who:03d}_{probe}.jpg").write_bytes(encode(faces.photo(who, sum(probe.encode()))))
    main([str(run / "model.pt"), "--data", str(data), "--output", str(tmp_path / "results.json")])
    shown = capsys.readouterr().out
    assert "note: scface: not the whole SCface" in shown and "note: ijbb: not the whole IJBB" in shown
    content = read_results(tmp_path / "results.json")
    assert list(content["targets"]) == ["scface", "ijbb"] and content["targets"]["scface"]["d3"] > 0.5
    assert set(content["intervals"]["ijbb"]) >= {"rank1", "strict_tar@far=1e-4"}
    beside = {path.name for path in (tmp_path / "results").iterdir()}
    assert beside >= {"scface_cmc.svg", "scface_faces.json", "ijbb_roc.svg", "ijbb_cmc.svg", "ijbb_quality.csv"}
    shutil.rmtree(data / "IJBB" / "loose_crop")  # features need no images
    np.save(tmp_path / "h.npy", np.random.default_rng(0).standard_normal((48, 8)).astype(np.float32))
    main(["--features", str(tmp_path / "h.npy"), "--data", str(data), "--target", "ijbb", "--no-detector-score"])
    assert read_results(tmp_path / "h_results.json")["provenance"]["ijbb"]["options"]["use_detector_score"] is False
