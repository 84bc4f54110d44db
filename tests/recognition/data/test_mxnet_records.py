"""recordio_backend="mxnet": the same records as by our own reader, and as clear about damage."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from recognition.data.mxnet_records import MxnetRecordFile
from recognition.data.recordio import RecordFile
from recognition.data.sources import open_source
from tests.conftest import ROOT
from tests.faces import write_records
from tests.recognition.data.test_recordio import MAGIC, RECORDS, part, write

# mxnet's import takes threads away from torch: it happens in a process of its own
BEFORE = """
import multiprocessing, pickle, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from recognition.data.mxnet_records import MxnetRecordFile
from recognition.data.recordio import RecordError, RecordFile
from recognition.data.sources import open_source
root = Path(sys.argv[2])
"""


def by_mxnet(root, script: str) -> str:
    """What a script prints that reads through mxnet."""
    words = [sys.executable, "-c", BEFORE + script, str(ROOT), str(root)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    if "mxnet cannot be imported" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1][:200])
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_threads_forks_and_copies_read_the_same_records(tmp_path):
    """Each reader goes through the keys in an order of its own, so that a position that is shared would show."""
    rec, idx = write(tmp_path)
    lines = idx.read_text().splitlines()
    idx.write_text("\n".join(lines[key] for key in np.random.default_rng(0).permutation(len(lines))))  # as im2rec
    script = """
expected = pickle.loads((root / "expected").read_bytes())
file = MxnetRecordFile(root / "train.rec", root / "train.idx")
assert len(file) == len(expected) and list(file.keys) == list(range(len(expected)))

def right(reader, seed):
    order = np.random.default_rng(seed).permutation(np.tile(reader.keys, 20))
    return all(reader.read(key) == expected[key] for key in order)

def child(reader, seed, pipe):
    with ThreadPoolExecutor(2) as pool:
        pipe.send(all(pool.map(lambda n: right(reader, seed + n), range(2))) and right(reader, seed))

copy = pickle.loads(pickle.dumps(file))
assert right(file, 0) and right(copy, 1)
context, answers = multiprocessing.get_context("fork"), []
for number, reader in enumerate((file, copy, pickle.loads(pickle.dumps(copy)))):
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(reader, 10 * number, send))
    process.start()
    answers.append((process, receive))
with ThreadPoolExecutor(4) as pool:
    print(all(pool.map(lambda n: right((file, copy)[n % 2], 100 + n), range(8))))
for process, receive in answers:
    print(receive.recv() if receive.poll(60) else "no answer")
    process.join()
print([file.read(key, 5) == record[:5] for key, record in enumerate(expected)].count(False), np.int64(3) in file)
"""
    (tmp_path / "expected").write_bytes(pickle.dumps(RECORDS))
    assert by_mxnet(tmp_path, script).split() == ["True"] * 4 + ["0", "True"]


def test_a_source_is_the_same_through_mxnet(tmp_path):
    write_records(tmp_path / "faces", identities=4, photos=3)
    script = """
source = open_source(root / "faces", backend="mxnet")
print(source.digest(), source.num_classes, source.labels().tolist(), source.where(3))
(root / "samples").write_bytes(pickle.dumps([source[index] for index in range(len(source))]))
"""
    ours = open_source(tmp_path / "faces")
    facts = f"{ours.digest()} {ours.num_classes} {ours.labels().tolist()} {ours.where(3)}\n"
    assert by_mxnet(tmp_path, script) == facts
    assert pickle.loads((tmp_path / "samples").read_bytes()) == [ours[index] for index in range(len(ours))]


def test_damage_is_one_line_that_names_the_key(tmp_path):
    """mxnet ends the process where it meets a wrong magic word, in the middle of a record too."""
    good = [b"first", b"abcd" + MAGIC + b"efgh" + MAGIC + b"i", b"last record"]  # at bytes 0, 16 (28, 40), 52
    damage = {
        "no magic": (16, b"\0" * 4),
        "no magic in the middle": (28, b"\0" * 4),
        "no first part": (16, part(3, b"abcd")),
        "two first parts": (28, part(1, b"efgh")),
        "no last part": (40, part(2, b"i")),
        "beyond the file": (44, b"\xff\xff\xff\x7f"),
        "unknown flag": (16, part(5, b"abcd")),
    }
    for place, (at, instead) in enumerate(damage.values()):
        rec, _ = write(tmp_path, good, f"{place}")
        content = rec.read_bytes()
        rec.write_bytes(content[:at] + instead + content[at + len(instead) :])
    script = f"""
for place in range({len(damage)}):
    file = MxnetRecordFile(root / f"{{place}}.rec", root / f"{{place}}.idx")
    try:
        file.read(1)
        print("read")
    except RecordError as error:
        print(error)
    assert file.read(0) == b"first" and file.read(2) == b"last record"
for key in (-1, 3):
    try:
        file.read(key)
    except RecordError as error:
        print(error)
"""
    lines = by_mxnet(tmp_path, script).splitlines()
    assert len(lines) == len(damage) + 2, lines
    for place, line in enumerate(lines[: len(damage)]):
        assert f"{tmp_path}/{place}.rec" in line and ("key 1" in line or "byte" in line), line
    assert [line.split("has ")[1] for line in lines[len(damage) :]] == ["no key -1", "no key 3"]


@pytest.mark.parametrize("error", [ImportError("No module named 'mxnet'"), AttributeError("numpy has no bool")])
def test_without_mxnet(tmp_path, monkeypatch, error):
    write_records(tmp_path, identities=2, photos=2)
    real = __import__

    def absent(name, *arguments, **keywords):
        if name.partition(".")[0] == "mxnet":
            raise error
        return real(name, *arguments, **keywords)

    monkeypatch.setattr("builtins.__import__", absent)
    for action in (
        lambda: open_source(tmp_path, backend="mxnet"),
        lambda: MxnetRecordFile(tmp_path / "train.rec", tmp_path / "train.idx"),
    ):
        with pytest.raises(ValueError, match="recordio_backend='mxnet': mxnet cannot be imported") as caught:
            action()
        assert str(error) in str(caught.value) and "recordio_backend='native'" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert len(RecordFile(tmp_path / "train.rec", tmp_path / "train.idx")) == 7  # ours needs nothing of it


def test_an_unknown_backend(tmp_path):
    with pytest.raises(ValueError, match="recordio_backend='mx': expected one of native, mxnet"):
        open_source(tmp_path, backend="mx")
