"""IJB's lists: read as plain loops read them, and whatever is wrong is told with file and line."""

import shutil

import numpy as np
import pytest

from eval.ijb import columns
from eval.ijb.columns import MetaError, read_columns
from eval.ijb.meta import read_faces, read_pairs
from eval.ijb.subjects import read_search
from tests.ijb import write_ijb


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound") / "IJBB"
    write_ijb(folder)
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    shutil.copytree(sound / "meta", tmp_path / "IJBB" / "meta")
    return tmp_path / "IJBB"


def everything(folder, target="IJBB"):
    faces = read_faces(folder, target, landmarks=True)
    return faces, read_pairs(folder, target, faces.templates), read_search(folder, target, faces.templates)


def lines_of(folder, name):
    return (folder / "meta" / f"ijbb_{name}").read_text().splitlines()


def test_lists_say_what_a_loop_over_lines_reads(sound):
    faces, pairs, search = everything(sound)
    tid_mid = [line.split() for line in lines_of(sound, "face_tid_mid.txt")]
    points = [line.split() for line in lines_of(sound, "name_5pts_score.txt")]
    assert faces.names == [fields[0] for fields in tid_mid]
    assert faces.templates[faces.template].tolist() == [int(fields[1]) for fields in tid_mid]
    assert faces.media.tolist() == [int(fields[2]) for fields in tid_mid]
    assert faces.score.tolist() == [float(np.float32(fields[11])) for fields in points]
    assert read_faces(sound, "IJBB").landmarks is None and faces.landmarks.dtype == np.float32
    assert faces.landmarks.reshape(-1, 10).tolist() == [
        [float(np.float32(x)) for x in fields[1:11]] for fields in points
    ]
    listed = [tuple(map(int, line.split())) for line in lines_of(sound, "template_pair_label.txt")]
    columns_read = faces.templates[pairs.first], faces.templates[pairs.second], pairs.issame.astype(int)
    assert list(zip(*(column.tolist() for column in columns_read), strict=True)) == listed
    for part, subjects in zip(("gallery_S1", "gallery_S2", "probe_mixed"), (*search.galleries, search.probes)):  # noqa: B905
        rows = {tuple(map(int, line.split(",")[:2])) for line in lines_of(sound, f"1N_{part}.csv")[1:]}
        read = zip(faces.templates[subjects.template].tolist(), subjects.subject.tolist(), strict=True)
        assert list(read) == sorted(rows)


def test_numbers_of_every_length_in_any_piece(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    numbers = 10 ** generator.integers(0, 9, (500, 2)) - generator.integers(0, 2, (500, 2))
    numbers = np.minimum(numbers, 99_999_999)
    path = tmp_path / "list.txt"
    for ending in ("\n", "\r\n"):
        text = ending.join(f"{a} {b} 00000007" for a, b in numbers.tolist())
        for whole in (text, text + ending):  # the last newline may be missing
            path.write_bytes(whole.encode())
            for piece in (1, 100, 10**6):
                monkeypatch.setattr(columns, "PIECE", piece)
                parts = columns.map_pieces(path, 3, "x", lambda c: [c.integers(i) for i in range(3)])
                read = np.concatenate(parts, axis=1)
                assert read[:2].T.tolist() == numbers.tolist() and (read[2] == 7).all()


def test_decimals(tmp_path):
    words = ["0", "-1.5", "1e-3", "123.456789", "+.5", "7.", "00012.5", "1E2", "3"]
    (tmp_path / "list").write_text("".join(f"{word} x\n" for word in words))
    assert read_columns(tmp_path / "list", 2, "x").floats(0).tolist() == [float(np.float32(word)) for word in words]


def test_windows_line_ends(folder, sound):
    for path in (folder / "meta").iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    for one, other in zip(everything(folder)[1], everything(sound)[1], strict=True):
        assert np.array_equal(one, other)
    assert read_faces(folder, "IJBB").names == read_faces(sound, "IJBB").names


def test_ijbc_has_its_own_names(tmp_path):
    write_ijb(tmp_path, "IJBC")
    assert everything(tmp_path, "IJBC")[2] is not None


def test_no_lists_of_1n(folder):
    for path in (folder / "meta").glob("*_1N_*"):
        path.unlink()
    assert everything(folder)[2] is None


def edit(line, text):
    """Line `line`, from 1, becomes `text`."""

    def change(content):
        lines = content.split("\n")
        lines[line - 1] = text
        return "\n".join(lines)

    return change


def cut(content):
    return content.rstrip("\n").rsplit(" ", 1)[0]


BAD = [
    ("face_tid_mid.txt", edit(2, "1.png 6"), r"mid.txt:2: '1.png 6' is not 3 fields"),
    ("face_tid_mid.txt", edit(2, "1.png 6 600 1"), r"mid.txt:2: .* is not 3 fields"),
    ("face_tid_mid.txt", edit(2, "1.png  6 600"), r"mid.txt:2: .* is not 3 fields"),
    ("face_tid_mid.txt", edit(2, "1.png\t6\t600"), r"mid.txt:2: .* is not 3 fields"),
    ("face_tid_mid.txt", edit(2, ""), r"mid.txt:2: '' is not 3 fields"),
    ("face_tid_mid.txt", edit(2, "1\0.png 6 600"), r"mid.txt:2: '1\\x00.png 6 600' is not 3 fields"),
    ("face_tid_mid.txt", edit(2, "1.png 6 600\x01"), r"mid.txt:2: '1.png 6 600\\x01' is not 3 fields"),
    ("face_tid_mid.txt", edit(48, "47.png\x01 48 4701"), r"mid.txt:48: '47.png\\x01 48 4701' is not 3 fields"),
    ("template_pair_label.txt", edit(7, "3\x0139 1"), r"label.txt:7: '3\\x0139 1' is not 3 fields"),
    ("face_tid_mid.txt", edit(2, "1.png six 600"), r"mid.txt:2: field 2 is 'six', no whole number"),
    ("face_tid_mid.txt", edit(2, "1.png -6 600"), r"mid.txt:2: field 2 is '-6', no whole number"),
    ("face_tid_mid.txt", edit(2, "1.png 6.0 600"), r"mid.txt:2: field 2 is '6.0', no whole number"),
    ("face_tid_mid.txt", edit(2, "1.png 6 123456789"), r"mid.txt:2: field 3 is '123456789', no whole number"),
    ("face_tid_mid.txt", edit(2, "x.png 6 600"), r"score.txt:2: field 1 is '1.png', but line 2 of .* names 'x.png'"),
    ("face_tid_mid.txt", cut, r"mid.txt:48: '47.png 48' is not 3 fields"),
    ("face_tid_mid.txt", lambda content: content.rsplit("47.png", 1)[0], r"has 48 images, .*mid.txt has 47"),
    ("face_tid_mid.txt", lambda content: "", r"mid.txt: is empty"),
    ("name_5pts_score.txt", lambda content: "\n", r"score.txt: is empty"),
    ("name_5pts_score.txt", edit(3, "2.png 1 2 3 4 5 6 7 8 9 x 0.9"), r"score.txt:3: field 11 is 'x', no finite"),
    ("name_5pts_score.txt", edit(3, "2.png 1 2 3 4 5 6 7 8 9 nan 0.9"), r"score.txt:3: field 11 is 'nan'"),
    ("name_5pts_score.txt", edit(3, "2.png 1 2 3 4 5 6 7 8 9 10 high"), r"score.txt:3: field 12 is 'high'"),
    ("name_5pts_score.txt", edit(3, "2.png 1 2 3 4 5 6 7 8 9 0.9"), r"score.txt:3: .* is not 12 fields"),
    ("name_5pts_score.txt", cut, r"score.txt:48: .* is not 12 fields"),
    ("template_pair_label.txt", edit(7, "3 39 2"), r"label.txt:7: field 3 is '2', no label; expected two templates"),
    ("template_pair_label.txt", edit(7, "3 39 x"), r"label.txt:7: field 3 is 'x', no whole number"),
    ("template_pair_label.txt", edit(7, "3 40 1"), r"label.txt:7: field 2 is '40', a template without images"),
    ("template_pair_label.txt", edit(7, "99999999 39 1"), r"label.txt:7: field 1 is '99999999', a template without"),
    ("template_pair_label.txt", edit(7, "3 39"), r"label.txt:7: '3 39' is not 3 fields"),
    ("template_pair_label.txt", cut, r"label.txt:60: .* is not 3 fields"),
    ("template_pair_label.txt", lambda content: "", r"label.txt: is empty"),
    ("template_pair_label.txt", lambda content: "3 39 1\n3 42 1\n", r"label.txt: all 2 labels are 1"),
    ("1N_gallery_S1.csv", edit(1, "3,0,0.png"), r"S1.csv:1: '3,0,0.png': expected a header"),
    ("1N_gallery_S1.csv", edit(3, "3,x"), r"S1.csv:3: '3,x': expected template and subject"),
    ("1N_gallery_S1.csv", edit(3, "3"), r"S1.csv:3: '3': expected template and subject"),
    ("1N_gallery_S1.csv", edit(3, "3,1"), r"S1.csv:3: template 3 shows subject 1, in line 2 subject 0"),
    ("1N_gallery_S2.csv", lambda content: content.replace("12,3,", "12,0,"),
     r"S2.csv:2: subject 0 has a second gallery template; one is in .*S1.csv:2"),
    ("1N_gallery_S2.csv", edit(2, "13,3"), r"S2.csv:2: template 13 has no images"),
    ("1N_probe_mixed.csv", lambda content: content + "48,77\n", r"mixed.csv:32: template 48 shows subject 77, in"),
    ("1N_probe_mixed.csv", lambda content: content.split("\n")[0], r"mixed.csv: is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "message"), BAD, ids=range(len(BAD)))
@pytest.mark.parametrize("piece", [1, 1 << 19])
def test_what_is_wrong_is_told_with_file_and_line(folder, monkeypatch, name, change, message, piece):
    monkeypatch.setattr(columns, "PIECE", piece)
    path = folder / "meta" / f"ijbb_{name}"
    changed = change(path.read_text())
    assert changed != path.read_text()
    path.write_text(changed)
    with pytest.raises(MetaError, match=message) as caught:
        everything(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_a_probe_without_a_mate(folder):
    path = folder / "meta" / "ijbb_1N_gallery_S2.csv"
    path.write_text("TEMPLATE_ID,SUBJECT_ID\n12,3\n")
    with pytest.raises(MetaError, match=r"mixed.csv:\d+: subject \d is in no gallery"):
        everything(folder)


def test_lists_that_are_missing(folder):
    with pytest.raises(MetaError, match="ijbc_face_tid_mid.txt: is not there, but IJBB's list is; was"):
        everything(folder, "IJBC")
    with pytest.raises(ValueError, match="target 'IJBA': expected IJBB or IJBC"):
        everything(folder, "IJBA")
    (folder / "meta" / "ijbb_1N_probe_mixed.csv").unlink()
    with pytest.raises(MetaError, match="probe_mixed.csv: is not there, but other lists of 1:N are"):
        everything(folder)
    (folder / "meta" / "ijbb_template_pair_label.txt").unlink()
    with pytest.raises(MetaError, match="pair_label.txt: is not there; expected InsightFace's folder"):
        everything(folder)


def test_a_name_that_is_no_text(folder):
    for name in ("face_tid_mid.txt", "name_5pts_score.txt"):
        path = folder / "meta" / f"ijbb_{name}"
        path.write_bytes(path.read_bytes().replace(b"1.png", b"\xff.png", 1))
    with pytest.raises(MetaError, match="score.txt:2: field 1 .* no UTF-8"):
        everything(folder)
