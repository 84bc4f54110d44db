"""The copies of a save: tensors that come in pieces, and memory that is used again."""

import torch

from utils import checkpoint
from utils.checkpoint import Saver


def saved(saver: Saver, step: int, *pieces: torch.Tensor) -> torch.Tensor:
    """What a checkpoint has of a tensor that came in these pieces."""
    saver.save(step, {}, {"x": list(pieces)}, {})
    saver.finish()
    return checkpoint.Checkpoint(checkpoint.every(saver.folder)[-1]).shards[0]["x"]


def test_pieces_are_joined(tmp_path):
    x = torch.arange(20.0).view(5, 4)
    assert torch.equal(saved(Saver(tmp_path, keep=1), 1, x[3:], x[:3]), torch.cat([x[3:], x[:3]]))
    assert torch.equal(saved(Saver(tmp_path, keep=1), 2, x[:0], x[:0]), x[:0])
    assert torch.equal(saved(Saver(tmp_path, keep=1), 3, x.t()), x.t())


def test_fewer_rows_take_the_memory_of_more(tmp_path):
    saver, x = Saver(tmp_path, keep=1), torch.arange(20.0).view(5, 4)
    saved(saver, 1, x)
    (room,) = saver._copies.values()
    assert torch.equal(saved(saver, 2, x[1:3], x[:1]), torch.cat([x[1:3], x[:1]]))
    assert saver._copies["own/x"] is room
    assert torch.equal(saved(saver, 3, x, x), torch.cat([x, x]))
