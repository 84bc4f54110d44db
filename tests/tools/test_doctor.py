"""`python -m tools.doctor`: each kind of fault, planted alone, is found with its key; a clean set has none."""

import json
import re
import shutil
import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest

from recognition.data.recordio import Header, RecordWriter, pack
from tests.faces import photo
from tools.doctor.__main__ import main
from utils.bins import write_bin
from utils.jpeg import decode, encode

IDENTITIES, PHOTOS = 5, 4
END = IDENTITIES * PHOTOS + 1  # key of the first identity record


def face(key: int) -> np.ndarray:
    """No two keys alike: `photo`'s identities are its patterns."""
    return photo(1000 + key, 0)


def write_set(root, images=None, labels=None, ranges=None, header=None, leave_out=(), stated=IDENTITIES):
    """A clean InsightFace folder of IDENTITIES x PHOTOS, but for the keys that the dicts change."""
    images, labels, ranges = images or {}, labels or {}, ranges or {}
    root.mkdir(exist_ok=True)
    with RecordWriter(root / "train.rec", root / "train.idx") as writer:
        header = header or (END, END + IDENTITIES)
        writer.write(0, pack(Header(2, np.array(header), 0, 0), b""))
        for key in range(1, END):
            label = float(labels.get(key, (key - 1) // PHOTOS))
            image = images.get(key, face(key))
            image = image if isinstance(image, bytes) else encode(image)
            if key not in leave_out:
                writer.write(key, pack(Header(0, label, key, 0), image))
        for identity in range(IDENTITIES):
            first = identity * PHOTOS + 1
            span = ranges.get(identity, (first, first + PHOTOS))
            writer.write(END + identity, pack(Header(2, np.array(span), END + identity, 0), b""))
    (root / "property").write_text(f"{stated},112,112")
    return root


@pytest.fixture
def doctor(tmp_path, capsys):
    """Runs the command on a folder: exit code, {(check, severity): finding}, everything of the JSON."""

    def run(root, *words: str):
        code = main([str(root), "--json", str(tmp_path / "out.json"), "--workers", "0", *map(str, words)])
        content = json.loads((tmp_path / "out.json").read_text())
        return code, {(f["check"], f["severity"]): f for f in content["findings"]}, content

    return run


def keys(finding: dict) -> list:
    return [example["keys"] for example in finding["examples"]]


def test_a_clean_set(doctor, tmp_path, capsys):
    code, found, content = doctor(write_set(tmp_path / "set"))
    assert (code, found) == (0, {})
    assert set(content) >= {"data", "images", "identities", "findings", "channel_order", "manifest"}
    assert (content["images"], content["identities"]) == (20, 5) and content["data"] == str(tmp_path / "set")
    assert content["channel_order"]["verdict"] == "unclear" and content["channel_order"]["colour_images"] == 20
    out = capsys.readouterr().out
    assert out.endswith(f"{tmp_path / 'set'}: 20 images of 5 identities; 0 errors, 0 warnings, 0 notes\n")


NOISY = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
GREY = cv2.cvtColor(cv2.cvtColor(face(3), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
SMALLER = cv2.resize(face(3), (100, 112))
FAULTS = {  # what write_set changes -> check, severity, keys of its examples, exit code
    "label of no class": ({"labels": {6: 5}}, "label", "error", [[6]]),
    "negative label": ({"labels": {6: -1}}, "label", "error", [[6]]),
    "half a label": ({"labels": {6: 1.5}}, "label", "error", [[6]]),
    "other identity": ({"labels": {6: 3}}, "identity range", "error", [[6, END + 1]]),
    "class without images": ({"labels": dict.fromkeys(range(5, 9), 0)}, "empty identity", "error", [[1]]),
    "permuted identities": (
        {"labels": dict.fromkeys(range(1, 5), 1) | dict.fromkeys(range(5, 9), 0)},
        "identity order", "warning", [[END], [END + 1]],
    ),
    "range too far": ({"ranges": {0: (1, 6)}}, "identity range", "error", [[5, END], [5, END + 1]]),
    "range too short": ({"ranges": {0: (1, 4)}}, "identity range", "error", [[4]]),
    "range without an end": (
        {"ranges": {4: (17, np.nan)}}, "identity range", "error", [[END + 4], [17], [18], [19], [20]],
    ),
    "range of nothing": ({"ranges": {4: (500, 504)}}, "identity range", "error", [[END + 4], [17], [18], [19], [20]]),
    "property": ({"stated": 7}, "property", "error", [["property"]]),
    "header": ({"header": (END, END + 4)}, "header", "error", [[0]]),
    "missing key": ({"leave_out": [7]}, "index", "error", [[7]]),
    "no image": ({"images": {3: b"not an image"}}, "undecodable image", "error", [[3]]),
    "cut image": ({"images": {3: encode(NOISY)[:-900]}}, "undecodable image", "error", [[3]]),
    "damaged pixels": ({"images": {3: encode(face(3))[:-900] + b"\xff\xd9"}}, "undecodable image", "error", [[3]]),
    "odd size": ({"images": {3: SMALLER}}, "odd size", "error", [[3]]),
    "grey": ({"images": {3: GREY}}, "grey image", "note", [[3]]),
    "twice": ({"images": {4: face(3)}}, "exact duplicate", "warning", [[3, 4]]),
    "two people": ({"images": {9: face(3)}}, "exact duplicate across identities", "error", [[3, 9]]),
    "recompressed": ({"images": {4: encode(face(3), 40)}}, "near duplicate", "warning", [[3, 4]]),
    "darker": ({"images": {9: face(3) // 2}}, "near duplicate across identities", "warning", [[3, 9]]),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault(doctor, tmp_path, name):
    change, check, severity, where = FAULTS[name]
    code, found, _ = doctor(write_set(tmp_path / "set", **change))
    assert sorted(keys(found[check, severity])) == sorted(where)
    assert found[check, severity]["count"] == len(where)
    assert code == (severity != "note")
    alone = {"label of no class", "negative label", "half a label", "header", "missing key", "class without images"}
    if name not in alone | {"property"}:  # these are also refused by training, or wrong in more than one way
        assert len(found) == 1


def test_copies_of_one_photo_are_counted_apart_from_those_of_another_person(doctor, tmp_path):
    _, found, _ = doctor(write_set(tmp_path / "set", images=dict.fromkeys((2, 6, 7, 9), face(1))))
    assert keys(found["exact duplicate across identities", "error"]) == [[1, 6], [1, 9]]
    assert sorted(keys(found["exact duplicate", "warning"])) == [[1, 2], [6, 7]]


def test_an_identity_with_few_images(doctor, tmp_path):
    labels = {5: 0, 6: 0, 7: 0}
    _, found, _ = doctor(write_set(tmp_path / "set", labels=labels))
    assert keys(found["few images", "warning"]) == [[1]]
    _, found, _ = doctor(tmp_path / "set", "--min-images", "1")
    assert ("few images", "warning") not in found
    _, found, _ = doctor(tmp_path / "set", "--min-images", "5")
    assert keys(found["few images", "warning"]) == [[1], [2], [3], [4]]


def index_lines(root) -> list[str]:
    return (root / "train.idx").read_text().splitlines(keepends=True)


def offset(root, key: int) -> int:
    return next(int(line.split()[1]) for line in index_lines(root) if line.startswith(f"{key}\t"))


def test_an_overwritten_record(doctor, tmp_path):
    root = write_set(tmp_path / "set")
    with (root / "train.rec").open("r+b") as file:
        file.seek(offset(root, 7))
        file.write(b"\0\0\0\0")
    code, found, content = doctor(root)
    assert code == 1 and keys(found["unreadable record", "error"]) == [[7]] and content["images"] == 19
    (gap,) = found["unindexed bytes", "warning"]["examples"]
    assert (gap["start"], gap["end"]) == (offset(root, 7), offset(root, 8))


def test_records_that_the_index_leaves_out(doctor, tmp_path):
    root = write_set(tmp_path / "set")
    start, end, last = offset(root, 7), offset(root, 9), END + IDENTITIES - 1
    kept = [line for line in index_lines(root) if line.split()[0] not in ("7", "8", str(last))]
    tail = offset(root, last)
    (root / "train.idx").write_text("".join(kept))
    code, found, content = doctor(root)
    assert code == 1 and content["images"] == 18
    gaps = [(gap["start"], gap["end"]) for gap in found["unindexed bytes", "warning"]["examples"]]
    assert gaps == [(start, end), (tail, (root / "train.rec").stat().st_size)]
    assert "2 whole records there" in found["unindexed bytes", "warning"]["examples"][0]["text"]
    assert ("opens", "error") in found


def test_two_keys_for_one_record(doctor, tmp_path):
    root = write_set(tmp_path / "set")
    text = (root / "train.idx").read_text()
    (root / "train.idx").write_text(text.replace(f"\n8\t{offset(root, 8)}\n", f"\n8\t{offset(root, 7)}\n"))
    _, found, _ = doctor(root)
    assert keys(found["index", "error"]) == [[7, 8]]
    (root / "train.idx").write_text(text.replace("\n8\t", "\n7\t"))
    _, found, _ = doctor(root)
    assert [7] in keys(found["index", "error"]) and [8] in keys(found["index", "error"])


def test_a_cut_record_file(doctor, tmp_path):
    root = write_set(tmp_path / "set")
    whole = (root / "train.rec").read_bytes()
    (root / "train.rec").write_bytes(whole[: offset(root, 15) + 100])
    code, found, content = doctor(root)
    assert code == 1 and content["images"] == 14
    assert content["recovered"] == {"records": 15, "lost_bytes": 100}
    assert {16, 20, END} <= {key for (key,) in keys(found["index", "error"]) if isinstance(key, int)}
    assert ("opens", "error") in found


@pytest.mark.parametrize("damage", ["missing", "empty", "line", "of another set"])
def test_a_damaged_index(doctor, tmp_path, damage):
    root = write_set(tmp_path / "set")
    idx = root / "train.idx"
    if damage == "missing":
        idx.unlink()
    elif damage == "empty":
        idx.write_text("")
    elif damage == "line":
        idx.write_text(idx.read_text().replace("\n8\t", "\n8 x"))
    else:
        idx.write_text(re.sub(r"\t(\d+)", lambda line: f"\t{int(line[1]) + 4}", idx.read_text()))
    code, found, content = doctor(root)
    assert code == 1 and ("opens", "error") in found
    assert content["images"] == 20 and content["identities"] == 5
    assert content["recovered"] == {"records": 26, "lost_bytes": 0}
    if damage == "of another set":
        assert found["index", "error"]["count"] == 26
    if damage == "line":
        assert [9] in keys(found["index", "error"])


def test_bytes_put_into_the_record_file(doctor, tmp_path):
    """Everything behind them is where the index does not say."""
    root = write_set(tmp_path / "set")
    whole, at = (root / "train.rec").read_bytes(), offset(root, 7) + 50
    (root / "train.rec").write_bytes(whole[:at] + b"abc" + whole[at:])
    code, found, content = doctor(root)
    assert code == 1 and [key for (key,) in keys(found["index", "error"])][:2] == [7 + 1, 9]
    assert content["images"] == 20 - 1 and content["recovered"] == {"records": 26, "lost_bytes": 3}
    assert keys(found["undecodable image", "error"]) == [[7]]


@pytest.mark.parametrize("content", [b"", struct.pack("<I", 7) * 50, None])
def test_a_record_file_with_nothing_in_it(doctor, tmp_path, content):
    root = write_set(tmp_path / "set")
    (root / "train.rec").unlink()
    if content is not None:
        (root / "train.rec").write_bytes(content)
    code, found, report = doctor(root)
    assert code == 1 and ("opens", "error") in found and report["images"] == 0


def test_property(doctor, tmp_path):
    root = write_set(tmp_path / "set")
    (root / "property").write_text("five faces")
    code, found, content = doctor(root)
    assert code == 1 and keys(found["property", "error"]) == [["property"]] and content["images"] == 20
    (root / "property").unlink()
    code, found, _ = doctor(root)
    assert code == 0 and list(found) == [("property", "note")]


def test_a_folder_of_folders(doctor, tmp_path, capsys):
    for key in range(1, 13):
        folder = tmp_path / "set" / f"person_{(key - 1) // 4}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{key}.jpg").write_bytes(encode(face(key)))
    code, found, content = doctor(tmp_path / "set")
    assert (code, found, content["images"], content["identities"]) == (0, {}, 12, 3)
    (tmp_path / "set" / "person_3").mkdir()
    (tmp_path / "set" / "person_0" / "notes.txt").write_text("")
    (tmp_path / "set" / "person_0" / "2.jpg").write_bytes(b"")
    (tmp_path / "set" / "person_2" / "12.jpg").write_bytes(encode(face(3)))
    code, found, _ = doctor(tmp_path / "set")
    assert code == 1
    assert {check: keys(finding) for check, finding in found.items()} == {
        ("undecodable image", "error"): [["person_0/2.jpg"]],
        ("exact duplicate across identities", "error"): [["person_0/3.jpg", "person_2/12.jpg"]],
        ("empty identity", "warning"): [["person_3"]],
        ("ignored file", "note"): [["person_0/notes.txt"]],
    }


def test_overlap_with_test_sets(doctor, tmp_path):
    root = write_set(tmp_path / "set", images={key: encode(face(key)) for key in range(1, END)})
    stored = [decode(encode(face(key))) for key in range(END)]
    png = cv2.imencode(".png", cv2.cvtColor(stored[2][:, ::-1], cv2.COLOR_RGB2BGR))[1].tobytes()
    others = [encode(face(500 + i)) for i in range(4)]
    images = [encode(face(5)), others[0], others[1], encode(stored[9], 50), encode(stored[12][:, ::-1].copy(), 70), png]
    write_bin(root / "lfw.bin", [*images, encode(face(5)), others[2]], [True, False, False, True])
    code, found, _ = doctor(root)
    exact = {tuple(e["keys"]): (e["tests"], e["mirrored"]) for e in found["overlap with test set", "error"]["examples"]}
    assert exact == {
        (5,): (["lfw pair 0 image 0", "lfw pair 3 image 0"], False),
        (2,): (["lfw pair 2 image 1"], True),
    }
    near = found["near overlap with test set", "warning"]["examples"]
    assert [(e["keys"], e["tests"], e["mirrored"]) for e in near] == [
        ([9], ["lfw pair 1 image 1"], False),
        ([12], ["lfw pair 2 image 0"], True),
    ]
    assert code == 1
    write_bin(tmp_path / "cfp.bin", others, [True, False])
    code, found, _ = doctor(root, "--bins", tmp_path / "cfp.bin")
    assert (code, found) == (0, {})
    (tmp_path / "cfp.bin").write_bytes(b"no pickle")
    code, found, _ = doctor(root, "--bins", tmp_path)
    assert code == 1 and keys(found["test set", "error"]) == [["cfp.bin"]]


def test_a_manifest(doctor, tmp_path):
    root = write_set(tmp_path / "set")
    (root / "odd\\name\n.txt").write_text("x")
    code, _, content = doctor(root, "--manifest", root / "SHA256SUMS")
    assert code == 0 and content["manifest"] == {}
    if shutil.which("sha256sum"):
        checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=root, capture_output=True, text=True)
        assert checked.returncode == 0 and checked.stdout.count(": OK") == 4
    code, found, content = doctor(root)
    assert (code, found) == (0, {}) and content["manifest"]["files"] == 4
    (root / "property").write_text("5,112,112\n")
    (root / "odd\\name\n.txt").unlink()
    code, found, content = doctor(root)
    assert code == 1 and content["manifest"]["differing"] == ["property"]
    assert content["manifest"]["missing"] == ["odd\\name\n.txt"] and found["manifest", "error"]["count"] == 2
    (tmp_path / "other").write_text("nonsense")
    with pytest.raises(ValueError, match="line 1 is not 'sha256  name'"):
        doctor(root, "--check-manifest", tmp_path / "other")


def test_the_table_shows_a_few_and_the_json_all(doctor, tmp_path, capsys):
    _, found, _ = doctor(write_set(tmp_path / "set", images={key: b"x" for key in range(1, 11)}))
    out = capsys.readouterr().out
    assert found["undecodable image", "error"]["count"] == len(found["undecodable image", "error"]["examples"]) == 10
    assert "key 3:" in out and "key 4:" not in out and "... and 7 more" in out


def test_an_image_record_of_several_parts(doctor, tmp_path):
    """A magic word within an image splits its record: the bytes of the index are still accounted for."""
    magic = struct.pack("<I", 0xCED7230A)
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 14) + b"\0" * 2 + magic + magic + b"\0" * 4
    image = encode(face(3))
    code, found, _ = doctor(write_set(tmp_path / "set", images={3: image[:2] + comment + image[2:]}))
    assert (code, found) == (0, {})


@pytest.mark.parametrize(
    "words, message",
    [
        (["/nowhere"], "data /nowhere does not exist"),
        (["{root}/property"], "expected a folder or a .rec file"),
        (["{root}/.."], "no images in folders of it"),
        (["{root}", "--bins", "/nowhere"], "--bins /nowhere does not exist"),
        (["{root}", "--bins", "{root}"], "no .bin file is in this folder"),
        (["{root}", "--workers", "-1"], "--workers -1: expected 0 or more"),
        (["{root}", "--min-images", "0"], "--min-images 0: expected 1 or more"),
        (["{root}", "--json", "/nowhere/out.json"], "there is no folder /nowhere"),
        (["{root}", "--sheet", "{root}"], "is a folder; expected the name of a file to write"),
        (["{root}", "--check-manifest", "/nowhere"], "--check-manifest /nowhere does not exist"),
        (["{root}", "--jsn", "x"], "--help shows how it is used"),
    ],
)
def test_mistyped_words(tmp_path, words, message):
    (tmp_path / "parent").mkdir()
    root = write_set(tmp_path / "parent" / "set")
    with pytest.raises(ValueError) as trouble:
        main([word.format(root=root) for word in words])
    assert message in str(trouble.value)


def test_the_command_ends_as_every_command(root, tmp_path):
    """And in several processes finds the same."""

    def command(*words: str) -> subprocess.CompletedProcess:
        words = [sys.executable, "-m", "tools.doctor", *words]
        return subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=60)

    wrong = command("/nowhere")
    assert wrong.returncode == 2 and not wrong.stdout
    assert wrong.stderr.startswith("error: data /nowhere does not exist") and wrong.stderr.count("\n") == 1
    folder = write_set(tmp_path / "set", images={9: face(3)})
    found = command(str(folder), "--workers", "2", "--sheet", str(tmp_path / "sheet.png"))
    assert found.returncode == 1 and found.stderr == ""
    assert "key 3 (identity 0) = key 9 (identity 2)" in found.stdout
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[1] > 1000
