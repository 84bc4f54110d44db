"""`python -m tools.inspect augment`: the sheet shows what the loader makes, and marks what Eq. 1 says."""

import json
import re

import cv2
import numpy as np
import pytest
import torch

from eval import camera
from recognition.backbones import get_backbone
from recognition.data.augment import Augment
from recognition.data.loader import ViewBatches
from recognition.data.sources import open_source
from tests import faces
from tools.inspect import __main__ as command
from tools.inspect import augment, sheet
from utils import jpeg

RGB = {name: tuple(bytes.fromhex(colour[1:])) for name, colour in vars(sheet).items() if str(colour)[:1] == "#"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("records")
    faces.write_records(root, identities=5, photos=4)
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small network; its run augmented as adaface, with a threshold that half of the views are below."""
    root = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    torch.save(get_backbone("tiny", 16).state_dict(), root / "model.pt")
    config = {"network": "tiny", "embedding_size": 16, "quality_threshold": 0.5, "augment": "adaface", "seed": 5}
    (root / "config.json").write_text(json.dumps({**config, "augment_options": {"crop_area": [0.5, 0.9]}}))
    return root / "model.pt"


def run(*words) -> None:
    command.main(["augment", *map(str, words)])


def read(path) -> np.ndarray:
    return cv2.imread(str(path))[:, :, ::-1]


def tile(image, row, column):
    """The frame's colour and the face inside of it."""
    top = sheet.MARGIN + sheet.TITLE + sheet.HEAD + row * (112 + 2 * sheet.FRAME + sheet.CAPTION + sheet.GAP)
    left = sheet._left(column, 112)
    inner = (slice(top + sheet.FRAME, top + sheet.FRAME + 112), slice(left + sheet.FRAME, left + sheet.FRAME + 112))
    frame = image[top, left : left + 112 + 2 * sheet.FRAME]
    assert (frame == frame[0]).all()
    return tuple(frame[0].tolist()), image[inner]


def test_the_sheet_shows_what_the_loader_makes(data, tmp_path, capsys):
    output = tmp_path / "sheet.png"
    run(data, "--faces", 4, "--columns", 3, "--seed", 9, "--set", "jpeg_quality=40", "--output", output)
    assert augment.HINT in capsys.readouterr().out
    image = read(output)
    assert image.shape[1::-1] == sheet.size(4, 4, 112)
    source = open_source(data)
    batches = ViewBatches(source, Augment("qgface", jpeg_quality=40), ("original", "augmented"), 9)
    chosen = augment.different_people(source, np.random.default_rng(9).permutation(20), 4)
    assert len({source[index][1] for index in chosen.tolist()}) == 4
    for row in range(4):
        for column in range(4):
            views = batches[max(0, column - 1), chosen].images.numpy()
            colour, face = tile(image, row, column)
            assert colour == RGB["GREY"] and np.array_equal(face, views[row, min(column, 1)])
    assert (image[-sheet.MARGIN :] == 255).all() and (image[:, -sheet.MARGIN :] == 255).all()


def test_the_seed_decides(data, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        run(data, "--faces", 2, "--columns", 2, "--seed", seed, "--output", path)
    first, again, other = (path.read_bytes() for path in paths)
    assert first == again != other


def test_more_rows_than_identities_or_images(data, tmp_path):
    for asked, got in [(7, 7), (50, 20)]:
        run(data, "--faces", asked, "--columns", 1, "--output", tmp_path / "sheet.png")
        assert read(tmp_path / "sheet.png").shape[1::-1] == sheet.size(got, 2, 112)


def test_a_folder_with_long_names(data, tmp_path):
    source, folder = open_source(data), tmp_path / "faces" / ("a person with a very long name $_{1}$ " * 3)
    folder.mkdir(parents=True)
    (folder / "photo.jpg").write_bytes(source[0][0])
    run(tmp_path / "faces", "--columns", 1, "--output", tmp_path / "sheet.png")
    image = read(tmp_path / "sheet.png")
    assert image.shape[1::-1] == sheet.size(1, 2, 112)
    top = sheet.MARGIN + sheet.TITLE + sheet.HEAD
    assert (image[top:, sheet.MARGIN + sheet.NAMES - 2 : sheet._left(0, 112)] == 255).all()  # names end before the face


def scores(data, model, images, batches):
    """(z_hat + 1) / 2 by the equations, of what `images(batches)` gives."""
    backbone = get_backbone("tiny", 16).eval()
    backbone.load_state_dict(torch.load(model))

    def norms(views):
        x = (views.flatten(0, 1).permute(0, 3, 1, 2).float() - 127.5) / 127.5
        with torch.no_grad():
            return backbone(x).norm(dim=1).unflatten(0, views.shape[:2])

    every = norms(batches[0, np.arange(20)].images)
    z_hat = (0.333 * (norms(images) - every.mean()) / every.std()).clamp(-1, 1)
    return (z_hat + 1) / 2


def test_the_frames_are_what_equation_1_says(data, model, tmp_path, capsys):
    output = tmp_path / "sheet.png"
    run(data, "--model", model, "--faces", 5, "--columns", 4, "--output", output)
    source = open_source(data)
    batches = ViewBatches(source, Augment("adaface", crop_area=(0.5, 0.9)), ("original", "augmented"), 5)
    chosen = augment.different_people(source, np.random.default_rng(5).permutation(20), 5)
    views = augment._sheet_views(batches, chosen, 4)
    is_lq = scores(data, model, views, batches) <= 0.5
    image = read(output)
    for row in range(5):
        for column in range(5):
            colour, face = tile(image, row, column)
            assert colour == RGB["RED" if is_lq[row, column] else "GREEN"]
            assert np.array_equal(face, views[row, column].numpy())
    assert 0 < is_lq.sum() < 25
    table = capsys.readouterr().out
    share = (scores(data, model, batches[0, np.arange(20)].images, batches) <= 0.5).float()
    stated = [float(number) for number in re.findall(r"([0-9.]+)%", table)]
    expected = [share[:, 0].mean(), share[:, 1].mean(), share.amax(1).mean()]
    assert stated == pytest.approx([100 * float(value) for value in expected], abs=0.06)
    assert "20 images" in table and augment.HINT not in table


@pytest.mark.parametrize("threshold, share, colour", [("0", "0.0%", "GREEN"), ("1", "100.0%", "RED")])
def test_the_ends_of_the_threshold(data, model, tmp_path, capsys, threshold, share, colour):
    words = ["--model", model, "--threshold", threshold, "--faces", 1, "--columns", 1, "--statistics", 6]
    run(data, *words, "--output", tmp_path / "sheet.png")
    table = capsys.readouterr().out
    assert table.count(share) == 3 and "6 images" in table
    assert tile(read(tmp_path / "sheet.png"), 0, 1)[0] == RGB[colour]


def test_a_model_without_its_run(data, model, tmp_path, capsys):
    alone = tmp_path / "backbone.pth"
    alone.write_bytes(model.read_bytes())
    words = ["--faces", 1, "--columns", 1, "--output", tmp_path / "sheet.png"]
    with pytest.raises(ValueError, match="nothing says the channel order of model .*; add --channels rgb"):
        run(data, "--model", alone, *words)
    run(data, "--model", alone, "--channels", "rgb", *words)
    assert "threshold 0.2, the paper's" in capsys.readouterr().out


def test_a_model_whose_threshold_moved(data, model, tmp_path):
    config = json.loads((model.parent / "config.json").read_text()) | {"quality_lq_share": 0.1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.pt").write_bytes(model.read_bytes())
    words = [data, "--model", tmp_path / "model.pt", "--faces", 1, "--columns", 1, "--output", tmp_path / "sheet.png"]
    with pytest.raises(ValueError, match="quality_lq_share=0.1: its threshold moved; --threshold takes one"):
        run(*words, "--statistics", 6)
    run(*words, "--statistics", 6, "--threshold", 0.5)
    assert (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["--faces", "0"], "--faces 0: expected at least 1"),
        (["--columns", "-1"], "--columns -1: expected at least 1"),
        (["--statistics", "1"], "--statistics 1: expected at least 2"),
        (["--seed", "-1"], "--seed -1"),
        (["--threshold", "1.5"], "--threshold 1.5: expected a number from 0 to 1"),
        (["--threshold", "nan"], "--threshold nan"),
        (["--output", "sheet.jpg"], "--output sheet.jpg: expected a name that ends in .png"),
        (["--output", "absent/sheet.png"], "in a folder that is there"),
        (["--set", "jpeg_quality"], "--set 'jpeg_quality': expected key=value"),
        (["--set", "jpg_quality=3"], "did you mean 'jpeg_quality'"),
        (["--set", "jpeg_quality=0"], "jpeg_quality=0: expected a whole number"),
        (["--set", "jpeg_quality=low"], "jpeg_quality='low': expected a whole number"),
        (["--preset", "qgfce"], "invalid choice: 'qgfce'"),
        (["--model", "absent.pt", "--network", "tiny"], "model absent.pt does not exist"),
    ],
)
def test_mistakes(data, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        run(data, *words)
    assert not list(tmp_path.iterdir())


def test_a_name_or_data_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="invalid choice: 'agument'"):
        command.main(["agument", str(tmp_path)])
    with pytest.raises(ValueError, match="does not exist"):
        run(tmp_path / "absent")


def test_a_model_that_diverged(data, model, tmp_path):
    tensors = {name: tensor * float("nan") for name, tensor in torch.load(model).items()}
    torch.save(tensors, tmp_path / "model.pt")
    words = ["--model", tmp_path / "model.pt", "--network", "tiny", "--embedding-size", 16, "--channels", "rgb"]
    with pytest.raises(ValueError, match="not finite"):
        run(data, *words, "--output", tmp_path / "sheet.png")


def test_the_probes_of_surveillance(data, tmp_path):
    output = tmp_path / "sheet.png"
    command.main(["surveillance", str(data), "--faces", "3", "--output", str(output)])
    image = read(output)
    assert image.shape[1::-1] == sheet.size(3, 5, 112)
    source = open_source(data)  # 5 people, 4 photos; 15 probes, of which the first, the middle and the last are shown
    for row, (gallery, index) in enumerate([(0, 1), (8, 10), (16, 19)]):
        face = jpeg.decode(source[index][0])
        expected = [jpeg.decode(source[gallery][0]), face, *(camera.photograph(face, index, d) for d in (3, 2, 1))]
        for column, picture in enumerate(expected):
            assert np.array_equal(tile(image, row, column)[1], picture)


@pytest.mark.parametrize("words", [["--faces", "0"], ["--output", "sheet.jpg"], ["--output", "absent/sheet.png"]])
def test_mistakes_of_surveillance(data, words):
    with pytest.raises(ValueError, match="expected"):
        command.main(["surveillance", str(data), *words])
