import contextlib
import multiprocessing
import pickle
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from recognition.data.recordio import Header, RecordError, RecordFile, RecordWriter, pack, unpack

MAGIC = b"\x0a\x23\xd7\xce"
PAYLOADS = [bytes(range(length)) for length in range(9)]  # every remainder of padding, and nothing at all
PAYLOADS += [MAGIC, MAGIC * 3, MAGIC + b"abc", b"abcd" + MAGIC + b"efghi", b"abcd" + MAGIC + b"efgh" + MAGIC]
PAYLOADS += [b"ab" + MAGIC + b"cd", b"abc" + MAGIC + b"d" + MAGIC + MAGIC[:3], b"abcd" + MAGIC[:3], MAGIC[2:] * 9]
PAYLOADS += [np.random.default_rng(0).bytes(5001)]
HEADERS = [Header(0, 7.0, 1, 0), Header(0, np.float32(2.5), 2**64 - 1, 3), Header(0, np.int64(9), 2, 2**64 - 1)]
HEADERS += [Header(2, np.array([14, 25]), 5, 0), Header(1, [3.0], 6, 0), Header(0, np.arange(5.0), 7, 0)]
PACKED = [(header, payload) for header in HEADERS for payload in (b"", b"\xff\xd8image", MAGIC)]
RECORDS = PAYLOADS + [pack(header, payload) for header, payload in PACKED]


def write(folder, records=RECORDS, name="train"):
    rec, idx = folder / f"{name}.rec", folder / f"{name}.idx"
    with RecordWriter(rec, idx) as writer:
        for key, record in enumerate(records):
            writer.write(key, record)
    return rec, idx


def part(flag: int, payload: bytes) -> bytes:
    return MAGIC + struct.pack("<I", flag << 29 | len(payload)) + payload + b"\0" * (-len(payload) % 4)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record[:12].hex() or "empty")
def test_round_trip(tmp_path, record):
    rec, idx = write(tmp_path, [b"before", record, b"after"])
    file = RecordFile(rec, idx)
    assert [file.read(key) for key in (2, 1, 0)] == [b"after", record, b"before"]
    assert [file.read(1, limit) for limit in (1, 6, 30)] == [record[:1], record[:6], record[:30]]
    assert rec.stat().st_size % 4 == 0 and idx.read_text().startswith("0\t0\n1\t16\n2\t")
    assert len(file) == 3 and 2 in file and 3 not in file and -1 not in file


@pytest.mark.parametrize(
    "record, parts",
    [
        (b"", [(0, b"")]),
        (b"abcde", [(0, b"abcde")]),
        (MAGIC, [(1, b""), (3, b"")]),
        (MAGIC * 2 + b"x", [(1, b""), (2, b""), (3, b"x")]),
        (b"abcd" + MAGIC + b"efghi", [(1, b"abcd"), (3, b"efghi")]),
        (b"ab" + MAGIC + b"cd", [(0, b"ab" + MAGIC + b"cd")]),
    ],
)
def test_a_record_is_split_where_a_multiple_of_4_has_the_magic_word(tmp_path, record, parts):
    assert write(tmp_path, [record])[0].read_bytes() == b"".join(part(*one) for one in parts)


@pytest.mark.parametrize("header", HEADERS, ids=str)
def test_labels(header):
    back, payload = unpack(pack(header, b"image"))
    assert payload == b"image" and (back.id, back.id2) == (header.id, header.id2)
    assert back.flag == (len(header.label) if np.ndim(header.label) else 0)  # the label tells the flag, not the header
    assert np.ndim(back.label) == np.ndim(header.label) and np.array_equal(back.label, header.label)


@pytest.mark.parametrize("order", [[3, 1, 0, 2], [1, 2, 3, 0]], ids=["shuffled by im2rec", "header after the images"])
def test_an_index_in_any_order(tmp_path, order):
    rec, idx = write(tmp_path, [b"%d" % key for key in range(4)])
    lines = idx.read_text().splitlines()
    idx.write_bytes("\r\n".join(lines[key] for key in order).encode())
    file = RecordFile(rec, idx)
    assert list(file.keys) == [0, 1, 2, 3] and [file.read(key) for key in order] == [b"%d" % key for key in order]


def test_beyond_4_gib(tmp_path):
    rec, idx = write(tmp_path)
    start, content = (1 << 32) + 8, rec.read_bytes()
    with rec.open("wb") as sparse:  # a hole takes no space on the disk
        sparse.seek(start)
        sparse.write(content)
    lines = [line.split() for line in idx.read_text().splitlines()]
    idx.write_text("".join(f"{key}\t{int(offset) + start}\n" for key, offset in lines))
    file = RecordFile(rec, idx)
    assert [file.read(key) for key in range(len(RECORDS))] == RECORDS


def test_processes_threads_and_pickled_copies_read_the_same(tmp_path):
    file = RecordFile(*write(tmp_path))
    copy = pickle.loads(pickle.dumps(file))
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)

    def correct(records, seed):  # each reader in an order of its own, so that a shared position would show
        order = np.random.default_rng(seed).permutation(np.tile(records.keys, 20))
        return all(records.read(key) == RECORDS[key] for key in order)

    children = [context.Process(target=lambda n=n: send.send(correct((file, copy)[n], n))) for n in range(2)]
    for child in children:
        child.start()
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(correct, [file, copy] * 4, range(8)))
    for child in children:
        child.join()
        results.append(receive.poll() and receive.recv())
    assert results == [True] * 10


MXNET = """
import pickle, sys
import numpy as np
np.bool = np.bool_  # mxnet 1.9 still names it
try:
    from mxnet import recordio
except Exception as error:
    sys.exit(f"no mxnet: {error}")
mode, rec, idx, exchange = sys.argv[1:]
payloads, packed = pickle.load(open(exchange, "rb"))
file = recordio.MXIndexedRecordIO(idx, rec, mode)
if mode == "w":
    for key, record in enumerate(payloads + [recordio.pack(header, payload) for header, payload in packed]):
        file.write_idx(key, record)
else:
    records = [file.read_idx(key) for key in file.keys]
    unpacked = [recordio.unpack(record) for record in records[len(payloads):]]
    pickle.dump((records, [(tuple(header), payload) for header, payload in unpacked]), open(exchange, "wb"))
file.close()
"""


def mxnet(mode: str, rec, idx):
    """mxnet writes or reads, in a process of its own: its import takes threads away from torch."""
    exchange = rec.with_name("exchange")
    exchange.write_bytes(pickle.dumps((PAYLOADS, [(tuple(header), payload) for header, payload in PACKED])))
    command = [sys.executable, "-c", MXNET, mode, str(rec), str(idx), str(exchange)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "no mxnet: " in done.stderr:
        pytest.skip(done.stderr.strip()[-200:])
    assert done.returncode == 0, done.stderr
    return pickle.loads(exchange.read_bytes())


def test_mxnet_writes_the_same_bytes(tmp_path):
    rec, idx = tmp_path / "mxnet.rec", tmp_path / "mxnet.idx"
    mxnet("w", rec, idx)
    our_rec, our_idx = write(tmp_path)
    assert our_rec.read_bytes() == rec.read_bytes() and our_idx.read_bytes() == idx.read_bytes()
    assert [RecordFile(rec, idx).read(key) for key in range(len(RECORDS))] == RECORDS


def test_mxnet_reads_the_same_records(tmp_path):
    records, unpacked = mxnet("r", *write(tmp_path))
    assert records == RECORDS
    ours = [unpack(record) for record in RECORDS[len(PAYLOADS) :]]
    assert repr(unpacked) == repr([(tuple(header), payload) for header, payload in ours])


GOOD = [b"first", b"abcd" + MAGIC + b"efgh" + MAGIC + b"i", b"last record"]  # at bytes 0, 16 (28, 40), 52; ends at 72


def refused(rec, idx, key, culprit, words):
    """Opening the file or reading the key gives one line that names the file and what is wrong."""
    with pytest.raises(RecordError) as caught:
        RecordFile(rec, idx).read(key)
    message = str(caught.value)
    assert str({"rec": rec, "idx": idx}[culprit]) in message and words in message and "\n" not in message


def index(text):
    return lambda rec, idx: idx.write_text(text)


def splice(at, instead):
    return lambda rec, idx: rec.write_bytes(rec.read_bytes()[:at] + instead + rec.read_bytes()[at + len(instead) :])


@pytest.mark.parametrize(
    "damage, key, culprit, words",
    [
        (lambda rec, idx: rec.unlink(), 0, "rec", "No such file"),
        (lambda rec, idx: idx.unlink(), 0, "idx", "No such file"),
        (lambda rec, idx: (rec.unlink(), rec.mkdir()), 0, "rec", "Is a directory"),
        (lambda rec, idx: rec.write_bytes(b""), 0, "rec", "empty"),
        (lambda rec, idx: idx.write_bytes(b" \n"), 0, "idx", "empty"),
        (lambda rec, idx: rec.rename(idx), 0, "idx", "swapped"),
        (lambda rec, idx: None, -1, "idx", "has no key -1"),
        (lambda rec, idx: None, 3, "idx", "has no key 3"),
        (index("0\t0\t1\n16\n2\t52\n"), 0, "idx", "line 1"),  # as many numbers as three good lines have
        *((index(f"0\t0\n2\t{at}"), 0, "rec", "key 2 points to byte") for at in (65, 72, 1 << 40)),
        *((index(f"0\t0\n2\t{at}"), 0, "idx", "line 2: expected key<TAB>offset") for at in (2**63 - 1, 10**30)),
        (index("0\t0\n1\t24\n2\t40\n"), 1, "rec", "train.idx has key 1; is it the .idx of this .rec?"),  # another's
        (splice(16, b"\0" * 4), 1, "rec", "no record at byte 16"),
        (splice(28, b"\0" * 4), 1, "rec", "no record at byte 28"),
        (splice(16, part(3, b"abcd")), 1, "rec", "out of order"),  # no first part
        (splice(28, part(1, b"efgh")), 1, "rec", "out of order"),  # two first parts
        (splice(28, part(0, b"efgh")), 1, "rec", "out of order"),  # a whole record in between
        (splice(40, part(2, b"i")), 1, "rec", "out of order"),  # the next record comes before a last part
        (splice(16, part(5, b"abcd")), 1, "rec", "damaged"),
        (splice(44, struct.pack("<I", 3 << 29 | 25)), 1, "rec", "announces 25 bytes, the file ends after 24"),
    ],
)
def test_bad_files(tmp_path, damage, key, culprit, words):
    rec, idx = write(tmp_path, GOOD)
    damage(rec, idx)
    refused(rec, idx, key, culprit, words)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(
    "line", ["x", "1", "1\t16\t0", "1 16", "1\t1.6", "1\t-16", "-1\t16", "", "1\t", "\t16", "1\t16\x00", "1\t²"]
)
def test_a_bad_line_of_the_index_is_named(tmp_path, line, number):
    rec, idx = write(tmp_path, GOOD)
    lines = ["0\t0", "1\t16", "2\t52"]
    lines[number - 1] = line
    idx.write_text("\n".join([*lines, ""]))
    refused(rec, idx, 0, "idx", f"line {number}: expected key<TAB>offset")


@pytest.mark.parametrize("length", range(1, 71))
def test_a_cut_file(tmp_path, length):
    rec, idx = write(tmp_path, GOOD)
    rec.write_bytes(rec.read_bytes()[:length])
    refused(rec, idx, 2, "rec", "cut")
    idx.write_text("0\t0\n1\t16\n")  # the last record that is cut is the one in parts
    if 24 <= length < 49:
        refused(rec, idx, 1, "rec", "cut")


@pytest.mark.parametrize("record", [b"", bytes(23), pack(Header(2, [1, 2], 0, 0), b"")[:-1], b"\xff" * 24])
def test_too_short_for_its_header(record):
    with pytest.raises(RecordError, match=f"record of {len(record)} bytes"):
        unpack(record)


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("idx", ["train.idx", "absent/train.idx", "folder"])
def test_an_exception_leaves_what_was_there(tmp_path, earlier, idx):
    """The block raises, or the index cannot be opened, or not be put into its place."""
    if earlier:
        write(tmp_path, GOOD)
    (tmp_path / "folder").mkdir()
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises((KeyboardInterrupt, OSError)), RecordWriter(tmp_path / "train.rec", tmp_path / idx) as writer:
        writer.write(0, b"half")
        if idx == "train.idx":
            raise KeyboardInterrupt
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_record_too_long_for_the_format(tmp_path):
    with pytest.raises(RecordError, match="record 4 of 536870912 bytes"):
        with RecordWriter(tmp_path / "train.rec", tmp_path / "train.idx") as writer:
            writer.write(4, bytes(1 << 29))


def test_fuzz(tmp_path):
    rec, idx = write(tmp_path, [*GOOD, *PAYLOADS[9:-1]])
    originals, draw, outcomes = {rec: rec.read_bytes(), idx: idx.read_bytes()}, np.random.default_rng(0), []
    for case in range(300):
        for path, data in originals.items():
            changed = bytearray(data)
            for at in draw.integers(len(data), size=draw.integers(1, 6)):
                changed[at] = draw.integers(256)
            del changed[draw.integers(1, 4 * len(data)) :]
            path.write_bytes(changed if case % 3 == 2 or (case % 3 == 0) == (path == rec) else data)
        try:
            file = RecordFile(rec, idx)
        except RecordError as error:
            outcomes.append(str(error))
            continue
        for key in range(12):
            try:
                outcomes.append(file.read(key))
            except RecordError as error:
                outcomes.append(str(error))
    errors = [outcome for outcome in outcomes if type(outcome) is str]
    assert all((str(rec) in error or str(idx) in error) and "\n" not in error for error in errors)
    records = [outcome for outcome in outcomes if type(outcome) is bytes]
    assert len(records) + len(errors) == len(outcomes) and min(len(records), len(errors)) > 100
    for record in records:
        with contextlib.suppress(RecordError):
            unpack(record)
