"""python -m tools.unpack: files and names, and the way back through tools.pack."""

import numpy as np
import pytest

from recognition.data.recordio import Header, RecordWriter, pack
from tests.faces import photo, write_records
from tests.packing import tree, write_folder
from tools.pack.__main__ import main as pack_main
from tools.unpack import main
from utils.jpeg import encode

QUIET = ["--workers", "0"]


@pytest.fixture
def faces(tmp_path):
    write_folder(tmp_path / "photos")
    pack_main([str(tmp_path / "photos"), "--output", str(tmp_path / "faces"), *QUIET])
    return tmp_path / "faces"


def refused(*words, match):
    with pytest.raises(ValueError, match=match) as caught:
        main([*QUIET, *map(str, words)])
    assert "\n" not in str(caught.value)


def test_names_of_the_list(faces, tmp_path):
    main([str(faces), "--output", str(tmp_path / "out"), *QUIET])
    listed = (faces / "train.lst").read_bytes()
    assert tree(tmp_path / "out") == {**tree(tmp_path / "photos"), "train.lst": listed}


@pytest.mark.parametrize("workers", [0, 2])
def test_there_and_back(faces, tmp_path, workers):
    main([str(faces), "--output", str(tmp_path / "out"), "--workers", str(workers)])
    pack_main([str(tmp_path / "out" / "train.lst"), "--output", str(tmp_path / "again"), *QUIET])
    assert tree(tmp_path / "again") == tree(faces)


@pytest.mark.parametrize("by_key", [True, False])
def test_names_by_label_and_key(tmp_path, by_key):
    write_records(tmp_path / "faces", 11, 2)
    if by_key:
        (tmp_path / "faces" / "train.lst").write_text("1\t../a.jpg\t0\n")
    main([str(tmp_path / "faces"), "--output", str(tmp_path / "out"), *QUIET, *["--by-key"] * by_key])
    files = tree(tmp_path / "out")
    assert list(files)[:3] == ["00/01.jpg", "00/02.jpg", "01/03.jpg"] and len(files) == 23
    for source in ("out", "out/train.lst"):
        pack_main([str(tmp_path / source), "--output", str(tmp_path / "again"), *QUIET, "--force"])
        for name in ("train.rec", "train.idx", "property"):
            assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "faces" / name).read_bytes()


def test_names_without_a_folder_get_their_label(tmp_path):
    write_records(tmp_path / "faces", 2, 1)
    (tmp_path / "faces" / "train.lst").write_text("1\ta.jpg\t0\n1\ta.jpg\t1\n")
    main([str(tmp_path / "faces"), "--output", str(tmp_path / "out"), *QUIET])
    assert list(tree(tmp_path / "out")) == ["0/a.jpg", "1/a.jpg", "train.lst"]


@pytest.mark.parametrize(
    "name", ["../a.jpg", "a/../../b.jpg", "/etc/a.jpg", "a/..", "./a.jpg", "a//b.jpg", "c:/a.jpg", "a\\..\\b.jpg", ".."]
)
def test_names_that_lead_out_of_the_folder(tmp_path, name):
    write_records(tmp_path / "faces", 2, 1)
    (tmp_path / "faces" / "train.lst").write_text(f"1\ta/ok.jpg\t0\n1\t{name}\t1\n")
    refused(tmp_path / "faces", "--output", tmp_path / "out", match="train.lst: entry 2: .* may lead out .*--by-key")
    assert not (tmp_path / "out").exists()


def test_a_name_twice(tmp_path):
    write_records(tmp_path / "faces", 2, 1)
    (tmp_path / "faces" / "train.lst").write_text("1\ta/x.jpg\t0\n1\ta/x.jpg\t1\n")
    refused(tmp_path / "faces", "--output", tmp_path / "out", match="entries 1 and 2 are both 'a/x.jpg'")


def test_bad_images(tmp_path, capsys):
    images = [encode(photo(0, number)) for number in range(4)]
    images[1] = images[1][:-30]
    images[2] = b"no image"
    (tmp_path / "faces").mkdir()
    with RecordWriter(tmp_path / "faces" / "train.rec", tmp_path / "faces" / "train.idx") as writer:
        for key, image in enumerate(images):
            writer.write(key, pack(Header(0, float(key // 2), key, 0), image))
    out = tmp_path / "out"
    refused(tmp_path / "faces", "--output", out, match="train.rec: key 1: .*cut; --bad skip")
    assert list(tree(out))[-1] == "0/0.jpg" and not (out / "train.lst").exists()
    main([str(tmp_path / "faces"), "--output", str(out), "--bad", "skip", *QUIET])
    assert list(tree(out)) == ["0/0.jpg", "1/3.jpg", "skipped.txt", "train.lst"]
    assert (out / "train.lst").read_text() == "1\t0/0.jpg\t0\n1\t1/3.jpg\t1\n"
    assert [line.split("\t")[0] for line in (out / "skipped.txt").read_text().splitlines()] == ["0/1.jpg", "1/2.jpg"]
    said = capsys.readouterr()
    assert "2 images of 2 identities" in said.out and "left out 2 images" in said.err


def test_a_folder_with_something_in_it_is_left_alone(faces, tmp_path):
    out = tmp_path / "out"
    write_folder(out, {"mine": 1})
    before = tree(out)
    refused(faces, "--output", out, match="holds mine already; choose another --output, or add --force")
    assert tree(out) == before
    main([str(faces), "--output", str(out), *QUIET, "--force"])
    assert tree(out) == {**before, **tree(tmp_path / "photos"), "train.lst": (faces / "train.lst").read_bytes()}


def test_force_replaces_the_unpacked_set(faces, tmp_path):
    out = tmp_path / "out"
    main([str(faces), "--output", str(out), *QUIET])
    (out / "train.lst").open("a").write("1\t../photos/anna/0.jpg\t0\n1\tabsent/a.jpg\t1\n")  # nothing outside goes
    pack_main([str(tmp_path / "photos"), "--output", str(tmp_path / "part"), "--max-images", "1", *QUIET])
    main([str(tmp_path / "part"), "--output", str(out), *QUIET, "--force"])
    assert len(tree(out)) == 4 and len(tree(tmp_path / "photos")) == 10
    assert sorted(path.name for path in out.iterdir()) == ["anna", "ben", "cara", "train.lst"]


def test_mistakes(faces, tmp_path):
    refused(tmp_path / "absent", "--output", tmp_path / "out", match="absent does not exist")
    refused(tmp_path / "photos", "--output", tmp_path / "out", match="folder of images already")
    refused(faces / "train.lst", "--output", tmp_path / "out", match="train.lst")
    refused(faces, "--output", tmp_path / "out", "--workers", 300, match="--workers 300: expected 0 to 256")
    (faces / "train.lst").write_bytes(bytes(100))
    refused(faces, "--output", tmp_path / "out", match="train.lst: line 1: .*binary")


@pytest.mark.parametrize("part", [["--take", "12", "--max-images", "9"], pytest.param([], marks=pytest.mark.slow)])
def test_real_faces(shared_data, tmp_path, part):
    source = shared_data / "celeba_train"
    pack_main([str(source), "--output", str(tmp_path / "faces"), *QUIET, *part])
    main([str(tmp_path / "faces"), "--output", str(tmp_path / "photos"), *QUIET])
    pack_main([str(tmp_path / "photos" / "train.lst"), "--output", str(tmp_path / "again"), *QUIET])
    assert tree(tmp_path / "again") == tree(tmp_path / "faces")
    if not part:
        for name, data in tree(tmp_path / "faces").items():
            assert data == (source / name).read_bytes()
    assert len(np.unique((tmp_path / "again" / "train.lst").read_text().split("\n"))) > 12
