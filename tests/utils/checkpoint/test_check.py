"""Whether a checkpoint is whole, and which one a run goes on from."""

import hashlib
import json
import os
import pickle
from pathlib import Path

import pytest

from tests import checkpoints
from tests.runs import Runs
from utils.checkpoint import FORMAT, Checkpoint, CheckpointError, check, every, files, newest_whole, read_state

FILES = ("manifest.json", "state.json", "shared.safetensors", "rank_0.safetensors")


@pytest.fixture
def path(tmp_path) -> Path:
    return checkpoints.write(tmp_path / "checkpoints", 5)[0]


def rewrite(path: Path, name: str, data: bytes) -> None:
    """Another content of a file, which the manifest says to be right."""
    (path / name).write_bytes(data)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path / "manifest.json").write_text(json.dumps(manifest))


def change_manifest(path: Path, change) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def is_refused(path: Path) -> bool:
    """By its check, one way or the other."""
    try:
        return check(path) != []
    except CheckpointError:
        return True


@pytest.mark.parametrize("length", ["nothing", "half", "all but a byte", "a byte more"])
@pytest.mark.parametrize("name", FILES)
def test_files_of_another_length(path, name, length):
    data = (path / name).read_bytes()
    ends = {"nothing": b"", "half": data[: len(data) // 2], "all but a byte": data[:-1], "a byte more": data + b"x"}
    (path / name).write_bytes(ends[length])
    for digests in (True, False):
        (line,) = check(path, digests=digests)
        expected = "cannot be read" if name == "manifest.json" else f"has {len(ends[length])} bytes, not {len(data)}"
        assert line == f"{name} {expected}"


@pytest.mark.parametrize("name", FILES[1:])
def test_flipped_bits(path, name):
    """A bit in every 7th byte, which bit differs."""
    data = (path / name).read_bytes()
    for at in range(0, len(data), 7):
        (path / name).write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        assert check(path) == [f"{name} has another SHA-256 than when it was written"]
        assert check(path, digests=False) == []
    (path / name).write_bytes(data)
    assert check(path) == []


def test_flipped_bits_of_the_manifest(path):
    """Nothing vouches for the manifest itself; each of its bits matters all the same. Every third is tried."""
    data = (path / "manifest.json").read_bytes()
    for bit in range(0, 8 * len(data), 3):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        (path / "manifest.json").write_bytes(flipped)
        assert is_refused(path), bytes(flipped)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("by", ["nothing", "a folder"])
def test_missing_files(path, name, by):
    (path / name).unlink()
    if by == "a folder":
        (path / name).mkdir()
    (line,) = check(path)
    assert line == f"{name} {'cannot be read' if (by, name) == ('a folder', 'manifest.json') else 'is missing'}"
    with pytest.raises(CheckpointError, match=name):
        Checkpoint(path)


def test_several_files_are_damaged(path):
    size = (path / "rank_0.safetensors").stat().st_size
    (path / "state.json").unlink()
    (path / "rank_0.safetensors").write_bytes(b"")
    assert check(path) == [f"rank_0.safetensors has 0 bytes, not {size}", "state.json is missing"]


def test_further_files_do_not_matter(path):
    for name in ("notes.txt", "rank_7.safetensors", ".nfs0001"):
        (path / name).write_text("x")
    assert check(path) == [] and len(Checkpoint(path).shards) == 1


def test_a_file_that_the_system_cannot_read_is_damage(path, monkeypatch):
    def fails(file):
        if file.name == "shared.safetensors":
            raise OSError(5, os.strerror(5))
        return digest(file)

    digest = files.file_digest
    monkeypatch.setattr(files, "file_digest", fails)
    assert check(path) == ["shared.safetensors cannot be read (Input/output error)"]


def test_ranks_share_the_work(path, monkeypatch):
    digest, read = files.file_digest, []
    monkeypatch.setattr(files, "file_digest", lambda file: read.append(file.name) or digest(file))
    for parts in (1, 2, 3, 5):
        read.clear()
        assert [check(path, part, parts) for part in range(parts)] == [[]] * parts
        assert sorted(read) == sorted(FILES[1:])
    for name in FILES[1:]:
        (path / name).write_bytes(b"")
    assert sorted(sum([check(path, part, 2) for part in range(2)], [])) == sorted(check(path))


@pytest.mark.parametrize(
    ("version", "says"), [(FORMAT + 1, "; a newer version of this project wrote it"), (FORMAT - 1, ""), ("x", "")]
)
def test_another_format_is_not_taken_for_damage(path, version, says):
    """What an older checkpoint can do must not be decided for a user who has a newer version's."""
    change_manifest(path, lambda manifest: manifest.update(format=version))
    message = f"checkpoint {path} has format {version}, this version reads {FORMAT}{says}"
    for read in (check, Checkpoint, lambda path: newest_whole([path], check)):
        with pytest.raises(CheckpointError) as caught:
            read(path)
        assert str(caught.value) == message


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "rank_0.safetensors/../../x", "model.pt", "rank_-1", ""])
def test_names_that_are_no_part_of_a_checkpoint(path, monkeypatch, name):
    (path.parent / "outside").write_text("x")
    change_manifest(path, lambda manifest: manifest["files"].update({name: {"size": 1, "sha256": "0" * 64}}))
    monkeypatch.setattr(files, "file_digest", None)  # nothing is read
    assert check(path) == [f"manifest.json names {name!r}, which is no part of a checkpoint"]
    with pytest.raises(CheckpointError, match="which is no part of a checkpoint"):
        Checkpoint(path)


@pytest.mark.parametrize("name", ["shared.safetensors", "rank_0.safetensors"])
def test_a_pickle_does_not_run_although_the_manifest_vouches_for_it(path, tmp_path, name):
    marker = tmp_path / "ran"
    rewrite(path, name, pickle.dumps(Runs(os.system, f"touch {marker}")))
    assert check(path) == [f"{name} is no safetensors file"]
    with pytest.raises(CheckpointError, match=f"{name} is no safetensors file"):
        Checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda m: m["files"].pop("shared.safetensors"), "manifest.json does not name state.json and shared"),
        (lambda m: m["files"].pop("rank_0.safetensors"), "does not name rank_0.safetensors, although 1 ranks saved"),
        (lambda m: m.pop("files"), "manifest.json cannot be read"),
        (lambda m: m.update(files=[]), "manifest.json cannot be read"),
        (lambda m: m["files"].update({"state.json": 5}), "manifest.json cannot be read"),
        (lambda m: m["files"]["state.json"].pop("sha256"), "manifest.json cannot be read"),
    ],
)
def test_a_manifest_that_lacks_something(path, change, line):
    change_manifest(path, change)
    assert line in check(path)[0]


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "[" * 100_000, "\udcff", '{"ranks": 0, "step": 1}', "{}"])
def test_a_state_that_cannot_be(path, text):
    rewrite(path, "state.json", text.encode(errors="surrogateescape"))
    for read in (read_state, Checkpoint):
        with pytest.raises(CheckpointError, match="state.json cannot be read"):
            read(path)


def test_a_state_of_more_ranks_than_there_are_files(path):
    rewrite(path, "state.json", json.dumps({"ranks": 10**15, "step": 5}).encode())
    assert check(path) == ["manifest.json does not name rank_1.safetensors, although 1000000000000000 ranks saved"]
    with pytest.raises(CheckpointError, match="rank_1.safetensors"):
        Checkpoint(path)


def test_the_newest_whole_one_and_a_line_for_each_newer_one(tmp_path):
    one, two, three, four = checkpoints.write(tmp_path, 1, 2, 3, 100_000_000)
    assert every(tmp_path) == [one, two, three, four] and four.name == "step_100000000"
    assert newest_whole(every(tmp_path), check) == (four, [])
    (four / "manifest.json").unlink()
    (three / "state.json").unlink()
    (three / "shared.safetensors").unlink()
    lines = [
        f"checkpoint {four} is damaged (manifest.json is missing)",
        f"checkpoint {three} is damaged (shared.safetensors is missing and 1 more)",
    ]
    assert newest_whole(every(tmp_path), check) == (two, lines)
    for path in (one, two):
        (path / "manifest.json").unlink()
    assert newest_whole(every(tmp_path), check)[0] is None and len(newest_whole(every(tmp_path), check)[1]) == 4
    assert newest_whole([], check) == (None, [])


def test_what_counts_as_a_checkpoint(tmp_path):
    checkpoints.write(tmp_path, 1)
    for name in ("step_1", "step_00000002.damaged", ".step_00000003.x", "step_0000000a", "steps"):
        (tmp_path / name).mkdir()
    (tmp_path / "step_00000009").write_text("a file")
    (tmp_path / "step_00000008").mkdir()  # damaged: it has no manifest
    assert [path.name for path in every(tmp_path)] == ["step_00000001", "step_00000008"]
    assert every(tmp_path / "absent") == []
