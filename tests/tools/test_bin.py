"""`python -m tools.bin`: lists and folders become sets that InsightFace's reader and ours agree on."""

import os
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest

from eval.bins import load_bin
from tests import faces
from tools import bin as tool
from tools import pairs
from utils.jpeg import decode, encode


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 people with 1 to 4 photos each, named as LFW names them; one photo is a PNG."""
    root = tmp_path_factory.mktemp("lfw")
    for person in range(24):
        (root / f"person_{person}").mkdir()
        for number in range(1, 2 + person % 4):
            image = faces.photo(person, number)
            path = root / f"person_{person}" / f"person_{person}_{number:04d}"
            if (person, number) == (3, 2):
                cv2.imwrite(f"{path}.png", image[:, :, ::-1])
            else:
                path.with_suffix(".jpg").write_bytes(encode(image, 90))
    return root


@pytest.fixture
def write(tmp_path):
    def write(*lines, name="pairs.txt"):
        path = tmp_path / name
        path.write_text("\n".join(lines))
        return path

    return write


LFW = ["10\t1"] + [line for person in range(3, 23, 4) for line in (
    f"person_{person}\t1\t2", f"person_{person}\t1\tperson_{person + 1}\t1",
    f"person_{person}\t4\t3", f"person_{person - 1}\t3\tperson_{person}\t4",
)]  # fmt: skip


def images_of(folder, lines):
    """The files that LFW's lines mean, as its protocol describes them."""
    for line in lines:
        fields = line.split()
        for name, number in [(fields[0], fields[1]), (fields[-2] if len(fields) == 4 else fields[0], fields[-1])]:
            path = folder / name / f"{name}_{int(number):04d}.jpg"
            yield (path if path.exists() else path.with_suffix(".png")).read_bytes()


def insightface(path):
    """`verification.load_bin` of InsightFace, up to the decoding."""
    with open(path, "rb") as file:
        return pickle.load(file, encoding="bytes")


@pytest.mark.parametrize("separator", ["\t", " "])
def test_lfw(folder, write, tmp_path, capsys, separator):
    output = tmp_path / "lfw.bin"
    lines = [line.replace("\t", separator) for line in LFW]
    tool.main([str(write(*lines)), "--root", str(folder), "--output", str(output)])
    jpegs, same = insightface(output)
    assert jpegs == list(images_of(folder, LFW[1:])) and same == [True, False] * 10
    ours = load_bin(output)
    assert ours.jpegs == jpegs and ours.issame.tolist() == same
    shown = capsys.readouterr().out
    assert f"{output}  20 pairs, 10 matched, " in shown and "note" not in shown


def test_lfw_with_one_count(folder, write, tmp_path, capsys):
    """pairsDevTest.txt: all matched pairs, then all others, so that no fold has both."""
    output = tmp_path / "dev.bin"
    lines = ["10", *LFW[1::2], *LFW[2::2]]
    tool.main([str(write(*lines)), "--root", str(folder), "--output", str(output)])
    assert insightface(output) == (list(images_of(folder, lines[1:])), [True] * 10 + [False] * 10)
    assert "fold 1 of 10 has only matched pairs" in capsys.readouterr().out


PLAIN = [("person_1/person_1_0001.jpg", "person_1/person_1_0002.jpg", flag) for flag in ("1", "true", "True")]
PLAIN += [("person_1/person_1_0001.jpg", "person_3/person_3_0002.png", flag) for flag in ("0", "false", "FALSE")]


@pytest.mark.parametrize("separator", ["\t", ",", " ", "  ", " , "])
def test_a_plain_list(folder, write, tmp_path, separator):
    output, lines = tmp_path / "own.bin", [PLAIN[number % 6] for number in (0, 3, 5, 1, 2, 4, 4, 0, 3, 1, 5)]
    listed = write("\ufeff" + separator.join(lines[0]), "", *(separator.join(line) for line in lines[1:]), "")
    tool.main([str(listed), "--root", str(folder), "--output", str(output)])
    jpegs, same = insightface(output)
    assert jpegs == [(folder / path).read_bytes() for line in lines for path in line[:2]]
    assert same == [line[2].lower() in ("1", "true") for line in lines]
    assert load_bin(output).jpegs == jpegs and output.stat().st_size < 3 * max(map(len, jpegs)) + 999  # once each


def test_paths_beside_the_list_with_spaces_or_absolute(folder, write, tmp_path):
    data = (folder / "person_0" / "person_0_0001.jpg").read_bytes()
    (tmp_path / "a face.jpg").write_bytes(data)
    lines = [f"a face.jpg\t{folder}/person_1/person_1_0001.jpg\t0", f"a face.jpg,{folder / PLAIN[0][0]},0"]
    tool.main([str(write(*lines * 5)), "--output", str(tmp_path / "own.bin")])
    assert insightface(tmp_path / "own.bin")[0][::2] == [data] * 10


def check_drawn(drawn, labels, count):
    one, other = labels[drawn.index].T
    assert ((one == other) == drawn.same).all() and len({frozenset(pair) for pair in drawn.index.tolist()}) == count
    assert all(len(set(pair)) == 2 for pair in drawn.index.tolist())
    assert drawn.same.reshape(10, 2, -1).all(2).tolist() == [[True, False]] * 10 and drawn.same.sum() == count // 2


@pytest.mark.parametrize(
    "sizes, count, disjoint",
    [
        ([2] * 20, 20, True),
        ([30] * 40, 2000, True),
        ([5] * 10, 20, False),  # one identity a fold has no mismatched pairs
        ([2] * 10, 20, False),
        ([1] * 500 + [3] * 20, 40, True),
        ([40, 1], 80, False),  # all 40 mismatched pairs that there are
        ([300] + [4] * 100, 400, True),
    ],
)
def test_drawing(sizes, count, disjoint):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    drawn = pairs.draw(labels, count, 7)
    check_drawn(drawn, labels, count)
    folds = [set(fold.ravel().tolist()) for fold in labels[drawn.index].reshape(10, -1)]
    assert drawn.disjoint == disjoint == (sum(map(len, folds)) == len(set.union(*folds)))
    assert np.array_equal(pairs.draw(labels, count, 7).index, drawn.index)
    assert not np.array_equal(pairs.draw(labels, count, 8).index, drawn.index)


def test_identities_count_alike():
    """One with 1,000 photos has half a million pairs; it gets as many as the others."""
    labels = np.repeat(np.arange(21), [1000] + [10] * 20)
    drawn = pairs.draw(labels, 400, 0)
    shares = np.bincount(labels[drawn.index[drawn.same, 0]], minlength=21)
    assert drawn.disjoint and shares.max() <= 10 and shares.min() >= 6


@pytest.mark.parametrize("number", [0, 1, 2, 3, 10**6, 2**40, 2**49])
def test_numbers_of_pairs(number):
    """Counted along the rows below the diagonal, without a table of them."""
    one, other = pairs._below_diagonal(np.array([number]))[0].tolist()
    assert 0 <= one < other and other * (other - 1) // 2 + one == number


def test_a_folder_and_records_give_the_same_kind_of_set(folder, tmp_path, capsys):
    faces.write_records(tmp_path / "records", identities=10, photos=3)
    for data, note in [(folder, "folds: no identity"), (tmp_path / "records", "folds: they share identities; 10")]:
        words = [str(data), "--pairs", "40", "--output"]
        for name in ("a.bin", "b.bin"):
            tool.main([*words, str(tmp_path / name), "--seed", "3", "--force"])
        tool.main([*words, str(tmp_path / "c.bin"), "--seed", "4", "--force"])
        contents = [(tmp_path / name).read_bytes() for name in ("a.bin", "b.bin", "c.bin")]
        assert contents[0] == contents[1] != contents[2] and note in capsys.readouterr().out
        jpegs, same = insightface(tmp_path / "a.bin")
        assert len(jpegs) == 80 and same == [True, True, False, False] * 10
    tool.main([str(tmp_path / "records" / "train.rec"), "--pairs", "40", "--output", str(tmp_path / "d.bin")])


def test_other_sizes_are_scaled_when_asked(folder, write, tmp_path, monkeypatch):
    big = cv2.resize(faces.photo(1, 1), (200, 160))
    (tmp_path / "big.jpg").write_bytes(encode(big))
    listed, output = write(*[f"big.jpg\t{folder}/person_0/person_0_0001.jpg\t0"] * 10), tmp_path / "own.bin"
    with pytest.raises(ValueError, match=r"big.jpg has 200 x 160 pixels, expected 112 x 112: --resize"):
        tool.main([str(listed), "--output", str(output)])
    assert not output.exists()
    tool.main([str(listed), "--output", str(output), "--resize"])
    jpegs, _ = insightface(output)
    expected = cv2.resize(big[:, 20:180], (112, 112), interpolation=cv2.INTER_AREA)
    assert decode(jpegs[0]).shape == (112, 112, 3) and np.abs(decode(jpegs[0]).astype(int) - expected).mean() < 6
    assert jpegs[1] == (folder / "person_0" / "person_0_0001.jpg").read_bytes()
    monkeypatch.setattr(tool, "FEW", 1)
    before = output.read_bytes()
    tool.main([str(listed), "--output", str(output), "--resize", "--force"])  # now by worker processes
    assert output.read_bytes() == before


GOOD = "person_0/person_0_0001.jpg person_1/person_1_0001.jpg 0"
MISTAKES = [
    ([], "pairs.txt is empty"),
    (["10\t300", *LFW[1:]], "line 1 states 10 folds of 300 .* 6000 in all; 20 lines follow"),
    (["1100", *LFW[1:]], "line 1 states 1100 matched .* 2200 in all; 20 lines follow"),
    ([*LFW[:5], "person_1 1", *LFW[6:]], r"line 6: 'person_1 1': expected LFW's 'name 1 2' or"),
    ([*LFW[:5], "person_1\tone\t2", *LFW[6:]], "line 6: .* expected LFW's"),
    ([*LFW[:5], "person_1\t-1\t2", *LFW[6:]], "line 6: .* expected LFW's"),
    ([*LFW[:5], "person_3\t1\tperson_3\t2", *LFW[6:]], "line 6: .* is one person twice"),
    ([*LFW[:5], "person_3\t1\t1", *LFW[6:]], "line 6 pairs the image person_3/person_3_0001 with itself"),
    ([*LFW[:5], "person_3\t1\t9", *LFW[6:]], r"line 6: no image .*person_3_0009 \(.jpg, .png\); --root"),
    ([*LFW[:4], "nobody\t1\t9", *LFW[5:]], r"line 5: no image .*nobody_0001 .*, and 1 more images; --root"),
    ([GOOD, "", "a.jpg b.jpg 1"], r"line 3: no image .*/a.jpg, and 1 more"),
    ([GOOD, "a.jpg 1"], "line 2: 2 fields"),
    ([GOOD, "my face.jpg b.jpg 1"], "line 2: 4 fields .* paths with spaces need tabs or commas"),
    ([GOOD, "a.jpg,,1"], "line 2: 3 fields"),
    ([GOOD, "a.jpg b.jpg 2"], "line 2: flag '2': expected 1 or true"),
    (["path1,path2,issame", GOOD], "line 1: flag 'issame'"),
    ([GOOD] * 9, "has 9 pairs: expected at least one for each of 10 folds"),
]  # fmt: skip


@pytest.mark.parametrize("lines, message", MISTAKES, ids=lambda value: value if type(value) is str else "")
def test_bad_lists(folder, write, tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        tool.main([str(write(*lines)), "--root", str(folder), "--output", str(tmp_path / "own.bin")])
    assert not (tmp_path / "own.bin").exists()


def test_a_damaged_image_and_a_list_that_is_no_text_are_named(folder, write, tmp_path):
    whole = (folder / "person_0" / "person_0_0001.jpg").read_bytes()
    for name, data in [("cut.jpg", whole[:-9]), ("none.jpg", b"GIF89a")]:
        (tmp_path / name).write_bytes(data)
        listed = write(*[f"{name} {folder}/person_0/person_0_0001.jpg 1"] * 10)
        with pytest.raises(ValueError, match=f"{name}: "):
            tool.main([str(listed), "--output", str(tmp_path / "own.bin"), "--resize"])
    (tmp_path / "pairs.txt").write_bytes(whole)
    with pytest.raises(ValueError, match="pairs.txt cannot be read as text"):
        tool.main([str(tmp_path / "pairs.txt"), "--output", str(tmp_path / "own.bin")])


@pytest.mark.parametrize(
    "words, message",
    [
        (["FOLDER", "--pairs", "30"], "--pairs 30: expected a multiple of 20"),
        (["FOLDER", "--pairs", "0"], "--pairs 0: expected a multiple of 20"),
        (["FOLDER", "--pairs", "6000"], "the data has 60 matched and .* expected at most 120"),
        (["FOLDER", "--pairs", "40", "--seed", "-1"], "--seed -1"),
        (["FOLDER", "--pairs", "40", "--workers", "-1"], "workers=-1"),
        (["FOLDER", "--root", "x"], "--root is for a list"),
        (["LIST", "--pairs", "40"], "--pairs and --seed are for a FOLDER"),
        (["LIST", "--seed", "0"], "--pairs and --seed are for a FOLDER"),
        (["absent", "--pairs", "40"], "absent does not exist"),
        (["FOLDER", "--output", "own.pkl"], "expected a name that ends in .bin"),
        (["FOLDER", "--output", "absent/own.bin"], "absent is none that can be written"),
        (["FOLDER", "--output", "there.bin"], "there.bin exists; --force"),
    ],
)
def test_mistakes(folder, write, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.bin").write_bytes(b"precious")
    listed = write(*LFW)
    words = [{"FOLDER": str(folder), "LIST": str(listed)}.get(word, word) for word in words]
    with pytest.raises(ValueError, match=message):
        tool.main([words[0], "--output", "own.bin", *words[1:]])
    assert (tmp_path / "there.bin").read_bytes() == b"precious" and not (tmp_path / "own.bin").exists()


def test_as_it_is_typed(root, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tools.bin", str(tmp_path / "absent.txt"), "--output", str(tmp_path / "x.bin")]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_the_real_folds(shared_data, tmp_path):
    """LFW's own order survives the way through a list."""
    reference = load_bin(shared_data / "lfw.bin")
    lines = []
    for pair in range(0, 6000, 60):
        for image in (2 * pair, 2 * pair + 1):
            (tmp_path / f"{image}.jpg").write_bytes(reference.jpegs[image])
        lines.append(f"{2 * pair}.jpg {2 * pair + 1}.jpg {int(reference.issame[pair])}")
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    tool.main([str(tmp_path / "pairs.txt"), "--output", str(tmp_path / "lfw.bin")])
    written = load_bin(tmp_path / "lfw.bin")
    assert written.jpegs == [image for pair in range(0, 6000, 60) for image in reference.jpegs[2 * pair : 2 * pair + 2]]
    assert np.array_equal(written.issame, reference.issame[::60])
