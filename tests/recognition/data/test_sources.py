import pickle
import shutil

import cv2
import numpy as np
import pytest

from recognition.data.recordio import Header, RecordError, RecordFile, RecordWriter, pack, unpack
from recognition.data.sources import FolderSource, RecordSource, open_source
from tests.faces import photo, write_records
from utils.jpeg import decode

IDENTITIES, PHOTOS = 4, 3
LABELS = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def write(folder, records: dict, stated: str | None = None, name: str = "train"):
    """Records of {key: label} in the order of the dictionary; the payload tells the key."""
    folder.mkdir(parents=True, exist_ok=True)
    with RecordWriter(folder / f"{name}.rec", folder / f"{name}.idx") as writer:
        for key, label in records.items():
            writer.write(key, pack(Header(0, label, key, 0), b"image %d" % key))
    if stated is not None:
        (folder / "property").write_text(stated)
    return folder


def refused(action, *words, error=RecordError):
    """One line that says what is wrong; RecordError is a ValueError."""
    with pytest.raises(error) as caught:
        action()
    message = str(caught.value)
    assert all(str(word) in message for word in words) and "\n" not in message


@pytest.fixture
def faces(tmp_path):
    write_records(tmp_path / "faces", IDENTITIES, PHOTOS)
    return tmp_path / "faces"


# ----- records --------------------------------------------------------------------------------------------------------


def test_insightface_records(faces):
    source = open_source(faces)
    assert type(source) is RecordSource and source.name == str(faces / "train.rec")
    assert (source.num_classes, len(source), source.side) == (IDENTITIES, IDENTITIES * PHOTOS, 112)
    assert source.labels().tolist() == LABELS and source.labels().dtype == np.int64
    assert [source.where(index) for index in (0, 11)] == [f"{faces}/train.rec: key 1", f"{faces}/train.rec: key 12"]
    for index, label in enumerate(LABELS):
        encoded, actual = source[index]
        assert actual == label and type(actual) is int
        assert np.abs(decode(encoded).astype(int) - photo(label, index % PHOTOS)).mean() < 10
    assert pickle.loads(pickle.dumps(source))[5] == source[5]


def test_identity_records_tell_each_identitys_images(faces):
    source = RecordSource(faces)
    assert list(source.identity_keys) == [13, 14, 15, 16]
    for label, key in enumerate(source.identity_keys):
        header, payload = unpack(source.records.read(int(key)))
        first, end = header.label.astype(int)
        assert payload == b"" and [source[image - 1][1] for image in range(first, end)] == [label] * PHOTOS


def test_a_header_behind_the_images(faces):
    """InsightFace's face2rec2.py writes the images first, then record 0, then the identities."""
    expected = [RecordSource(faces)[index] for index in range(len(LABELS))]
    records = RecordFile(faces / "train.rec", faces / "train.idx")
    content = {key: records.read(key) for key in [*range(1, 13), 0, *range(13, 17)]}
    with RecordWriter(faces / "train.rec", faces / "train.idx") as writer:
        for key, record in content.items():
            writer.write(key, record)
    source = RecordSource(faces)
    assert source.num_classes == IDENTITIES and [source[index] for index in range(len(source))] == expected


@pytest.mark.parametrize("stated, classes", [(None, 3), ("3,112,112", 3), ("7,96,96\n", 7), (" 3, 112, 112 ", 3)])
@pytest.mark.parametrize("keys", [[0, 1, 2, 3], [5, 6, 7, 8], [2, 0, 3, 1]], ids=["from 0", "from 5", "shuffled"])
def test_records_without_a_header(tmp_path, keys, stated, classes):
    source = open_source(write(tmp_path, dict(zip(keys, [0.0, 2.0, 1.0, 2.0], strict=True)), stated))
    assert (len(source), source.num_classes, source.side) == (4, classes, 96 if classes == 7 else 112)
    samples = {source.where(index): source[index] for index in range(4)}
    expected = dict(zip(keys, [0, 2, 1, 2], strict=True))
    assert samples == {f"{tmp_path}/train.rec: key {key}": (b"image %d" % key, expected[key]) for key in keys}
    assert len(source.identity_keys) == 0


def test_the_first_of_several_labels_is_the_class(tmp_path):
    """face2rec2.py stores (class, whether it was aligned)."""
    assert RecordSource(write(tmp_path, {1: [0, 1], 2: [1, 0]})).labels().tolist() == [0, 1]


def test_ways_to_name_a_record_file(faces, tmp_path):
    folder = write(tmp_path / "other", {1: 0, 2: 1}, name="val")
    assert open_source(folder).name == open_source(str(folder / "val.rec")).name == str(folder / "val.rec")
    shutil.copy(folder / "val.rec", faces)  # beside train.rec
    assert open_source(faces).name == str(faces / "train.rec")


@pytest.mark.parametrize("stated", ["5,112,112", "3,112,112"])
def test_a_property_of_another_number_of_classes(faces, stated):
    (faces / "property").write_text(stated)
    refused(lambda: open_source(faces), faces / "property", f"states {stated[0]} classes", "train.rec has 4")


@pytest.mark.parametrize(
    "stated",
    ["", "4", "4,112", "4,112,96", "4,112,112,3", "four,112,112", "-4,112,112", "0,4,4", "4,0,0", "²,112,112", "\udcff"]
    + ["4.0,112,112", "4,112,112\n4,112,112", "9" * 5000 + ",112,112"],
)
def test_a_malformed_property(faces, stated):
    (faces / "property").write_text(stated, encoding="utf8", errors="surrogateescape")
    refused(lambda: open_source(faces), faces / "property", "expected 'classes,height,width'")


@pytest.mark.parametrize("label", [-1, 3, 1.5, float("nan"), float("inf"), 2**24, [3, 0], [-1]])
@pytest.mark.parametrize("key", [1, 2, 4])
def test_a_label_that_is_no_class(tmp_path, label, key):
    write(tmp_path, {1: 0, 2: 1, 3: 2, 4: 2} | {key: label}, "3,112,112")
    words = (f"{tmp_path}/train.rec: key {key} has label", "expected a class in [0, 3)")
    refused(lambda: RecordSource(tmp_path).labels(), *words)
    if key != 2:  # the first and the last are looked at when the file is opened
        refused(lambda: RecordSource(tmp_path), *words)


@pytest.mark.parametrize("label", [-1, 2**24, 0.5])
def test_a_label_that_is_no_class_of_any_file(tmp_path, label):
    refused(lambda: RecordSource(write(tmp_path, {1: 0, 2: label, 3: 0})), "key 2 has label")


@pytest.mark.parametrize(
    "label", [[13, 18], [1, 5], [0, 0], [13, 13], [17, 13], [-13, 17], [40, 44], [1e30, 2e30]]
    + [[float("nan"), 17], [13, float("nan")], [13, float("inf")]],
)  # fmt: skip
def test_a_header_that_states_what_the_index_lacks(tmp_path, label):
    refused(lambda: RecordSource(write(tmp_path, {0: label} | dict.fromkeys(range(1, 17), 0))), "train.rec: header")


@pytest.mark.parametrize("lines", [16, 13, 5, 1])
def test_an_index_that_is_cut_between_lines(faces, lines):
    kept = (faces / "train.idx").read_text().splitlines(keepends=True)[:lines]
    (faces / "train.idx").write_text("".join(kept))
    refused(lambda: open_source(faces), faces / "train.rec", "index")


@pytest.mark.parametrize("change", ["gap", "twice"])
def test_an_index_that_lacks_a_line_or_has_one_twice(faces, change):
    lines = (faces / "train.idx").read_text().splitlines(keepends=True)
    lines[5:6] = [] if change == "gap" else lines[5:6] * 2
    (faces / "train.idx").write_text("".join(lines))
    refused(lambda: open_source(faces), faces / "train.rec", f"lacks key {5 if change == 'gap' else 6}")


def test_labels_are_read_without_the_images(tmp_path, monkeypatch):
    write(tmp_path, {1: [2.0, 7.0], 2: 0, 3: 1}, "3,112,112")
    source = RecordSource(tmp_path)
    monkeypatch.setattr(RecordSource, "__getitem__", None)
    assert source.labels().tolist() == [2, 0, 1]


def test_a_record_too_short_for_its_header_is_named(tmp_path):
    write(tmp_path, {0: 0, 1: 0, 2: 0}, "1,112,112")
    records = RecordFile(tmp_path / "train.rec", tmp_path / "train.idx")
    with RecordWriter(records.rec, records.idx) as writer:
        for key in range(3):
            writer.write(key, b"short" if key == 1 else records.read(key))
    refused(lambda: RecordSource(tmp_path)[1], f"{tmp_path}/train.rec: key 1: record of 5 bytes")


# ----- folders of images ----------------------------------------------------------------------------------------------


def test_folders(tmp_path):
    image = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    for name in ("b/2.jpg", "b/10.JPEG", "a/x.png", "c/1.bmp", "empty/readme.txt", "a/notes.txt", "stray.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(image + name.encode())
    source = open_source(tmp_path)
    assert type(source) is FolderSource and (source.num_classes, len(source), source.side) == (3, 4, 112)
    assert source.identities == ["a", "b", "c"] and source.labels().tolist() == [0, 1, 1, 2]
    names = ["a/x.png", "b/10.JPEG", "b/2.jpg", "c/1.bmp"]
    assert [source.where(index) for index in range(4)] == [str(tmp_path / name) for name in names]
    assert [source[index] for index in range(4)] == [
        (image + name.encode(), label) for name, label in zip(names, [0, 1, 1, 2], strict=True)
    ]
    assert pickle.loads(pickle.dumps(source))[3] == source[3] and source.note is None


def test_images_of_a_folder_that_cannot_be_read_are_counted(tmp_path):
    for name in ("one/a/1.jpg", "one/a/2.webp", "one/b/1.TIFF", "two/a/1.jpg", "two/a/1.webp"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    said = "passed over, only .jpg, .jpeg, .png, .bmp are read; convert them"
    one, two = f"{tmp_path}/one: 1 .webp, 1 .tiff {said}", f"{tmp_path}/two: 1 .webp {said}"
    assert open_source(tmp_path / "one").note == one
    assert open_source([str(tmp_path / "one"), str(tmp_path / "two")]).note == f"{one}; {two}"
    (tmp_path / "two" / "a" / "1.jpg").unlink()
    refused(lambda: open_source(tmp_path / "two"), "no images in folders of it", two, error=ValueError)


# ----- nothing to read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [(), ("identity/",), ("1.jpg",), ("identity/readme.txt",)])
def test_a_folder_without_images(tmp_path, inside):
    for name in inside:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_bytes(b"")
    refused(lambda: open_source(tmp_path), tmp_path, "no images", error=ValueError)


def test_paths_that_hold_no_faces(faces, tmp_path):
    refused(lambda: open_source(tmp_path / "absent"), "absent does not exist", "rec=FOLDER", error=ValueError)
    refused(lambda: open_source(faces / "property"), "property: expected a folder or a .rec file")
    (faces / "train.rec").rename(faces / "one.rec")
    refused(lambda: open_source(faces), faces / "one.idx", "cannot be read")
    (faces / "two.rec").write_bytes(b"")
    refused(lambda: open_source(faces), faces, "expected train.rec or a single .rec, found one.rec, two.rec")
    (faces / "one.rec").unlink()
    (faces / "two.rec").unlink()
    refused(lambda: open_source(faces), faces, "expected train.rec or a single .rec, found none")


# ----- real faces -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, classes, images", [("train", 889, 17085), ("test", 150, 3190)])
def test_real_faces(shared_data, name, classes, images):
    source = open_source(shared_data / f"celeba_{name}")
    assert source.name.endswith(f"{name}.rec") and (source.num_classes, len(source)) == (classes, images)
    listed = (shared_data / f"celeba_{name}" / f"{name}.lst").read_text().splitlines()
    labels = source.labels()
    assert labels.tolist() == [int(line.split("\t")[2]) for line in listed] and len(set(labels)) == classes
    assert len(source.identity_keys) == classes
    assert all(decode(source[index][0]).shape == (source.side, source.side, 3) for index in range(0, images, 499))


def test_a_damaged_last_image_stops_or_is_left_to_the_loader(faces):
    source = RecordSource(faces)
    offset = int(source.records.offsets[12])
    with (faces / "train.rec").open("r+b") as file:
        file.seek(offset)
        file.write(b"gone")
    refused(lambda: open_source(faces), "key 12")
    whole = open_source(faces, corrupt="skip")
    assert len(whole) == 12 and whole[0] == source[0]
    refused(lambda: whole[11], "key 12")
