"""Several sources as one: data sets side by side, and the shards of one data set."""

import pickle

import numpy as np
import pytest

from recognition.data.augment import Augment
from recognition.data.loader import ViewBatches
from recognition.data.recordio import Header, RecordError, RecordWriter, pack
from recognition.data.sources import RecordSource, TarSource, open_source
from recognition.data.sources.joined import Joined
from tests.faces import write_records
from tests.tars import write_set
from utils import jpeg


def write(folder, labels: list[int], name: str = "train", first_key: int = 0, stated: str | None = None):
    """Records without a header, as im2rec writes them; the payload tells file and key."""
    folder.mkdir(parents=True, exist_ok=True)
    with RecordWriter(folder / f"{name}.rec", folder / f"{name}.idx") as writer:
        for key, label in enumerate(labels, first_key):
            writer.write(key, pack(Header(0, label, key, 0), f"{folder.name} {name} {key}".encode()))
    if stated:
        (folder / "property").write_text(stated)
    return folder


def refused(action, *words):
    with pytest.raises(RecordError) as caught:
        action()
    message = str(caught.value)
    assert all(str(word) in message for word in words) and "\n" not in message, message


# ----- data sets side by side -----------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path):
    """An InsightFace folder of 2 identities, records without a header of 3, tar shards of 2."""
    write_records(tmp_path / "a", identities=2, photos=2)
    write(tmp_path / "b", [0, 2, 1, 2])
    write_set(tmp_path / "c", [b"c 0", b"c 1", b"c 2"], [1, 0, 1], [2, 1])
    return [str(tmp_path / name) for name in "abc"]


def test_the_identities_of_several_sets_are_different_people(three, tmp_path):
    source = open_source(three)
    assert type(source) is Joined and (source.num_classes, len(source), source.side) == (7, 11, 112)
    assert source.labels().tolist() == [0, 0, 1, 1, 2, 4, 3, 4, 6, 5, 6] and source.labels().dtype == np.int64
    assert [source[index][1] for index in range(11)] == source.labels().tolist()
    assert source.name == f"{tmp_path}/a/train.rec + {tmp_path}/b/train.rec + {tmp_path}/c/train.json"
    parts = [open_source(path) for path in three]
    encoded = [part[index][0] for part in parts for index in range(len(part))]
    assert [source[index][0] for index in range(11)] == encoded
    places = {0: "a/train.rec: key 1", 3: "a/train.rec: key 4", 4: "b/train.rec: key 0", 7: "b/train.rec: key 3"}
    places |= {8: "c/train-00000.tar: sample 0", 10: "c/train-00001.tar: sample 0"}
    assert {index: source.where(index) for index in places} == {i: f"{tmp_path}/{place}" for i, place in places.items()}
    assert source.shard_sizes == [4, 4, 2, 1]
    for outside in (-1, 11):
        with pytest.raises(IndexError):
            source[outside]
        with pytest.raises(IndexError):
            source.where(outside)


def test_a_copy_in_another_process_reads_the_same(three):
    source = open_source(three)
    copy = pickle.loads(pickle.dumps(source))
    assert [copy[index] for index in range(11)] == [source[index] for index in range(11)]
    assert copy.digest() == source.digest()


def test_the_digest_tells_order_and_parts(three, tmp_path):
    whole = open_source(three).digest()
    others = [three[:2], three[1:], [three[1], three[0], three[2]], [three[0], three[0], three[2]]]
    assert len({whole, *(open_source(paths).digest() for paths in others)}) == 5
    assert open_source(tuple(three)).digest() == whole
    write(tmp_path / "b", [0, 2, 1, 2, 1])  # one image more
    assert open_source(three).digest() != whole


def test_a_list_of_one_is_that_one(three):
    assert type(open_source(three[:1])) is RecordSource and type(open_source(three[2:])) is TarSource


def test_no_list_is_empty():
    with pytest.raises(ValueError, match="rec=.* names no data"):
        open_source([])


def test_the_part_that_is_wrong_is_named(three, tmp_path):
    with pytest.raises(ValueError, match="/none does not exist"):
        open_source([*three, str(tmp_path / "none")])
    write(tmp_path / "b", [0, 3, 1, 2], stated="3,112,112")
    refused(lambda: open_source(three)[5], tmp_path / "b", "key 1 has label 3, expected a class in [0, 3)")


def test_images_of_different_sizes(three, tmp_path):
    write(tmp_path / "b", [0, 1, 1], stated="2,96,96")
    refused(lambda: open_source(three), f"{tmp_path}/b/train.rec has images of 96 pixels", "a/train.rec of 112")


def test_more_classes_than_labels_can_tell_apart(tmp_path):
    for name in "ab":
        write(tmp_path / name, [0, 1], stated=f"{9_000_000},112,112")
    refused(lambda: open_source([tmp_path / "a", tmp_path / "b"]), "18000000 classes")


# ----- shards of one data set -----------------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path):
    """Three shards of four identities, none of which has all of them; keys go on, or start anew."""
    folder = tmp_path / "shards"
    write(folder, [3, 0, 0], "train-00000", stated="4,112,112")
    write(folder, [1], "train-00001", first_key=3)
    write(folder, [0, 2, 3, 3], "train-00002")
    return folder


def test_shards_share_their_labels(shards):
    source = open_source(shards)
    assert (source.num_classes, len(source), source.side, source.name) == (4, 8, 112, str(shards))
    assert source.labels().tolist() == [3, 0, 0, 1, 0, 2, 3, 3] and source.shard_sizes == [3, 1, 4]
    assert source[3] == (b"shards train-00001 3", 1) and source[4] == (b"shards train-00002 0", 0)
    assert source.where(3) == f"{shards}/train-00001.rec: key 3"
    assert open_source([str(shards)]).shard_sizes == [3, 1, 4]


def test_shards_beside_other_sets(shards, tmp_path):
    source = open_source([write(tmp_path / "a", [0, 1]), shards])
    assert source.num_classes == 6 and source.shard_sizes == [2, 3, 1, 4]
    assert source.labels().tolist() == [0, 1, 5, 2, 2, 3, 2, 4, 5, 5]
    assert source.where(6) == f"{shards}/train-00002.rec: key 0"


def test_a_train_rec_beside_shards_is_the_data(shards):
    write(shards, [0, 1, 2, 3])
    assert len(open_source(shards)) == 4


def test_shards_without_a_property(shards):
    (shards / "property").unlink()
    refused(lambda: open_source(shards), f"{shards} holds 3 shards and no property", "classes,height,width")


def test_a_label_beyond_the_property(shards):
    write(shards, [0, 4, 1], "train-00001")
    source = open_source(shards)  # the first and the last record of each shard are looked at
    refused(lambda: source[4], f"{shards}/train-00001.rec: key 1 has label 4, expected a class in [0, 4)")
    refused(source.labels, f"{shards}/train-00001.rec: key 1 has label 4")


@pytest.mark.parametrize("damage", ["no index", "empty", "cut"])
def test_a_damaged_shard_is_named(shards, damage):
    if damage == "no index":
        (shards / "train-00001.idx").unlink()
    else:
        content = (shards / "train-00001.rec").read_bytes()
        (shards / "train-00001.rec").write_bytes(content[:20] if damage == "cut" else b"")
    refused(lambda: open_source(shards), f"{shards}/train-00001.")


def test_shards_of_different_sizes_of_images_are_seen_when_they_are_decoded(shards):
    """`property` states one size for all; an image of another is refused where it is met."""
    with RecordWriter(shards / "train-00001.rec", shards / "train-00001.idx") as writer:
        image = jpeg.encode(np.zeros((96, 96, 3), np.uint8))
        writer.write(0, pack(Header(0, 1, 0, 0), image))
    source = open_source(shards)
    batches = ViewBatches(source, Augment("none"), ("original",), 0, source.side)
    with pytest.raises(ValueError, match="train-00001.rec: key 0 has 96 x 96 pixels, expected 112 x 112"):
        batches[0, np.array([3])]
