"""Verification sets made by hand, opcode by opcode: what the unpickler could be led to."""

import struct
import tracemalloc

import pytest

from eval.bins import BinError, load_bin

FLAGS = b"](\x88\x89e"
DTYPE = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"


def array(shape: bytes, raw: bytes) -> bytes:
    return RECONSTRUCT + b"(K\x01" + shape + DTYPE + b"\x89" + raw + b"tb"


CASES = {
    "a memo slot that was never set": b"](h\x07e.",
    "a far memo slot that was never set": b"](j\xff\xff\xff\xffe.",
    "a negative memo slot": b"]p-1\n.",
    "a protocol that does not exist": b"\x80\xff](e.",
    "a stop on an empty stack": b"\x80\x04.",
    "a memo of nothing": b"\x80\x04\x94.",
    "marks that are never used": b"\x80\x02" + b"(" * 100_000 + b".",
    "a list that holds itself": b"\x80\x02]q\x00(h\x00h\x00e](\x88e\x86.",
    "a tuple of a list that holds it": b"\x80\x02]q\x00h\x00\x85q\x01a(h\x00h\x01t.",
    "200,000 tuples in each other": b"\x80\x02)" + b"\x85" * 200_000 + b".",
    "tuples that double thirty times": b"\x80\x02)q\x00" + b"".join(b"h%ch%c\x86q%c" % (n, n, n + 1)
                                                                   for n in range(30)) + b".",
    "appending to a number": b"\x80\x02K\x01(K\x02e.",
    "appending to a function": b"\x80\x02c_codecs\nencode\n(K\x02e.",
    "appending to an array": b"\x80\x02" + DTYPE + b"K\x02a.",
    "calling a number": b"\x80\x02K\x01)R.",
    "calling with no tuple": b"\x80\x02c_codecs\nencode\nK\x01R.",
    "building a number": b"\x80\x02K\x01K\x01b.",
    "a global named by numbers": b"\x80\x04K\x01K\x02\x93.",
    "a frame in a frame": b"\x80\x04\x95" + struct.pack("<Q", 9) + b"\x95" + struct.pack("<Q", 99) + b"].",
    "a frame of 2^64 - 1": b"\x80\x04\x95" + struct.pack("<Q", 2**64 - 1) + b"].",
    "a string without quotes": b"(Sabc\n.",
    "a string with half an escape": b"(S'\\x4'\n.",
    "text of half a surrogate": b"\x80\x02X\x03\x00\x00\x00\xed\xa0.",
    "an array of 2^2000 elements": b"\x80\x02](" + array(b"\x8a\xfa" + b"\x7f" * 250 + b"\x85", b"U\x01a") + b"e.",
    "an array of elements in 2^1000 rows": b"\x80\x02](" + array(b"\x8a\x7d" + b"\x7f" * 125 + b"K\x01\x86", b"U\x01a")
                                           + b"e.",
    "an array of less than none": b"\x80\x02](" + array(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86", b"U\x01a") + b"e.",
    "empty arrays for images": b"\x80\x02](" + array(b"K\x00\x85", b"U\x00") * 4 + b"e" + FLAGS + b"\x86.",
    "arrays never filled for images": b"\x80\x02](" + RECONSTRUCT * 4 + b"e" + FLAGS + b"\x86.",
    "flags of 255 bytes": b"\x80\x02](U\x01aU\x01be](\x8a\xff" + b"\x7f" * 255 + b"e\x86.",
    "flags that are minus zero and minus one": b"\x80\x02](U\x01aU\x01be](J\xff\xff\xff\xffe\x86.",
    "a dtype whose state is an array": b"\x80\x02" + DTYPE + array(b"K\x01\x85", b"U\x01a") + b"b.",
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_refused(tmp_path, name):
    path = tmp_path / "set.bin"
    path.write_bytes(CASES[name])
    tracemalloc.start()
    try:
        with pytest.raises(BinError, match="is no verification set") as caught:
            load_bin(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and "Memory" not in message and len(message) < 800


def test_the_array_that_they_forge_is_a_good_one_when_it_is_whole(tmp_path):
    images = b"](" + array(b"K\x03\x85", b"U\x03abc") * 4 + b"e"
    (tmp_path / "set.bin").write_bytes(b"\x80\x02" + images + FLAGS + b"\x86.")
    pair_bin = load_bin(tmp_path / "set.bin")
    assert pair_bin.jpegs == [b"abc"] * 4 and pair_bin.issame.tolist() == [True, False]
