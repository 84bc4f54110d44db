"""Tensors in safetensors files, and state dicts into modules."""

import os

import pytest
import torch
from torch import nn

from utils.checkpoint import CheckpointError, TensorFile, load_module, write_tensors

TENSORS = {
    "a": torch.arange(12.0).view(4, 3), "b.x": torch.tensor(3), "b.y": torch.ones(2, dtype=torch.bfloat16),
    "empty": torch.empty(0, 3), "mask": torch.tensor([True, False]),
}  # fmt: skip


@pytest.fixture
def file(tmp_path):
    write_tensors(tmp_path / "t.safetensors", TENSORS, {"who": "me"})
    return TensorFile(tmp_path / "t.safetensors")


def test_names_shapes_and_values(file):
    assert file.names() == sorted(TENSORS) and "a" in file and "c" not in file and file.metadata == {"who": "me"}
    for name, tensor in TENSORS.items():
        assert file.shape(name) == tuple(tensor.shape)
        assert torch.equal(file[name], tensor) and file[name].dtype == tensor.dtype
    below = file.below("b.")
    assert below.keys() == {"x", "y"} and below["x"] == 3


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (1, 3), (3, 4), (2, 2), (0, 0)])
def test_rows(file, start, stop):
    assert torch.equal(file.rows("a", start, stop), TENSORS["a"][start:stop])
    assert file.rows("empty", 0, 0).shape == (0, 3)


def test_a_tensor_that_is_missing_is_named(file):
    for read in (file.__getitem__, file.shape, lambda name: file.rows(name, 0, 1)):
        with pytest.raises(CheckpointError, match=r"t.safetensors has no tensor c$"):
            read("c")
    assert file.below("c.") == {}


def test_what_is_no_safetensors_file(tmp_path, file):
    data = file.path.read_bytes()
    for content in (None, b"", b"x" * 100, data[:-1], data[:20], b"\xff" * 8 + data[8:]):
        path = tmp_path / "other.safetensors"
        path.unlink(missing_ok=True) if content is None else path.write_bytes(content)
        with pytest.raises(CheckpointError, match="other.safetensors is no safetensors file"):
            TensorFile(path)


def test_files_have_the_rights_that_others_have(tmp_path):
    before = os.umask(0o027)
    try:
        write_tensors(tmp_path / "t.safetensors", TENSORS)
    finally:
        os.umask(before)
    assert (tmp_path / "t.safetensors").stat().st_mode & 0o777 == 0o640
    assert TensorFile(tmp_path / "t.safetensors").metadata == {}


def test_a_folder_that_is_missing_is_told_as_such(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        write_tensors(tmp_path / "absent" / "t.safetensors", TENSORS)
    monkeypatch.setattr("pathlib.Path.touch", lambda path: path.parent.rmdir())  # it goes when writing begins
    monkeypatch.setattr("pathlib.Path.stat", lambda path: os.stat("/"))
    (tmp_path / "gone").mkdir()
    with pytest.raises(FileNotFoundError):
        write_tensors(tmp_path / "gone" / "t.safetensors", TENSORS)


@pytest.mark.parametrize("assign", [False, True])
def test_a_state_dict_must_be_this_networks(assign):
    layer, other = nn.Linear(3, 2), nn.Linear(3, 2)
    load_module(other, layer.state_dict(), "model.pt", assign)
    assert torch.equal(other.weight, layer.weight)
    assert (other.weight.data_ptr() == layer.weight.data_ptr()) == assign
    for network, message in (
        (nn.Linear(3, 4), "weight has shape (2, 3), expected (4, 3)"),
        (nn.Sequential(nn.Linear(3, 2)), "2 tensors are missing ['0.bias', '0.weight'], 2 are unknown"),
    ):
        with pytest.raises(CheckpointError) as caught:
            load_module(network, layer.state_dict(), "model.pt", assign)
        assert message in str(caught.value) and "of another network" in str(caught.value)
