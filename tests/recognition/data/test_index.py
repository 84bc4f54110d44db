"""The index of a record file, against a parse of its lines in plain Python."""

import tracemalloc

import numpy as np
import pytest

from recognition.data import index
from recognition.data.index import RecordError, read_index
from recognition.data.recordio import Header, RecordFile, RecordWriter, pack

IMAGES, IDENTITIES = 90_000, 10_000


def parsed(text: bytes) -> list[tuple[int, int]]:
    """(key, offset) of each line, by key; equal keys stay in the file's order."""
    pairs = [tuple(map(int, line.split(b"\t"))) for line in text.splitlines()]
    return sorted(pairs, key=lambda pair: pair[0])


def text_of(keys, offsets, newline: str = "\n", end: str = "\n") -> bytes:
    return (newline.join(f"{key}\t{offset}" for key, offset in zip(keys, offsets, strict=True)) + end).encode()


def assert_read(path, text: bytes, is_range: bool):
    path.write_bytes(text)
    keys, offsets = read_index(path)
    assert list(zip(keys, offsets.tolist(), strict=True)) == parsed(text)
    assert isinstance(keys, range) == is_range and offsets.dtype == np.int64
    assert is_range or keys.dtype == np.int64


@pytest.mark.parametrize(
    "order, newline, end",
    [
        ("insightface", "\n", "\n"),
        ("insightface", "\r\n", ""),
        ("from 0", "\n", ""),
        ("from 1", "\n", "\n"),
        ("shuffled", "\r\n", "\r\n"),
        ("gaps", "\n", "\n"),
        ("from 5", "\n", ""),
        ("twice", "\r\n", ""),
        ("copies", "\n", "\n"),
    ],
)
def test_a_large_index_in_any_order(tmp_path, order, newline, end):
    draw = np.random.default_rng(0)
    count = IMAGES + IDENTITIES
    keys = np.arange(count)
    if order == "insightface":  # face2rec2.py: the images, then record 0, then the identities
        keys = np.concatenate([np.arange(1, IMAGES + 1), [0], np.arange(IMAGES + 1, count)])
    elif order == "from 1":
        keys = keys + 1
    elif order == "shuffled":
        keys = draw.permutation(count)
    elif order == "gaps":
        keys = draw.permutation(3 * count)[:count]
    elif order == "from 5":
        keys = keys + 5
    elif order == "twice":  # one key twice instead of another
        keys[count // 2] = 7
    elif order == "copies":
        keys = draw.integers(0, count // 3, count)
    offsets = 4 * draw.integers(0, 1 << 45, count)
    is_range = order in ("insightface", "from 0", "from 1", "shuffled")
    assert_read(tmp_path / "train.idx", text_of(keys.tolist(), offsets.tolist(), newline, end), is_range)


@pytest.mark.parametrize("chunk", [40, 41, 47, 64, 97])
def test_lines_that_straddle_the_border_of_a_chunk(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(index, "_CHUNK", chunk)
    draw = np.random.default_rng(chunk)
    for case in range(80):
        count = int(draw.integers(1, 40))
        keys = draw.permutation(count) + case % 2 if case % 3 else draw.integers(0, 10 ** draw.integers(1, 18), count)
        offsets = draw.integers(0, 10 ** draw.integers(1, 18, count))
        newline = ("\n", "\r\n")[int(draw.integers(2))]
        text = text_of(keys.tolist(), offsets.tolist(), newline, newline if draw.integers(2) else "")
        is_range = sorted(keys.tolist()) in (list(range(count)), list(range(1, count + 1)))
        assert_read(tmp_path / "train.idx", text, is_range)


@pytest.mark.parametrize("line", [1, 31, 1000])
@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("bad", ["7", "7\t", "7 8", "7\t-8", "7\t8\t9", "7\t" + "9" * 19, "0" * 25 + "9" * 25 + "\t8"])
def test_a_bad_line_in_a_later_chunk_has_its_number(tmp_path, monkeypatch, line, end, bad):
    monkeypatch.setattr(index, "_CHUNK", 128)
    lines = [f"{key}\t{4 * key}" for key in range(1000)]
    lines[line - 1] = bad
    (tmp_path / "train.idx").write_text("\n".join(lines) + end)
    with pytest.raises(RecordError) as caught:
        read_index(tmp_path / "train.idx")
    assert str(caught.value) == f"{tmp_path / 'train.idx'}: line {line}: expected key<TAB>offset"


def test_numbers_may_begin_with_zeros(tmp_path):
    """im2rec's lists do not, but other tools pad: they are the same numbers."""
    (tmp_path / "train.idx").write_text(f"00\t000\n{'1'.zfill(40)}\t{'16'.zfill(40)}\n")
    keys, offsets = read_index(tmp_path / "train.idx")
    assert keys == range(2) and offsets.tolist() == [0, 16]


@pytest.mark.parametrize("text", ["\n\n", " ", "\t\n", "\r\n" * 99])
def test_an_index_of_nothing_but_space_is_empty(tmp_path, monkeypatch, text):
    monkeypatch.setattr(index, "_CHUNK", 16)
    (tmp_path / "train.idx").write_bytes(text.encode())
    with pytest.raises(RecordError, match="train.idx is empty"):
        read_index(tmp_path / "train.idx")


def test_what_is_no_text_is_refused_without_reading_on(tmp_path, monkeypatch):
    """A file without line ends: another format, as large as it may be."""
    monkeypatch.setattr(index, "_CHUNK", 1 << 16)
    (tmp_path / "train.idx").write_bytes(b"\xff" * (1 << 22))
    tracemalloc.start()
    try:
        with pytest.raises(RecordError, match="line 1: expected key<TAB>offset"):
            read_index(tmp_path / "train.idx")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("order, limit", [("ascending", 10), ("shuffled", 10), ("gap", 64)])
def test_memory_per_entry(tmp_path, monkeypatch, order, limit):
    """Eight bytes an entry where the keys have no gap: ten million faces are 80 MB."""
    monkeypatch.setattr(index, "_CHUNK", 1 << 15)  # what parsing takes is small then, and the entries are what counts
    count = 400_000
    keys = np.arange(count) if order == "ascending" else np.random.default_rng(0).permutation(count)
    keys = keys + 5 if order == "gap" else keys
    numbers = np.stack([keys, np.arange(0, 4 * count, 4)], 1).tolist()
    (tmp_path / "train.idx").write_text("".join(f"{key}\t{offset}\n" for key, offset in numbers))
    del numbers
    tracemalloc.start()
    try:
        keys, offsets = read_index(tmp_path / "train.idx")
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(keys) == len(offsets) == count
    assert peak < limit * count and kept < (17 if order == "gap" else 9) * count


@pytest.mark.parametrize("keys", [[0, 1, 2, 3], [3, 1, 7, 9]], ids=["range", "gaps"])
def test_numpys_keys_find_their_records(tmp_path, keys):
    rec, idx = tmp_path / "train.rec", tmp_path / "train.idx"
    with RecordWriter(rec, idx) as writer:
        for key in keys:
            writer.write(key, pack(Header(0, key, key, 0), b"%d" % key))
    file = RecordFile(rec, idx)
    for key in np.array(keys):
        assert file.read(key) == file.read(int(key)) and key in file
    assert np.int64(100) not in file
    file.keys = range(10**12)  # a search for numpy's number, step by step, would not end
    assert np.int64(10**12) not in file
