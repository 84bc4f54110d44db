"""Drawn faces and the demo's data folder."""

import json
import os
import pickle
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from recognition.data.sources import RecordSource
from recognition.data.synthetic import draw, write, write_demo
from utils import jpeg
from utils.bins import write_bin

ARGUMENTS = {"seed": 3, "identities": 4, "photos": 3, "test_identities": 3, "pairs": 40}
SMALL = ARGUMENTS | {"identities": 2, "test_identities": 2, "pairs": 20}


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "demo"
    write_demo(root, **ARGUMENTS)
    return root


def read_bin(path: Path) -> tuple[list[bytes], list[bool]]:
    """As InsightFace reads it."""
    with path.open("rb") as file:
        return pickle.load(file, encoding="bytes")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ----- drawing


def test_a_photo_is_an_rgb_crop():
    image = draw(0, 1, 2)
    assert image.shape == (112, 112, 3) and image.dtype == np.uint8
    assert image.std() > 10


def test_the_same_arguments_draw_the_same_photo_in_any_order():
    first = [draw(5, identity, photo) for identity in range(3) for photo in range(3)]
    again = [draw(5, identity, photo) for identity in (2, 1, 0) for photo in (2, 1, 0)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("other", [(6, 1, 1), (5, 2, 1), (5, 1, 2)], ids=["seed", "identity", "photo"])
def test_each_argument_changes_the_photo(other):
    difference = np.abs(draw(5, 1, 1, False).astype(int) - draw(*other, False).astype(int))
    assert difference.mean() > 5


def test_low_quality_takes_detail_away_and_keeps_the_scene():
    def detail(image):
        return np.abs(np.diff(image.astype(float), axis=0)).mean()

    for identity in range(5):
        high, low = draw(1, identity, 0, False), draw(1, identity, 0, True)
        assert detail(low) < 0.75 * detail(high)
        assert np.abs(high.mean((0, 1)) - low.mean((0, 1))).max() < 6


def test_a_fifth_to_a_quarter_of_the_photos_is_low_quality():
    drawn = [(draw(2, identity, photo), draw(2, identity, photo, True)) for identity in range(20) for photo in range(8)]
    share = np.mean([np.array_equal(image, low) for image, low in drawn])
    assert 0.12 < share < 0.32


def test_mean_colour_tells_identities_apart_badly():
    people = 40
    colour = np.array([[draw(1, identity, photo).mean((0, 1)) for photo in range(4)] for identity in range(people)])
    gallery, probes = colour[:, 0], colour[:, 1:].reshape(-1, 3)
    nearest = np.linalg.norm(probes[:, None] - gallery, axis=-1).argmin(axis=1)
    assert (nearest == np.repeat(np.arange(people), 3)).mean() < 0.3


# ----- the folder


def test_the_training_set_is_read_as_it_was_drawn(demo):
    source = RecordSource(demo)
    assert (source.num_classes, len(source), source.side) == (4, 12, 112)
    assert source.labels().tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    for index in (0, 4, 11):
        stored = jpeg.decode(source[index][0]).astype(int)
        assert np.abs(stored - draw(3, index // 3, index % 3)).mean() < 4


def test_the_records_are_laid_out_as_mxnet_writes_them(demo):
    rec = (demo / "train.rec").read_bytes()
    offsets = dict(map(int, line.split()) for line in (demo / "train.idx").read_text().splitlines())
    assert sorted(offsets) == list(range(17))
    seen = {}
    for key, at in offsets.items():
        magic, length, flag, label, id_, id2 = struct.unpack_from("<IIIfQQ", rec, at)
        assert (magic, length >> 29, id_, id2) == (0xCED7230A, 0, key, 0)
        seen[key] = (flag, struct.unpack_from(f"<{flag}f", rec, at + 32) if flag else label)
    assert seen[0] == (2, (13.0, 17.0))
    assert [seen[key] for key in range(1, 13)] == [(0, float(label)) for label in np.repeat(range(4), 3)]
    assert [seen[key] for key in range(13, 17)] == [(2, (start, start + 3.0)) for start in (1.0, 4.0, 7.0, 10.0)]
    assert (demo / "property").read_text() == "4,112,112"
    lines = [line.split("\t") for line in (demo / "train.lst").read_text().splitlines()]
    assert [(one, int(label)) for one, _, label in lines] == [("1", label) for label in np.repeat(range(4), 3)]


def test_mxnet_reads_the_records(demo, monkeypatch):
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0b1":
        pytest.skip("mxnet needs numpy 1")
    monkeypatch.setitem(vars(np), "bool", np.bool_)  # mxnet 1.9 still names it
    recordio = pytest.importorskip("mxnet.recordio")
    records = recordio.MXIndexedRecordIO(str(demo / "train.idx"), str(demo / "train.rec"), "r")
    header, _ = recordio.unpack(records.read_idx(0))
    assert header.flag == 2 and header.label.tolist() == [13, 17]
    header, image = recordio.unpack(records.read_idx(12))
    assert header.label == 3 and image == RecordSource(demo)[11][0]


def test_pairs_are_ordered_as_in_lfw_and_differ_in_quality_only(demo):
    high, issame = read_bin(demo / "demo.bin")
    low, issame_low = read_bin(demo / "demo_lq.bin")
    assert issame == issame_low == [True, True, False, False] * 10
    assert {type(flag) for flag in issame} == {bool} and {type(image) for image in high + low} == {bytes}
    assert len(high) == len(low) == 80
    assert high[0::2] == low[0::2]
    assert not set(high[1::2]) & set(low[1::2])


def test_pairs_show_people_that_are_not_trained_on(demo):
    unseen = {}
    for identity in range(4, 7):
        for photo in range(3):
            unseen[jpeg.encode(draw(3, identity, photo, False), 92)] = identity
    high, issame = read_bin(demo / "demo.bin")
    assert [unseen[a] == unseen[b] for a, b in zip(high[0::2], high[1::2], strict=True)] == issame
    assert all(a != b for a, b in zip(high[0::2], high[1::2], strict=True))


def test_a_second_call_leaves_the_folder_alone(demo):
    before = {path.name: path.stat().st_mtime_ns for path in demo.iterdir()}
    write_demo(demo, **ARGUMENTS)
    assert {path.name: path.stat().st_mtime_ns for path in demo.iterdir()} == before


def test_the_files_do_not_depend_on_when_and_where(demo, tmp_path):
    write_demo(tmp_path / "deep" / "er", **ARGUMENTS)
    assert contents(tmp_path / "deep" / "er") == contents(demo)


def test_other_arguments_or_a_missing_file_write_it_again(tmp_path):
    write_demo(tmp_path / "demo", **SMALL)
    first = contents(tmp_path / "demo")
    (tmp_path / "demo" / "train.idx").unlink()
    write_demo(tmp_path / "demo", **SMALL)
    assert contents(tmp_path / "demo") == first
    write_demo(tmp_path / "demo", **(SMALL | {"identities": 3}))
    assert RecordSource(tmp_path / "demo").num_classes == 3
    assert json.loads((tmp_path / "demo" / "demo.json").read_text())["identities"] == 3
    assert os.listdir(tmp_path) == ["demo"]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "write_bin", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "demo", **SMALL)
    assert os.listdir(tmp_path) == []


def test_callers_at_the_same_time_all_find_a_whole_folder(tmp_path, demo):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: write_demo(tmp_path / "demo", **ARGUMENTS), range(2)))
    assert os.listdir(tmp_path) == ["demo"]
    assert contents(tmp_path / "demo") == contents(demo)


def test_a_folder_with_something_else_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="other than demo data"):
        write_demo(tmp_path, **ARGUMENTS)
    assert os.listdir(tmp_path) == ["thesis.txt"]
    with pytest.raises(ValueError, match="other than demo data"):
        write_demo(tmp_path / "thesis.txt", **ARGUMENTS)


@pytest.mark.parametrize(
    ("name", "value"), [("identities", 0), ("photos", 1), ("test_identities", 1), ("pairs", 0), ("pairs", 30)]
)
def test_counts_that_make_no_set_are_refused(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        write_demo(tmp_path / "demo", **(ARGUMENTS | {name: value}))
    assert os.listdir(tmp_path) == []


def test_write_bin_wants_two_images_for_each_flag(tmp_path):
    with pytest.raises(ValueError, match="3 images for 1 pairs, expected 2"):
        write_bin(tmp_path / "a.bin", [b"a", b"b", b"c"], [True])
    assert os.listdir(tmp_path) == []
