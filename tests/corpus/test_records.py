"""Record files and indexes made by hand: chains, lengths and offsets that lead elsewhere."""

import struct
import time
import tracemalloc

import numpy as np
import pytest

from recognition.data.recordio import Header, RecordError, RecordFile, RecordWriter, pack
from recognition.data.sources import RecordSource

MAGIC = b"\x0a\x23\xd7\xce"
LONGEST = (1 << 29) - 1


def part(flag: int, payload: bytes, length: int | None = None) -> bytes:
    word = flag << 29 | (len(payload) if length is None else length)
    return MAGIC + struct.pack("<I", word) + payload + bytes(-len(payload) % 4)


def written(folder, rec: bytes, idx: str = "0\t0\n"):
    (folder / "train.rec").write_bytes(rec)
    (folder / "train.idx").write_text(idx)
    return folder / "train.rec", folder / "train.idx"


WHOLE = part(0, b"whole")
CHAIN = part(1, b"") + part(2, b"") * 50_000
CASES = {
    "length of 2^29 - 1": (part(0, b"x" * 99, LONGEST), "announces 536870911 bytes, the file ends after"),
    "first part of 2^29 - 1": (part(1, b"x" * 99, LONGEST) + part(3, b""), "announces 536870911 bytes"),
    "last part of 2^29 - 1": (part(1, b"abcd") + part(3, b"x", LONGEST), "announces 536870911 bytes"),
    "length that ends a byte late": (part(0, b"abcd", 5), "announces 5 bytes, the file ends after 4"),
    "chain that meets a record": (CHAIN + WHOLE, "out of order"),
    "chain that meets another": (CHAIN + part(1, b""), "out of order"),
    "chain to the end of the file": (CHAIN, "the file is cut"),
    "chain into nothing": (part(1, b"") + bytes(99), "no record at byte 8"),
    "chain with a length that skips a part": (part(1, b"abcd", 12) + part(3, b"x"), "the file is cut"),
    "only magic words": (MAGIC * 999, "damaged"),
    "zeros": (bytes(999), "no record at byte 0"),
}


@pytest.mark.parametrize("name", CASES)
def test_records(tmp_path, name):
    data, words = CASES[name]
    file = RecordFile(*written(tmp_path, data))
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(RecordError, match=words) as caught:
            file.read(0)
        assert time.perf_counter() - start < 5 and tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_long_chain_that_ends_well_is_its_record(tmp_path):
    file = RecordFile(*written(tmp_path, CHAIN + part(3, b"x")))
    assert file.read(0) == MAGIC * 50_001 + b"x"


def test_two_keys_of_one_record_and_one_that_skips_some(tmp_path):
    """No damage that can be seen: im2rec's lists may name an image twice."""
    file = RecordFile(*written(tmp_path, WHOLE + part(0, b"next"), "0\t0\n1\t0\n2\t16\n"))
    assert [file.read(key) for key in range(3)] == [b"whole", b"whole", b"next"]


@pytest.mark.parametrize("offset", [1, 2, 3, 4, 8, 12])
def test_offsets_into_a_record(tmp_path, offset):
    rec, idx = written(tmp_path, WHOLE + WHOLE, f"0\t{offset}\n")
    with pytest.raises(RecordError, match=f"byte {offset}"):
        RecordFile(rec, idx).read(0)


def test_an_offset_to_what_looks_like_a_record_inside_of_one(tmp_path):
    """The writer splits records only at multiples of 4: elsewhere an image may hold the bytes of a record."""
    rec, idx = tmp_path / "train.rec", tmp_path / "train.idx"
    with RecordWriter(rec, idx) as writer:
        writer.write(0, b"ab" + part(0, b"forged!!"))
    idx.write_text("0\t10\n")
    with pytest.raises(RecordError):
        RecordFile(rec, idx).read(0)


@pytest.mark.parametrize("key", [2**63, 10**30])
def test_a_key_beyond_64_bits(tmp_path, key):
    with pytest.raises(RecordError, match="line 2"):
        RecordFile(*written(tmp_path, WHOLE, f"0\t0\n{key}\t0\n"))


def test_an_index_of_many_digits(tmp_path):
    """Read in time that grows with its length, not with its square."""
    rec, idx = written(tmp_path, WHOLE, "0\t" + "9" * 2_000_000 + "\n")
    start = time.perf_counter()
    with pytest.raises(RecordError):
        RecordFile(rec, idx).read(0)
    assert time.perf_counter() - start < 5


def test_a_header_record_of_2_to_the_31_labels(tmp_path):
    header = struct.pack("<IfQQ", 1 << 31, 0.0, 0, 0)
    written(tmp_path, part(0, header + bytes(8)))
    with pytest.raises(RecordError, match="announces 2147483648 labels") as caught:
        RecordSource(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("label", [float("nan"), float("inf"), -float("inf"), 3e38, -1.0, 0.5, 2.0**24])
def test_labels_that_are_none_without_a_property_file(tmp_path, label):
    """Nothing states the number of classes there, so that a wild label would become it."""
    written(tmp_path, part(0, pack(Header(0, label, 0, 0), b"image")))
    with pytest.raises(RecordError, match=r"key 0 has label .* expected a class in \[0, 16777216\)"):
        RecordSource(tmp_path)


@pytest.mark.parametrize("first, end", [(2.0**62, 2.0**63), (2.0, 2.0**31), (3e38, 3e38), (-0.0, -0.0), (1e-40, 2.0)])
def test_header_ranges_far_beyond_the_index(tmp_path, first, end):
    image = part(0, pack(Header(0, 0.0, 1, 0), b"image"))
    header = part(0, pack(Header(2, np.array([first, end]), 0, 0), b""))
    written(tmp_path, header + image * 2, f"0\t0\n1\t{len(header)}\n2\t{len(header + image)}\n")
    tracemalloc.start()
    try:
        with pytest.raises(RecordError, match="header states") as caught:
            RecordSource(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20 and str(tmp_path) in str(caught.value)
    finally:
        tracemalloc.stop()
