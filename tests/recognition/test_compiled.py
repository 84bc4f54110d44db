"""compile=True: a step calls torch.compile's network, all else the backbone itself."""

import functools

import pytest
import torch
from torch import nn

from recognition.backbones import get_backbone
from recognition.build import compiled
from tests import faces, gloo, ranks
from utils.checkpoint import Checkpoint, every


def test_weights_names_and_modes_are_the_backbones(monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))  # without a C++ compiler
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.Linear(4 * 36, 5)
    backbone, x = nn.Sequential(*layers), torch.randn(4, 3, 8, 8)
    names, network = list(backbone.state_dict()), compiled(backbone)
    network.train()
    h = network(x)
    h.square().mean().backward()
    assert list(backbone.state_dict()) == names
    assert all(p.grad is not None for p in backbone.parameters())
    torch.testing.assert_close(h, backbone(x))
    backbone.eval()
    torch.testing.assert_close(network(x), backbone(x))  # not as it was in training
    assert not torch.equal(network(x), h)


def test_without_a_compiler_the_message_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match=r"compile=True needs a C\+\+ compiler, and there is no .* compile=False"):
        compiled(get_backbone("tiny", 8))


def test_a_run_of_two_ranks_goes_on_without_it(tmp_path):
    """Its checkpoints are those of any other run. Diagnostics go backwards through a step's network twice, once it has
    been compiled for steps that do not.
    """
    faces.write_run(tmp_path)
    words = [str(tmp_path / "run.py"), "network=tiny", "embedding_size=8", "num_workers=0", "lr=0.02"]
    words += ["total_batch_size=12", f"rec={tmp_path}", f"output={tmp_path / 'out'}", "verbose=100"]
    words += ["diagnose_every=2", "loss=adaface", "views=('original','augmented')", "pool=proxy"]
    gloo.run(2, ranks.train_compiled, [*words, "max_step=3", "compile=True"])
    names = Checkpoint(every(tmp_path / "out" / "checkpoints")[-1]).shared.below("backbone.")
    assert sorted(names) == sorted(get_backbone("tiny", 8).state_dict())
    gloo.run(2, ranks.train, [*words, "max_step=5", "resume=True"])
    assert len(every(tmp_path / "out" / "checkpoints")) == 2
