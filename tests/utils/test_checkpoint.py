import json

import pytest
import torch
from torch import nn

from utils import checkpoint
from utils.checkpoint import CheckpointError


def save(folder, step, keep=2, **tensors):
    checkpoint.save(folder, step, tensors, {}, {"note": "n"}, rank=0, world_size=1, barrier=lambda: None, keep=keep)


def test_what_is_saved_comes_back(tmp_path):
    save(tmp_path, 7, a=torch.arange(6.0).view(2, 3).t(), b=torch.tensor(3))
    (path,) = checkpoint.every(tmp_path)
    assert checkpoint.read_state(path) == {"format": checkpoint.FORMAT, "ranks": 1, "step": 7, "note": "n"}
    tensors = checkpoint.read_tensors(path / "shared.safetensors")
    assert torch.equal(tensors["a"], torch.arange(6.0).view(2, 3).t()) and tensors["b"] == 3


def test_the_newest_are_kept_and_unfinished_ones_not_counted(tmp_path):
    for step in (5, 10, 100, 1000):
        save(tmp_path, step, a=torch.zeros(1))
    (tmp_path / "step_00002000").mkdir()  # a folder without state.json is no checkpoint
    assert [path.name for path in checkpoint.every(tmp_path)] == ["step_00000100", "step_00001000"]


def test_a_failed_save_leaves_the_old_one(tmp_path):
    save(tmp_path, 5, a=torch.zeros(1))
    with pytest.raises((AttributeError, TypeError)):
        save(tmp_path, 6, a="not a tensor")
    assert [path.name for path in checkpoint.every(tmp_path)] == ["step_00000005"]


def test_damage_is_named(tmp_path):
    save(tmp_path, 5, a=torch.zeros(1000))
    (path,) = checkpoint.every(tmp_path)
    file = path / "shared.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="shared.safetensors cannot be read"):
        checkpoint.read_tensors(file)
    with pytest.raises(CheckpointError, match="rank_3.safetensors cannot be read"):
        checkpoint.read_tensors(path / "rank_3.safetensors")
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(state | {"format": 99}))
    with pytest.raises(CheckpointError, match=f"has format 99, this version reads {checkpoint.FORMAT}"):
        checkpoint.read_state(path)
    (path / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match="state.json cannot be read"):
        checkpoint.read_state(path)


@pytest.mark.parametrize("assign", [False, True])
def test_a_state_dict_must_be_this_networks(assign):
    layer, other = nn.Linear(3, 2), nn.Linear(3, 2)
    checkpoint.load_module(other, layer.state_dict(), "model.pt", assign)
    assert torch.equal(other.weight, layer.weight)
    assert (other.weight.data_ptr() == layer.weight.data_ptr()) == assign
    for network, message in (
        (nn.Linear(3, 4), "weight has shape (2, 3), expected (4, 3)"),
        (nn.Sequential(nn.Linear(3, 2)), "2 tensors are missing ['0.bias', '0.weight'], 2 are unknown"),
    ):
        with pytest.raises(CheckpointError) as caught:
            checkpoint.load_module(network, layer.state_dict(), "model.pt", assign)
        assert message in str(caught.value) and "of another network" in str(caught.value)
