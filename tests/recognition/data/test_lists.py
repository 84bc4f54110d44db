import numpy as np
import pytest

from recognition.data.lists import Entry, format_entry, read_list, write_list, write_property
from utils.lists import ListError

POINTS = [[30.5, 51.25], [65, 50], [48, 70], [33, 91], [62, 90]]
FLAT = "30.5\t65\t48\t33\t62\t51.25\t50\t70\t91\t90"  # InsightFace's order: first all x


def read(tmp_path, text: str | bytes) -> list[Entry]:
    path = tmp_path / "faces.lst"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_list(path))


def refused(tmp_path, text, *words):
    with pytest.raises(ListError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert str(tmp_path / "faces.lst") in message and "\n" not in message and len(message) < 600
    assert all(word in message for word in words), message


def test_insightface(tmp_path):
    plain, boxed, full = read(
        tmp_path, f"1\ta/1.jpg\t0\n1\ta b/2.jpg\t7\t1\t2\t3\t4.5\n0\tc.png\t7\t1\t2\t3\t4\t{FLAT}\n"
    )
    assert plain == Entry("a/1.jpg", 0, True, None, None)
    assert boxed == Entry("a b/2.jpg", 7, True, (1, 2, 3, 4.5), None)
    assert full[:4] == ("c.png", 7, False, (1, 2, 3, 4))
    assert full.landmarks.shape == (5, 2) and np.array_equal(full.landmarks, POINTS)


def test_im2rec(tmp_path):
    entries = read(tmp_path, "0\t3.000000\ta/1.jpg\n17\t4\t0.25\t9\tb/2 2.jpg\r\n\n")
    assert entries == [Entry("a/1.jpg", 3), Entry("b/2 2.jpg", 4)]


def test_a_byte_order_mark_blank_lines_and_names_in_other_encodings(tmp_path):
    (one, two) = read(tmp_path, b"\xef\xbb\xbf1\ta\xff/1.jpg\t0\r\n\n \n1\tb.jpg\t1")
    assert (one.name.encode(errors="surrogateescape"), two.name) == (b"a\xff/1.jpg", "b.jpg")
    write_list(tmp_path / "again.lst", [one, two])
    assert (tmp_path / "again.lst").read_bytes() == b"1\ta\xff/1.jpg\t0\n1\tb.jpg\t1\n"


def test_what_is_written_is_read(tmp_path):
    entries = [Entry("a/1.jpg", 5), Entry("b", 2**31 - 1, False, (0.5, 1.0, 2.0, 3.25), np.array(POINTS))]
    write_list(tmp_path / "x.lst", entries)
    assert (tmp_path / "x.lst").read_text() == f"1\ta/1.jpg\t5\n0\tb\t2147483647\t0.5\t1\t2\t3.25\t{FLAT}\n"
    back = list(read_list(tmp_path / "x.lst"))
    assert back[0] == entries[0] and back[1][:4] == entries[1][:4]
    assert np.array_equal(back[1].landmarks, POINTS)


def test_property(tmp_path):
    write_property(tmp_path / "property", 889, 112)
    assert (tmp_path / "property").read_bytes() == b"889,112,112"


@pytest.mark.parametrize(
    "text, words",
    [
        ("", ["is empty"]),
        (" \n\n", ["is empty"]),
        ("a/1.jpg 0\n", ["line 1", "aligned<TAB>path<TAB>label", "index<TAB>label<TAB>path"]),
        ("1\t2\n", ["line 1", "2 field(s)"]),
        ("1\t2\t3\n", ["line 1", "only field that is no number"]),
        ("1\ta\tb\n", ["line 1", "only field that is no number"]),
        ("1\ta\t0\n2\tb\t0\n", ["line 2", "aligned 0 or 1, got '2'"]),
        ("1\ta\t0\n1\tb\t-1\n", ["line 2", "label in [0, 2147483647], got '-1'"]),
        ("1\ta\t0\n1\tb\t0.5\n", ["line 2", "got '0.5'"]),
        ("1\ta\t0\n1\tb\t2147483648\n", ["line 2", "got '2147483648'"]),
        ("1\ta\t0\n1\tb\t1e999\n", ["line 2"]),
        ("1\ta\t0\n1\t\t1\n", ["line 2", "expected a path"]),
        ("1\ta\t0\n1\tb\t0\t1\t2\n", ["line 2", "0, 4 or 14 numbers, got 5 fields"]),
        ("1\ta\t0\n0\t3\tb.jpg\n", ["line 2"]),  # the other form
        ("0\t3\tb.jpg\n1\ta\t0\n", ["line 2"]),
        ("0\t3\tb.jpg\n1\tb.jpg\n", ["line 2", "index<TAB>label<TAB>path"]),
        ("x\t3\tb.jpg\n", ["line 1", "got 'x'"]),
        (f"0\ta\t0\t1\t2\t3\t4\t{FLAT}\n0\tb\t0\t1\t2\t3\t4\t{FLAT[:-2]}nan\n", ["line 2", "number, got 'nan'"]),
        (b"1\ta\t0\n\xff\xd8\xff\0\0", ["line 2", "binary"]),
        (bytes(100_000), ["line 1", "binary"]),
        (b"a" * 100_000, ["line 1", "at most 8192 bytes"]),
    ],
)
def test_bad_lists(tmp_path, text, words):
    refused(tmp_path, text, *words)


def test_a_huge_binary_file_is_refused_at_once(tmp_path):
    with (tmp_path / "faces.lst").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ListError, match="line 1"):
        list(read_list(tmp_path / "faces.lst"))


def test_fuzz(tmp_path):
    good = f"1\ta/1.jpg\t0\n0\tb\t1\t1\t2\t3\t4\t{FLAT}\n".encode()
    draw, outcomes = np.random.default_rng(0), {True: 0, False: 0}
    for _ in range(300):
        data = bytearray(good)
        for at in draw.integers(len(data), size=draw.integers(1, 3)):
            data[at] = draw.integers(256)
        try:
            entries = read(tmp_path, bytes(data))
            assert all(isinstance(entry.label, int) and entry.name for entry in entries)
            outcomes[True] += 1
        except ListError as error:
            assert "line " in str(error)
            outcomes[False] += 1
    assert min(outcomes.values()) > 10


@pytest.mark.parametrize("name", ["a\tb", "a\nb", "a\r", " a", "a ", ""])
def test_names_that_would_not_come_back_are_not_written(name):
    with pytest.raises(ListError, match="rename it"):
        format_entry(Entry(name, 0))


def test_landmarks_need_a_box():
    with pytest.raises(ListError, match="without a box"):
        format_entry(Entry("a", 0, False, None, np.zeros((5, 2))))
