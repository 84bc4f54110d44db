"""Tar shards on this machine: what is read, and what is refused."""

import json
import pickle
import struct
import tarfile

import numpy as np
import pytest

from recognition.data.recordio import RecordError
from recognition.data.sources import TarSource, open_source
from tests.tars import write_set, write_tar

LABELS = [0, 3, 1, 1, 2, 3, 0]
IMAGES = [b"image %d" % number * (1 + 200 * number) for number in range(7)]  # some longer than a tar's blocks
SIZES = [3, 1, 3]


@pytest.fixture
def index(tmp_path):
    return write_set(tmp_path, IMAGES, LABELS, SIZES)


def refused(action, *words):
    with pytest.raises(RecordError) as caught:
        action()
    message = str(caught.value)
    assert all(str(word) in message for word in words) and "\n" not in message, message


def test_samples_are_those_of_the_shards_in_order(index):
    source = open_source(index.parent)
    assert type(source) is TarSource and source.name == str(index)
    assert (len(source), source.num_classes, source.side, source.shard_sizes) == (7, 4, 112, SIZES)
    assert [source[number] for number in (6, 0, 3, 2, 4, 1, 5)] == [
        (IMAGES[number], LABELS[number]) for number in (6, 0, 3, 2, 4, 1, 5)
    ]
    assert source.labels().tolist() == LABELS and source.labels().dtype == np.int64
    assert source.where(3) == f"{index.parent}/train-00001.tar: sample 0"
    assert source.where(6) == f"{index.parent}/train-00002.tar: sample 2"
    copy = pickle.loads(pickle.dumps(source))
    assert copy[5] == source[5] and copy.digest() == source.digest()
    for outside in (-1, 7):
        with pytest.raises(IndexError):
            source[outside]


def test_ways_to_name_the_index(index, monkeypatch):
    expected = (IMAGES[6], LABELS[6])
    for path in (index, str(index), index.parent, f"file://{index}", [str(index)]):
        assert open_source(path)[6] == expected
    monkeypatch.chdir(index.parent)
    assert open_source("train.json")[6] == expected


def test_shards_may_be_elsewhere(index, tmp_path):
    content = json.loads(index.read_text())
    (tmp_path / "far").mkdir()
    for place, shard in enumerate(content["shardlist"]):
        path = index.parent / shard["url"]
        shard["url"] = [shard["url"], str(tmp_path / "far" / "1.tar"), f"file://{tmp_path}/far/2.tar"][place]
        if place:
            path.rename(tmp_path / "far" / f"{place}.tar")
    index.write_text(json.dumps(content))
    assert [open_source(index)[number] for number in range(7)] == list(zip(IMAGES, LABELS, strict=True))


def test_the_digest_tells_sets_apart(index, tmp_path):
    first = open_source(index).digest()
    for folder, sizes, changes in (("a", [4, 3], {}), ("b", SIZES, {"num_classes": 9}), ("c", [1, 3, 3], {})):
        assert open_source(write_set(tmp_path / folder, IMAGES, LABELS, sizes, **changes)).digest() != first
    assert open_source(write_set(tmp_path / "d", IMAGES, LABELS, SIZES)).digest() == first


@pytest.mark.parametrize("suffix", ["jpeg", "JPG", "png", "bmp"])
def test_names_that_others_give(tmp_path, suffix):
    """Folders, dots in them, suffixes of other programs, and files that are neither image nor label."""
    members = {
        "./m.01/a.json": b"{}",
        f"./m.01/a.{suffix}": b"A",
        "./m.01/a.cls": b" 1\n",
        "README": b"",
        "b.txt": b"x",
    }
    write_tar(tmp_path / "x.tar", members | {"b.cls": b"0", f"b.{suffix}": b"B"})
    content = {"shardlist": [{"url": "x.tar", "nsamples": 2}], "num_classes": 2}
    (tmp_path / "train.json").write_text(json.dumps(content))
    source = open_source(tmp_path)
    assert [source[0], source[1]] == [(b"A", 1), (b"B", 0)] and source.side == 112


def test_more_shards_than_are_kept_open(tmp_path, monkeypatch):
    monkeypatch.setattr("recognition.data.sources.tars._OPEN", 2)
    index = write_set(tmp_path, IMAGES, LABELS, [1] * 7)
    source = open_source(index)
    for number in np.random.default_rng(0).integers(0, 7, 60).tolist():
        assert source[number] == (IMAGES[number], LABELS[number])


def test_webdataset_reads_the_same(index):
    webdataset = pytest.importorskip("webdataset")
    urls = [str(index.parent / f"train-{place:05}.tar") for place in range(3)]
    theirs = webdataset.WebDataset(urls, shardshuffle=False).to_tuple("jpg", "cls")
    assert [(image, int(label)) for image, label in theirs] == list(zip(IMAGES, LABELS, strict=True))


# ----- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "7", '"shardlist"', "{}", '{"shardlist": []}', "\x00", "[" * 100_000]
    + [json.dumps({"shardlist": shards, "num_classes": 4}) for shards in ([], 7, "abc", {"a": 1}, [7], [{}], [None])]
    + [json.dumps({"shardlist": [{"url": "train-00000.tar"}], "num_classes": 4})]
    + [json.dumps({"shardlist": [{"nsamples": 3}], "num_classes": 4})]
    + [json.dumps({"shardlist": [{"url": None, "nsamples": 3}], "num_classes": 4})],
)
def test_an_index_that_is_something_else(index, text):
    index.write_text(text)
    refused(lambda: open_source(index), index, 'expected {"shardlist": [{"url": ..., "nsamples": ...}, ...]')


@pytest.mark.parametrize("number", [0, -1, 1.5, "4", None, True, 1 << 32, [4]])
@pytest.mark.parametrize("key", ["num_classes", "side", "nsamples"])
def test_a_number_of_the_index_that_is_none(index, key, number):
    content = json.loads(index.read_text())
    (content["shardlist"][1] if key == "nsamples" else content)[key] = number
    index.write_text(json.dumps(content))
    refused(lambda: open_source(index), index, "the numbers whole and at least 1")


def test_an_index_without_its_number_of_classes(index):
    content = json.loads(index.read_text())
    del content["num_classes"]
    index.write_text(json.dumps(content))
    refused(lambda: open_source(index), index, "num_classes")


@pytest.mark.parametrize("count", [2, 4])
def test_a_shard_with_another_number_of_samples(index, count):
    content = json.loads(index.read_text())
    content["shardlist"][2]["nsamples"] = count
    index.write_text(json.dumps(content))
    source = open_source(index)
    refused(lambda: source[4], "train-00002.tar has 3 images and 3 labels (.cls)", f"announces {count} of each")


@pytest.mark.parametrize(
    "members, words",
    [
        ({"a.jpg": b"A", "b.jpg": b"B", "a.cls": b"0"}, "has 2 images and 1 labels"),
        ({"a.jpg": b"A", "b.jpg": b"B", "a.cls": b"0", "c.cls": b"0"}, "has 2 images and 2 labels"),
        ({"a.jpg": b"A", "b.jpg": b"B"}, "has 2 images and 0 labels"),
        ({"a.cls": b"0", "b.cls": b"0"}, "has 0 images and 2 labels"),
        ({}, "has 0 images and 0 labels"),
    ],
)
def test_images_without_labels(tmp_path, members, words):
    write_tar(tmp_path / "x.tar", members)
    (tmp_path / "train.json").write_text('{"shardlist": [{"url": "x.tar", "nsamples": 2}], "num_classes": 1}')
    refused(lambda: open_source(tmp_path), tmp_path / "x.tar", words)


@pytest.mark.parametrize(
    "label, words",
    [(b"2", "has label 2, expected a class in [0, 2)"), (b"18446744073709551616", "expected a class in [0, 2)")]
    + [(text, "expected a whole number") for text in (b"", b"-1", b"1.0", b"one", b"\xff", b"0 1", "²".encode())],
)
def test_a_label_that_is_no_class(tmp_path, label, words):
    write_tar(tmp_path / "x.tar", {"a.jpg": b"A", "a.cls": b"0", "b.jpg": b"B", "b.cls": label})
    (tmp_path / "train.json").write_text('{"shardlist": [{"url": "x.tar", "nsamples": 2}], "num_classes": 2}')
    source = open_source(tmp_path)
    assert source[0] == (b"A", 0)
    refused(lambda: source[1], f"{tmp_path}/x.tar: sample 1", words)
    refused(source.labels, f"{tmp_path}/x.tar: sample 1", words)


def test_a_cut_shard_is_refused_wherever_it_is_cut(index):
    path = index.parent / "train-00002.tar"
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    end = last.offset_data + last.size
    for length in [0, 1, 511, 512, 513, *range(700, end, 487), end - 1]:
        path.write_bytes(whole[:length])
        refused(lambda: open_source(index)[4], path)
    path.write_bytes(whole[: -(-end // 512) * 512])  # all that is missing are the zeros at the end
    assert open_source(index)[6] == (IMAGES[6], LABELS[6])


def test_a_damaged_shard_is_read_once_and_the_others_go_on(index, monkeypatch):
    """A run that skips what is damaged asks for each of its samples."""
    path = index.parent / "train-00002.tar"
    path.write_bytes(path.read_bytes()[:1000])
    source = open_source(index)
    refused(lambda: source[4], path)
    path.unlink()  # would be another message
    for number in (4, 5, 6):
        refused(lambda number=number: source[number], path, "no whole tar file")
    assert source[0] == (IMAGES[0], LABELS[0])


def test_files_that_are_not_there(index, tmp_path):
    refused(lambda: TarSource(str(tmp_path / "none.json")), tmp_path / "none.json", "cannot be read: FileNotFoundError")
    (index.parent / "train-00001.tar").unlink()
    source = open_source(index)
    refused(lambda: source[3], index.parent / "train-00001.tar", "cannot be read: No such file")


def test_a_compressed_tar_is_refused(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w:gz") as archive:
        archive.add(__file__, "a.jpg")
    (tmp_path / "train.json").write_text('{"shardlist": [{"url": "x.tar", "nsamples": 1}], "num_classes": 1}')
    refused(lambda: open_source(tmp_path), tmp_path / "x.tar", "no whole tar file")


def test_a_member_with_a_forged_size(tmp_path):
    """Sizes are octal, or base 256 after a first byte of 0x80; what lies beyond the file is no sample."""
    write_tar(tmp_path / "x.tar", {"a.jpg": b"A", "a.cls": b"0"})
    (tmp_path / "train.json").write_text('{"shardlist": [{"url": "x.tar", "nsamples": 1}], "num_classes": 1}')
    whole = bytearray((tmp_path / "x.tar").read_bytes())
    for header in (0, 1024):
        for size in (b"77777777777\0", b"\x80" + b"\x7f" * 11, b"\x80" + bytes(2) + b"\x7f" + bytes(8), b"\xff" * 12):
            forged = bytearray(whole)
            forged[header + 124 : header + 136] = size
            forged[header + 148 : header + 156] = b" " * 8
            forged[header + 148 : header + 156] = b"%06o\0 " % sum(forged[header : header + 512])
            (tmp_path / "x.tar").write_bytes(forged)
            refused(lambda: open_source(tmp_path), tmp_path / "x.tar")


def test_fuzz(index):
    path = index.parent / "train-00000.tar"
    whole, draw, refusals = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(draw.integers(1, 4)):
            header = 1024 * int(draw.integers(6))
            at = header + int(draw.integers(512 if draw.integers(2) else 160))
            changed[at : at + 1] = struct.pack("B", draw.integers(256))
        path.write_bytes(changed)
        try:
            source = open_source(index)
            assert all(isinstance(source[number][0], bytes) for number in range(3))
        except RecordError as error:
            refusals += 1
            assert str(path) in str(error) and "\n" not in str(error)
    assert 100 < refusals < 300
