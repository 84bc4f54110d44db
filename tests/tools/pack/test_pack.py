"""python -m tools.pack: what comes out of which sources and options."""

import json
import pickle
import subprocess
import sys
import tarfile

import pytest

from recognition.data.recordio import Header, RecordWriter, pack
from recognition.data.sources import open_source
from tests.packing import IDENTITIES, QUIET, packed, refused, tree, write_folder
from tools.pack.__main__ import main
from tools.pack.sinks import check_keys


@pytest.fixture
def faces(tmp_path):
    return write_folder(tmp_path / "faces")


# ----- the files ------------------------------------------------------------------------------------------------------

MXNET = """
import sys, pickle
import numpy as np
np.bool = np.bool_
try:
    from mxnet import recordio
except Exception as error:
    sys.exit(f"no mxnet: {error}")
groups, folder = pickle.load(sys.stdin.buffer)
file, key, ranges = recordio.MXIndexedRecordIO(folder + "/train.idx", folder + "/train.rec", "w"), 1, []
total = sum(map(len, groups))
header = recordio.IRHeader(0, [float(total + 1), float(total + 1 + len(groups))], 0, 0)
file.write_idx(0, recordio.pack(header, b""))
for label, images in enumerate(groups):
    ranges.append((float(key), float(key + len(images))))
    for image in images:
        file.write_idx(key, recordio.pack(recordio.IRHeader(0, float(label), key, 0), image))
        key += 1
for one in ranges:
    file.write_idx(key, recordio.pack(recordio.IRHeader(2, list(one), key, 0), b""))
    key += 1
file.close()
"""


def test_mxnet_writes_the_same_files(faces, tmp_path):
    packed(tmp_path / "ours", faces)
    groups = [[p.read_bytes() for p in sorted((faces / name).iterdir())] for name in sorted(IDENTITIES)]
    (tmp_path / "theirs").mkdir()
    sent = pickle.dumps((groups, str(tmp_path / "theirs")))
    done = subprocess.run([sys.executable, "-c", MXNET], input=sent, capture_output=True)
    if b"no mxnet: " in done.stderr:
        pytest.skip(done.stderr.decode()[-200:])
    assert done.returncode == 0, done.stderr
    for name, data in tree(tmp_path / "theirs").items():
        assert (tmp_path / "ours" / name).read_bytes() == data


def test_a_folder(faces, tmp_path):
    images = packed(tmp_path / "out", faces)
    names = [f"{name}/{number}.jpg" for name in sorted(IDENTITIES) for number in range(IDENTITIES[name])]
    assert [(name, key) for name, _, _, key in images] == list(zip(names, range(1, 11), strict=True))
    assert [label for _, label, _, _ in images] == [0] * 5 + [1] * 2 + [2] * 3
    assert all(data == (faces / name).read_bytes() for name, _, data, _ in images)  # no generation of JPEG more
    assert sorted(tree(tmp_path / "out")) == ["property", "train.idx", "train.lst", "train.rec"]
    assert (tmp_path / "out" / "property").read_text() == "3,112,112"


def test_images_that_cannot_be_read_are_counted(faces, tmp_path, capsys):
    (next(path for path in faces.iterdir() if path.is_dir()) / "more.avif").write_bytes(b"")
    packed(tmp_path / "out", faces)
    assert f"note: {faces}: 1 .avif passed over" in capsys.readouterr().err


def test_workers_do_not_change_the_files(faces, tmp_path):
    main([str(faces), "--output", str(tmp_path / "two"), "--workers", "2", "--shuffle", "1"])
    packed(tmp_path / "none", faces, "--shuffle", "1")
    assert tree(tmp_path / "two") == tree(tmp_path / "none")


def test_records_pass_through(faces, tmp_path):
    packed(tmp_path / "one", faces)
    for source in (tmp_path / "one", tmp_path / "one" / "train.rec"):
        packed(tmp_path / "two", source, "--force")
        assert tree(tmp_path / "two") == tree(tmp_path / "one")


def test_records_without_a_list_or_property(faces, tmp_path):
    folder = tmp_path / "bare"
    folder.mkdir()
    with RecordWriter(folder / "x.rec", folder / "x.idx") as writer:
        for key, label in enumerate([4, 9, 4, 0]):
            writer.write(key, pack(Header(0, label, key, 0), (faces / "anna" / f"{key}.jpg").read_bytes()))
    images = packed(tmp_path / "out", folder)
    assert [image[:2] for image in images] == [("0/3.jpg", 0), ("4/0.jpg", 1), ("4/2.jpg", 1), ("9/1.jpg", 2)]


@pytest.mark.parametrize("form", ["insightface", "im2rec"])
def test_a_list_with_gaps_in_any_order(faces, tmp_path, form):
    rows = [("cara/0.jpg", 70), ("ben/1.jpg", 5), ("cara/2.jpg", 70), (str(faces / "anna/0.jpg"), 6)]
    lines = [f"1\t{name}\t{label}" if form == "insightface" else f"9\t{label}.0\t{name}" for name, label in rows]
    (tmp_path / "my.lst").write_text("\n".join(lines))
    images = packed(tmp_path / "out", tmp_path / "my.lst", "--root", faces)
    assert [image[:2] for image in images] == [(rows[at][0], label) for at, label in ((1, 0), (3, 1), (0, 2), (2, 2))]
    (faces / "my.lst").write_text("\n".join(lines))
    assert packed(tmp_path / "again", faces / "my.lst") == images


# ----- several sources, parts of them, other orders -------------------------------------------------------------------


def test_merging(faces, tmp_path):
    other = write_folder(tmp_path / "others", {"anna": 1, "zoe": 2})

    def shape(*words):
        images = packed(tmp_path / "out", *words, "--force")
        names = [name for name, _, _, _ in images]
        assert len(set(names)) == len(names) == 13
        pools = {data for _, _, data, _ in images}
        assert pools == {path.read_bytes() for root in (faces, other) for path in root.rglob("*.jpg")}
        return [(name, label) for name, label, _, _ in images if name.endswith("0.jpg")]

    assert shape(faces, other) == [
        ("1-anna/0.jpg", 0), ("1-ben/0.jpg", 1), ("1-cara/0.jpg", 2), ("2-anna/0.jpg", 3), ("2-zoe/0.jpg", 4)
    ]  # fmt: skip
    assert shape(faces, other, "--identities", "names") == [
        ("anna/1-0.jpg", 0), ("anna/2-0.jpg", 0), ("ben/1-0.jpg", 1), ("cara/1-0.jpg", 2), ("zoe/2-0.jpg", 3)
    ]  # fmt: skip
    assert shape(faces, other, "--identities", "labels") == [
        ("0/1-anna_0.jpg", 0), ("0/2-anna_0.jpg", 0), ("1/1-ben_0.jpg", 1), ("1/2-zoe_0.jpg", 1), ("2/1-cara_0.jpg", 2)
    ]  # fmt: skip


def test_records_and_folders_merge_by_name(faces, tmp_path):
    packed(tmp_path / "one", faces)
    images = packed(tmp_path / "out", tmp_path / "one", faces, "--identities", "names")
    assert [label for _, label, _, _ in images] == [0] * 10 + [1] * 4 + [2] * 6


def test_parts_of_a_set(faces, tmp_path):
    def counts(*words):
        names = [name.split("/")[0] for name, _, _, _ in packed(tmp_path / "out", faces, *words, "--force")]
        return {name: names.count(name) for name in dict.fromkeys(names)}

    (tmp_path / "some").write_text("cara\nanna\n")
    assert counts("--only", tmp_path / "some") == {"anna": 5, "cara": 3}
    assert counts("--without", tmp_path / "some") == {"ben": 2}
    assert counts("--min-images", 3) == {"anna": 5, "cara": 3}
    assert counts("--max-images", 2) == {"anna": 2, "ben": 2, "cara": 2}
    assert counts("--min-images", 3, "--max-images", 4) == {"anna": 4, "cara": 3}
    taken = [counts("--take", 1, "--seed", seed) for seed in range(12)]
    assert {name for one in taken for name in one} == set(IDENTITIES) and all(len(one) == 1 for one in taken)
    chosen = [packed(tmp_path / "out", faces, "--max-images", 1, "--seed", s, "--force")[0][0] for s in (0, 0, 1, 2, 3)]
    assert chosen[0] == chosen[1] and len(set(chosen)) > 1


def test_shuffled(faces, tmp_path):
    plain, one = packed(tmp_path / "plain", faces), packed(tmp_path / "one", faces, "--shuffle", 1)
    two = packed(tmp_path / "two", faces, "--shuffle", 2)
    assert [key for *_, key in one] == list(range(10))  # arcface_torch reads key 0 first
    assert len({tuple(name for name, *_ in images) for images in (plain, one, two)}) == 3
    assert sorted(image[:3] for image in one) == sorted(image[:3] for image in plain)
    assert packed(tmp_path / "back", tmp_path / "one") != plain
    assert sorted(image[:3] for image in packed(tmp_path / "back", tmp_path / "one", "--force")) == sorted(
        image[:3] for image in plain
    )


@pytest.mark.parametrize("shuffle", [(), ("--shuffle", 3)])
def test_shards(faces, tmp_path, shuffle):
    images = packed(tmp_path / "out", faces, "--shards", 3, *shuffle)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.rec")) == [
        f"train-0000{shard}-of-00003.rec" for shard in range(3)
    ]
    assert [key for *_, key in images] == list(range(10))
    whole = packed(tmp_path / "whole", faces, *shuffle)
    assert [image[:3] for image in images] == [image[:3] for image in whole]
    shards = sorted((tmp_path / "out").glob("*.rec"))
    joined = packed(tmp_path / "joined", *shards, "--identities", "labels")
    assert sorted(image[1:3] for image in joined) == sorted(image[1:3] for image in whole)


def test_webdataset(faces, tmp_path):
    out, images = tmp_path / "out", packed(tmp_path / "rec", faces)
    main([str(faces), "--output", str(out), "--format", "webdataset", "--shard-size", "4", *QUIET])
    index = json.loads((out / "train.json").read_text())
    names = [f"train-00000{number}.tar" for number in range(3)]
    shards = [{"url": name, "nsamples": n} for name, n in zip(names, (4, 4, 2), strict=True)]
    assert index == {"wids_version": 1, "shardlist": shards, "num_classes": 3, "side": 112}
    assert sorted(tree(out)) == ["train-000000.tar", "train-000001.tar", "train-000002.tar", "train.json"]
    members = []
    for name in names:
        with tarfile.open(out / name) as tar:
            members += [(one.name, tar.extractfile(one).read(), one.mtime, one.uid, one.isreg()) for one in tar]
        assert (out / name).stat().st_size % tarfile.RECORDSIZE == 0
    assert {one[2:] for one in members} == {(0, 0, True)}
    assert [one[:2] for one in members] == [
        member
        for number, (_, label, data, _) in enumerate(images)
        for member in ((f"{number:09d}.jpg", data), (f"{number:09d}.cls", b"%d" % label))
    ]


def test_tars_are_read_by_training_by_webdataset_and_by_pack_itself(faces, tmp_path):
    out, images = tmp_path / "out", packed(tmp_path / "rec", faces)
    main([str(faces), "--output", str(out), "--format", "webdataset", "--shard-size", "4", *QUIET])
    expected = [(data, label) for _, label, data, _ in images]
    source = open_source(out)
    assert [source[index] for index in range(len(source))] == expected
    again = packed(tmp_path / "again", out)
    assert [(data, label) for _, label, data, _ in again] == expected
    webdataset = pytest.importorskip("webdataset")
    theirs = webdataset.WebDataset([str(tar) for tar in sorted(out.glob("*.tar"))], shardshuffle=False)
    assert [(image, int(label)) for image, label in theirs.to_tuple("jpg", "cls")] == expected


# ----- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, match",
    [
        (["--quality", 0], "--quality 0: expected 1 to 100"),
        (["--side", 5000], "--side 5000: expected 1 to 4096"),
        (["--workers", -1], "--workers -1"),
        (["--shards", 0], "--shards 0: expected 1"),
        (["--shards", 11], "--shards 11: only 10 images"),
        (["--max-images", 0], "--max-images 0"),
        (["--take", 4], "--take 4: only 3 identities"),
        (["--min-images", 6], "nothing is left"),
        (["--shard-size", 5], "--shard-size is for"),
        (["--format", "webdataset", "--shards", 2], "--shard-size says"),
        (["--root", "/"], "no source is a .lst"),
        (["--fromat", "rec"], "unrecognized arguments: --fromat"),
        (["--only", "/dev/null"], "/dev/null is no file"),
    ],
)
def test_options(faces, tmp_path, words, match):
    refused(faces, "--output", tmp_path / "out", *words, match=match)
    assert not (tmp_path / "out").exists()


def test_identities_that_are_in_no_source(faces, tmp_path):
    (tmp_path / "some").write_text("anna\nwalter\n")
    refused(faces, "--output", tmp_path / "out", "--only", tmp_path / "some", match="1 of its 2 .*'walter'.*'anna'")


def test_sources_that_are_none(faces, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.lst").write_text("1\tanna/0.jpg\t0\n")
    for source, match in {
        "absent": "absent does not exist",
        "empty": "no images",
        "a.txt": "a.txt",
        "absent.lst": "absent.lst cannot be read",
        "a.lst": "a.lst: its images are not there, for example .*anna/0.jpg; --root FOLDER",
    }.items():
        refused(tmp_path / source, "--output", tmp_path / "out", match=match)
    refused(
        tmp_path / "a.lst", "--root", tmp_path / "b", "--output", tmp_path / "out", match="--root .*expected the fol"
    )


def test_names_that_no_list_can_hold(faces, tmp_path):
    (faces / "anna" / "a\tb.jpg").write_bytes(b"x")
    refused(faces, "--output", tmp_path / "out", match="rename it")


def test_a_list_of_other_records(faces, tmp_path):
    packed(tmp_path / "one", faces)
    lines = (tmp_path / "one" / "train.lst").read_text().splitlines(keepends=True)
    for changed, match in [(lines[:-1], "9 entries"), (lines + lines[:1], "no image more"), (lines[::-1], "label 2")]:
        (tmp_path / "one" / "train.lst").write_text("".join(changed))
        refused(tmp_path / "one", "--output", tmp_path / "out", match=match)


def test_more_records_than_the_header_counts():
    check_keys((1 << 24) - 11, 10)
    with pytest.raises(ValueError, match="--shuffle SEED or --shards N"):
        check_keys((1 << 24) - 10, 10)
