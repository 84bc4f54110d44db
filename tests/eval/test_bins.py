import codecs
import os
import pickle
import re
import struct
import tracemalloc

import numpy as np
import pytest

from eval.bins import BinError, PairBin, load_bin

IMAGES = [bytes([255, 216, n]) + bytes(range(256)) + bytes([255, 217]) for n in range(6)]
FLAGS = [True, False, True]
PROTOCOLS = range(6)
reconstruct, scalar = np.array(0).__reduce__()[0], np.float32(0).__reduce__()[0]


class Reduced:
    """Pickles as a call of `reduction[0]` with `reduction[1]`, then BUILD with `reduction[2]`."""

    def __init__(self, *reduction):
        self.reduction = reduction

    def __reduce__(self):
        return self.reduction

    def __repr__(self):  # an id that is the same in every process that runs tests
        return re.sub(r" at 0x\w+", "", f"Reduced{self.reduction}")


@pytest.fixture
def write(tmp_path):
    def write(content, protocol=2):
        data = content if isinstance(content, bytes) else pickle.dumps(content, protocol)
        path = tmp_path / "set.bin"
        path.write_bytes(data)
        return path

    return write


def refused(path, words=""):
    """Loading gives one line that names the file, and takes little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(BinError) as caught:
            load_bin(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert str(path) in message and words in message and "\n" not in message and len(message) < 600 + len(str(path))
    assert peak < 16 << 20
    return message


def equals(pair_bin: PairBin, images=IMAGES, flags=FLAGS):
    assert pair_bin.jpegs == images and all(type(image) is bytes for image in pair_bin.jpegs)
    assert pair_bin.issame.dtype == bool and pair_bin.issame.tolist() == flags


# ----- honest files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_bytes_and_bools(write, protocol):
    pair_bin = load_bin(write((IMAGES, FLAGS), protocol))
    equals(pair_bin)
    assert pair_bin.name == "set"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (1, -1)])
def test_numpy_images_and_flags(write, protocol, shape):
    images = [np.frombuffer(image, np.uint8).reshape(shape) for image in IMAGES]
    equals(load_bin(write((images, [np.bool_(flag) for flag in FLAGS]), protocol)))
    equals(load_bin(write(([image.copy() for image in images], np.array(FLAGS)), protocol)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_integer_flags(write, dtype):
    equals(load_bin(write((IMAGES, np.array(FLAGS, dtype)))))
    equals(load_bin(write([tuple(IMAGES), [int(flag) for flag in FLAGS]])))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_image_in_many_pairs_is_stored_once(write, protocol):
    big = bytes(100_000)
    pair_bin = load_bin(write(([big] * 2000, [True] * 1000), protocol))
    assert len(pair_bin.jpegs) == 2000 and all(image == big for image in pair_bin.jpegs[:5])
    array = np.zeros(100_000, np.uint8)
    assert load_bin(write(([array] * 2000, [True] * 1000), protocol)).jpegs[-1] == big


def test_python2_binary(write):
    strings = b"".join(
        b"T" + struct.pack("<i", len(image)) + image + b"q" + bytes([n]) for n, image in enumerate(IMAGES)
    )
    equals(load_bin(write(b"\x80\x02](" + strings + b"e](\x88\x89\x88e\x86.")))


def test_python2_text(write):
    strings = b"".join(b"S" + repr(image)[1:].encode() + b"\np%d\na" % n for n, image in enumerate(IMAGES, 1))
    equals(load_bin(write(b"((lp0\n" + strings + b"(lp9\nI01\naI00\naI01\natp10\n.")))


def test_real_set(shared_data):
    pair_bin = load_bin(shared_data / "lfw.bin")
    assert pair_bin.name == "lfw" and len(pair_bin.jpegs) == 12_000 and pair_bin.issame.sum() == 3000
    assert pair_bin.issame.reshape(20, 300).all(axis=1).tolist() == [True, False] * 10
    assert {image[:2] for image in pair_bin.jpegs} == {b"\xff\xd8"}


# ----- code -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("place", ["whole", "image", "flag"])
def test_code_is_named_and_not_run(write, tmp_path, protocol, place):
    marker = tmp_path / "marker"
    payload = Reduced(os.system, (f"touch {marker}",))
    content = {"whole": payload, "image": (IMAGES[1:] + [payload], FLAGS), "flag": (IMAGES, FLAGS[1:] + [payload])}[
        place
    ]
    path = write(content, protocol)
    refused(path, f"carries code ({os.system.__module__}.system)")
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists()  # the payload is real


@pytest.mark.parametrize(
    "function, arguments",
    [
        (getattr, ("", "join")),
        (np.load, ("x.npy",)),
        (np.fromfile, ("x",)),
        (np.zeros, (10**12,)),
        (pickle.loads, (b"N.",)),
        (codecs.decode, (b"x", "latin1")),
    ],
)
def test_other_globals_are_refused(write, function, arguments):
    refused(write(([Reduced(function, arguments)] * 2, [True])), "carries code (")


@pytest.mark.parametrize(
    "data",
    [
        b"(S'touch x'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch x'\no.",  # OBJ
        b"\x80\x02cnumpy\ndtype\n)\x81.",  # NEWOBJ
        b"\x80\x04cnumpy\ndtype\n)}\x92.",  # NEWOBJ_EX
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x02\x83\x01\x00.",  # EXT2
        b"\x80\x02\x84\x01\x00\x00\x00.",  # EXT4
        b"Pname\n.",  # PERSID
        b"NQ.",  # BINPERSID
        b"\x80\x05\x97.",  # NEXT_BUFFER
        b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.",  # dotted name
        b"\x80\x04\x8c\x05numpy\x8c\x02\x1b[\x93.",  # terminal escape in a name
    ],
)
def test_ways_to_objects(write, data):
    message = refused(write(data))
    assert message.isprintable()


@pytest.mark.parametrize(
    "what",
    [
        Reduced(codecs.encode, ("abc", "rot13")),
        Reduced(codecs.encode, ("abc", "zlib_codec")),
        Reduced(codecs.encode, (b"abc", "latin1")),
        Reduced(codecs.encode, (["abc"], "latin1")),
        Reduced(codecs.encode, ("abc",)),
        Reduced(codecs.encode, ("\u20ac", "latin1")),
        Reduced(codecs.encode, ("abc", "latin1"), {"x": 1}),
        Reduced(reconstruct, (np.ndarray, (10**12,), b"b")),
        Reduced(reconstruct, (np.ndarray, (0,), b"b"), (1, (10**12,), np.dtype("u1"), False, b"abc")),
        Reduced(reconstruct, (np.ndarray, (0,), b"b"), (1, (-(10**12),), np.dtype("u1"), False, b"abc")),
        Reduced(reconstruct, (np.ndarray, (0,), b"b"), (1, (3,), np.dtype("u1"), False, [1, 2, 3])),
        Reduced(reconstruct, (np.ndarray, (0,), b"b"), (1, 3, "u1", False, b"abc")),
        Reduced(reconstruct, (np.ndarray, (0,), b"b"), {"data": 1}),
        Reduced(np.ndarray, ((10**12,),)),
        Reduced(scalar, (np.dtype("O"), b"12345678")),
        Reduced(scalar, (np.dtype("i8"), b"1")),
        np.array([b"abc", None], dtype=object),
        np.array([(1, 2)], dtype=[("a", "i4"), ("b", "O")]),
        np.array(["abc"]),
        np.zeros(8),
        np.zeros(8, ">i8"),
        np.zeros((4, 4, 3), np.uint8),
        bytearray(b"abc"),
        "text",
        7,
        None,
        b"",
        [b"abc"],
    ],
    ids=str,
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_what_an_image_cannot_be(write, what, protocol):
    refused(write((IMAGES[:5] + [what], FLAGS), protocol), "set.bin")


def test_build_on_a_global_changes_nothing(write):
    for name in (b"c_codecs\nencode\n", b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\nscalar\n"):
        refused(write(name + b"(lb."))
        refused(write(b"\x80\x02" + name + b"X\x01\x00\x00\x00aX\x01\x00\x00\x00b\x86b."))
    equals(load_bin(write((IMAGES, FLAGS))))


# ----- bombs ----------------------------------------------------------------------------------------------------------


def memo_encode_bomb(times: int) -> bytes:
    """One text of 1 MB, encoded again and again."""
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20)
    again = (b"h\x00h\x01h\x02\x86R") * times
    return b"\x80\x02](c_codecs\nencode\nq\x00" + text + b"q\x01X\x06\x00\x00\x00latin1q\x02" + again + b"e."


@pytest.mark.parametrize(
    "data, words",
    [
        (b"\x80\x02]r\xff\xff\xff\xff.", "memo slot 4294967295"),
        (b"]p4294967295\n.", "memo slot 4294967295"),
        (b"]p99999999999999999999\n.", "digits"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"abc.", "is cut"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"abc.", "is cut"),
        (b"\x80\x04\x8d" + struct.pack("<Q", (1 << 64) - 1) + b"abc.", "is cut"),
        (b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"].", ""),
        (b"\x80\x02B" + struct.pack("<I", (1 << 32) - 1) + b"abc.", "is cut"),
        (b"\x80\x02T" + struct.pack("<i", -1) + b"abc.", "is cut"),
        (b"I" + b"9" * 100_000 + b"\n.", "100000 digits"),
        (b"L" + b"9" * 100_000 + b"L\n.", "no pickle opcode"),
        (b"(" * 100_000 + b".", ""),
        (b"](" * 50_000 + b"e" * 50_000 + b".", "two lists"),
        (memo_encode_bomb(1000), "unfolds to more bytes than the file has"),
    ],
    ids=lambda value: str(value[:12]),
)
def test_bombs(write, data, words):
    refused(write(data), words)


# ----- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"not a pickle", b"\xff\xd8\xff\xe0 a jpeg", b"PK\x03\x04zip", IMAGES[0] * 9]
)
def test_no_pickle(write, data):
    refused(write(data), "expected a pickle of")


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_truncated(write, protocol):
    data = pickle.dumps((IMAGES, FLAGS), protocol)
    for length in range(0, len(data), 37):
        refused(write(data[:length]), "expected a pickle of")
    refused(write(data[:-1]))


@pytest.mark.parametrize(
    "content, words",
    [
        ((IMAGES, FLAGS[:2]), "6 images and 2 flags"),
        ((IMAGES[:5], FLAGS), "5 images and 3 flags"),
        (([], []), "0 images"),
        ((IMAGES, [True, False, 2]), "flags"),
        ((IMAGES, [True, False, None]), "flags"),
        ((IMAGES, np.array([0, 1, 2])), "flags"),
        ((IMAGES, np.array([0, 1, 0], ">i8")), "byte order"),
        ((IMAGES, np.array([0.0, 1.0, 0.0])), "dtype"),
        ((IMAGES, 3), "flags"),
        ((IMAGES,), "two lists"),
        (IMAGES, "two lists"),
        ((FLAGS, IMAGES), "flags"),
        (b"abc", "two lists"),
        (None, "two lists"),
        ({"images": IMAGES}, "no pickle opcode"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_wrong_structure(write, content, words):
    refused(write(content if content != b"abc" else pickle.dumps(content)), words)


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "absent.bin", tmp_path):
        with pytest.raises(BinError, match="cannot be read"):
            load_bin(path)


def mutated(data: bytes, draw: np.random.Generator) -> bytes:
    """One to three bytes changed, a stretch removed, doubled or moved in from elsewhere."""
    kind, at, length = draw.integers(4), int(draw.integers(len(data))), int(draw.integers(1, 20))
    other = int(draw.integers(len(data)))
    if kind == 0:
        changed = bytearray(data)
        for _ in range(draw.integers(1, 4)):
            changed[draw.integers(len(data))] = draw.integers(256)
        return bytes(changed)
    if kind == 1:
        return data[:at] + data[at + length :]
    if kind == 2:
        return data[:at] + data[at : at + length] + data[at:]
    return data[:at] + data[other : other + length] + data[at + length :]


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("kind", ["bytes", "numpy"])
def test_mutations_are_refused_or_well_formed(write, protocol, kind):
    images = [image[:6] for image in IMAGES]
    if kind == "numpy":
        images = [np.frombuffer(image, np.uint8).copy() for image in images]
    data = pickle.dumps((images, [np.bool_(flag) for flag in FLAGS] if kind == "numpy" else FLAGS), protocol)
    draw, outcomes = np.random.default_rng(protocol), {"loaded": 0, "refused": 0}
    for _ in range(150):
        path = write(mutated(data, draw))
        try:
            pair_bin = load_bin(path)
        except BinError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            outcomes["refused"] += 1
        else:
            assert all(type(image) is bytes and image for image in pair_bin.jpegs)
            assert pair_bin.issame.dtype == bool and len(pair_bin.jpegs) == 2 * len(pair_bin.issame) > 0
            outcomes["loaded"] += 1
    assert min(outcomes.values()) > 0
