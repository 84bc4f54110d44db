"""State dicts as other programs write them, and files that want to run something."""

import enum
import os
import pathlib
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from recognition.models import read_tensors
from tests.runs import Runs

TENSORS = {"fc.weight": torch.arange(6.0).view(2, 3).t(), "fc.bias": torch.tensor([1.0, 2, 3]), "n": torch.tensor(7)}


def assert_read(path):
    tensors, facts = read_tensors(path)
    assert tensors.keys() == TENSORS.keys() and set(facts) == {None}
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor) and tensors[name].dtype == tensor.dtype


def prefixed(prefix: str) -> dict:
    return {prefix + name: tensor for name, tensor in TENSORS.items()}


@pytest.mark.parametrize(
    "state",
    [
        TENSORS,
        prefixed("module."),
        prefixed("net."),
        prefixed("model.net."),
        {"state_dict": {**prefixed("model."), "head.kernel": torch.zeros(4, 5)}, "epoch": 3},
        {"state_dict_backbone": TENSORS, "state_dict_softmax_fc": {"weight": torch.zeros(9, 3)}, "global_step": 5},
        {"state_dict": prefixed("module.model.")},
    ],
    ids=[
        "plain",
        "ddp",
        "cvlface",
        "cvlface in its wrapper",
        "adaface",
        "arcface_torch checkpoint",
        "ddp in lightning",
    ],
)
def test_the_backbones_tensors_by_their_plain_names(tmp_path, state):
    torch.save(state, tmp_path / "model.pt")
    assert_read(tmp_path / "model.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert_read(tmp_path / "old.pt")


@pytest.fixture
def lightning(monkeypatch):
    """Classes of a module that is not there when the file is read."""
    module = types.ModuleType("absent_lightning")

    class AttributeDict(dict):
        pass

    class Names(list):
        pass

    class Callback:
        def __init__(self):
            self.best = 0.5

    class Slots:
        __slots__ = ("x",)

    class Mode(enum.Enum):
        MAX = "max"

    for made in (AttributeDict, Names, Callback, Slots, Mode):
        made.__module__, made.__qualname__ = module.__name__, made.__name__
        setattr(module, made.__name__, made)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_checkpoint_of_lightning_without_lightning(tmp_path, lightning, protocol):
    slots = lightning.Slots()
    slots.x = 3
    hyper_parameters = lightning.AttributeDict(arch="ir_50", path=pathlib.Path("a/b"), names=lightning.Names("ab"))
    best = {"best": np.float64(0.9), "mode": lightning.Mode.MAX}
    state = {
        "hyper_parameters": hyper_parameters,
        "callbacks": {lightning.Callback: best, "checkpoint": lightning.Callback()},
        "numbers": np.arange(3),
        "slots": slots,
        "types": {int, float},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}],
        "state_dict": {**prefixed("model."), "head.kernel": torch.nn.Parameter(torch.zeros(4, 5))},
    }
    torch.save(state, tmp_path / "adaface.ckpt", pickle_protocol=protocol)
    del sys.modules[lightning.__name__]
    with pytest.raises(pickle.UnpicklingError):  # else this test shows nothing
        torch.load(tmp_path / "adaface.ckpt", weights_only=True)
    assert_read(tmp_path / "adaface.ckpt")


def test_tensors_of_every_type_and_views(tmp_path, lightning):
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8)
    whole = torch.arange(24.0).view(4, 6)
    tensors = {str(kind): torch.arange(3).to(kind) for kind in (*kinds, torch.uint8, torch.bool)}
    tensors |= {
        "view": whole[1:, ::2],
        "column": whole[:, 1],
        "empty": torch.empty(0, 3),
        "stretched": torch.ones(1).expand(5),
    }
    torch.save({"state_dict": tensors, "c": lightning.Callback()}, tmp_path / "m.ckpt")
    del sys.modules[lightning.__name__]
    read, _ = read_tensors(tmp_path / "m.ckpt")
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor)


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (os.system, r"(posix|nt)\.system"),
        (exec, r"builtins\.exec"),
        (eval, r"builtins\.eval"),
        (open, r"(builtins|io|_io)\.open"),
    ],
)
def test_nothing_in_a_file_runs(tmp_path, function, named):
    marker = tmp_path / "ran"
    argument = {os.system: f"touch {marker}", open: str(marker)}.get(function, f"open({str(marker)!r}, 'w')")
    harm = Runs(function, *([argument, "w"] if function is open else [argument]))
    for name, state in (
        ("beside", {"state_dict": TENSORS, "callbacks": harm}),
        ("inside", {**TENSORS, "weight": harm}),
        ("alone", harm),
    ):
        path = tmp_path / f"{name}.ckpt"
        torch.save(state, path)
        with pytest.raises(ValueError, match=rf"{name}.ckpt .*it names {named}, which a checkpoint has no use for"):
            read_tensors(path)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"weight": harm}))
    with pytest.raises(ValueError, match="plain.pt is not a PyTorch state dict"):
        read_tensors(tmp_path / "plain.pt")
    assert not marker.exists()


def test_a_call_that_is_not_known_as_harmful_does_not_run_either(tmp_path, lightning):
    ran = []
    lightning.deed = lambda *args: ran.append(args) or lightning.Callback()
    lightning.deed.__module__, lightning.deed.__qualname__ = lightning.__name__, "deed"
    state = {"state_dict": TENSORS, "x": Runs(getattr, Runs(lightning.deed, 1), "best"), "y": Runs(lightning.deed)}
    torch.save(state, tmp_path / "m.ckpt")
    assert_read(tmp_path / "m.ckpt")  # its module is there, and could be called
    assert not ran
    torch.save({**TENSORS, "x": Runs(lightning.deed)}, tmp_path / "m.ckpt")
    with pytest.raises(ValueError, match="'x' is Inert, expected a state dict of tensors only"):
        read_tensors(tmp_path / "m.ckpt")
    assert not ran


def rewritten(path, change) -> None:
    """The file with each record as `change(name, data)` gives it."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            archive.writestr(name, change(name, data))


def test_a_model_is_said_to_be_cut_wherever_it_was_cut(tmp_path):
    torch.save({"weight": torch.arange(5000.0)}, tmp_path / "whole.pt")
    data = (tmp_path / "whole.pt").read_bytes()
    for size in range(1000, len(data), 1000):  # PyTorch looks for the end before the start of some of them
        (tmp_path / "cut.pt").write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"cut.pt is not a PyTorch state dict: its end is missing; copy or"):
            read_tensors(tmp_path / "cut.pt")


def test_damaged_files(tmp_path, lightning):
    whole = tmp_path / "whole.ckpt"
    torch.save({"state_dict": TENSORS, "c": lightning.Callback()}, whole)
    data = whole.read_bytes()
    for name, damaged, reason in (
        ("cut", data[:-200], "its end is missing; copy or download it again"),
        ("half", data[: len(data) // 2], "its end is missing; copy or download it again"),
        ("text", b"hello", "it is damaged, or a file of another kind"),
        ("empty", b"", "the file is empty"),
    ):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError) as caught:
            read_tensors(tmp_path / name)
        assert str(caught.value) == f"model {tmp_path / name} is not a PyTorch state dict: {reason}"
    short = tmp_path / "short.ckpt"
    for state, change in (
        ({"state_dict": TENSORS, "c": lightning.Callback()}, lambda name, data: data[:8] if "/data/" in name else data),
        ({"state_dict": TENSORS, "c": lightning.Callback()}, lambda name, data: data[:-40] if ".pkl" in name else data),
        (TENSORS, lambda name, data: data[:8] if "/data/" in name else data),
    ):
        torch.save(state, short)
        rewritten(short, change)
        with pytest.raises(ValueError, match="short.ckpt is not a PyTorch state dict"):
            read_tensors(short)


def test_safetensors(tmp_path):
    for name, tensors in (("plain", TENSORS), ("cvlface", prefixed("model.net."))):
        save_file({key: value.contiguous() for key, value in tensors.items()}, tmp_path / f"{name}.safetensors")
        assert_read(tmp_path / f"{name}.safetensors")
    data = (tmp_path / "plain.safetensors").read_bytes()
    torch.save(TENSORS, tmp_path / "pickle.safetensors")
    for name, damaged in (("cut", data[:-1]), ("empty", b""), ("pickle", None)):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(path.read_bytes() if damaged is None else damaged)
        with pytest.raises(ValueError, match=f"model .*{name}.safetensors is no safetensors file, or a damaged one"):
            read_tensors(path)


def test_what_is_no_state_dict(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "numbers.pt")
    torch.save({"fc.weight": torch.ones(2), "epoch": 3}, tmp_path / "mixed.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    for name in ("list.pt", "numbers.pt", "mixed.pt", "script.pt", "other.zip", "missing.pt", "."):
        with pytest.raises(ValueError, match=f"model {tmp_path / name}"):
            read_tensors(tmp_path / name)
