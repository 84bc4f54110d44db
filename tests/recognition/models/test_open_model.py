"""Which network a file is of, and the colour contract."""

import hashlib
import json
import os

import pytest
import torch
from safetensors.torch import save_file

from recognition.backbones import get_backbone
from recognition.models import open_model, run_config, save_model


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return get_backbone("tiny", 16).eval()


@pytest.fixture
def foreign(tiny, tmp_path):
    """A plain state dict that says nothing of itself."""
    torch.save(dict(tiny.state_dict()), tmp_path / "backbone.pth")
    return tmp_path / "backbone.pth"


def without_values(network: str, width: int = 512) -> dict[str, torch.Tensor]:
    """A state dict of one number a tensor, seen in the network's shapes."""
    with torch.device("meta"):
        state = get_backbone(network, width).state_dict()
    return {name: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape) for name, tensor in state.items()}


def test_what_our_training_saves_says_itself_what_it_is(tiny, tmp_path):
    save_model(tmp_path / "model.pt", tiny.state_dict(), "tiny", 16)
    model = open_model(tmp_path / "model.pt")
    assert (model.network, model.embedding_size, model.channels) == ("tiny", 16, "rgb")
    assert (model.mean, model.std) == (127.5, 127.5)
    assert model.digest == hashlib.sha256((tmp_path / "model.pt").read_bytes()).hexdigest()
    x = torch.randn(2, 3, 112, 112)
    assert torch.equal(model.backbone(x), tiny(x)) and not model.backbone.training


def test_the_same_as_safetensors(tiny, tmp_path):
    save_model(tmp_path / "own.safetensors", tiny.state_dict(), "tiny", 16, 21.5, 3.25)
    model = open_model(tmp_path / "own.safetensors")
    assert (model.network, model.embedding_size, model.channels) == ("tiny", 16, "rgb")
    assert (model.mean, model.std, model.norm_mean, model.norm_std) == (127.5, 127.5, 21.5, 3.25)
    x = torch.randn(2, 3, 112, 112)
    assert torch.equal(model.backbone(x), tiny(x))


@pytest.mark.parametrize("network", ["mini", "mbf", "adaface_ir18"])
def test_a_safetensors_file_that_says_nothing_is_recognised(tmp_path, network):
    """Its tensors come in no particular order."""
    save_file(get_backbone(network, 24).state_dict(), tmp_path / "foreign.safetensors", {"format": "pt"})
    model = open_model(tmp_path / "foreign.safetensors", channels="bgr")
    assert (model.network, model.embedding_size, model.channels, model.norm_mean) == (network, 24, "bgr", None)


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_the_same_weights_are_the_same_bytes(tiny, tmp_path, monkeypatch, name):
    for pid, folder in enumerate("ab"):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)  # another process
        save_model(tmp_path / folder / name, tiny.state_dict(), "tiny", 16, 21.5, 3.25)
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_other_programs_load_what_we_save(tmp_path):
    backbone = get_backbone("mini", 32)
    save_model(tmp_path / "model.pt", backbone.state_dict(), "mini", 32, 21.5, 3.25)
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert set(state) == set(backbone.state_dict())
    facts = state._metadata[""]["qgface"]
    pixels = {"channels": "rgb", "mean": 127.5, "std": 127.5}
    assert facts == {"network": "mini", "embedding_size": 32, **pixels, "norm_mean": 21.5, "norm_std": 3.25}
    assert state._metadata["bn1"] == backbone.state_dict()._metadata["bn1"]  # BatchNorm's version stays
    plain = get_backbone("mini", 32)
    plain.load_state_dict(state, strict=True)
    assert torch.equal(plain.fc.weight, backbone.fc.weight)


def test_saving_replaces_the_file_as_a_whole(tiny, tmp_path):
    save_model(tmp_path / "model.pt", tiny.state_dict(), "tiny", 16)
    before = (tmp_path / "model.pt").read_bytes()

    class Broken(torch.nn.Module):
        def state_dict(self):
            state = super().state_dict()
            state["x"] = type("NoTensor", (), {"cpu": lambda self: lambda: 0})()  # a function cannot be pickled
            return state

    with pytest.raises(AttributeError):
        save_model(tmp_path / "model.pt", Broken(), "tiny", 16)
    assert (tmp_path / "model.pt").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_run_of_before_is_told_by_its_config(foreign):
    config = {"network": "tiny", "embedding_size": 16, "lr": 0.1}
    foreign.with_name("config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="nothing says the channel order"):
        open_model(foreign)  # a file of another name may have come from anywhere
    model = open_model(foreign.rename(foreign.with_name("model.pt")))
    assert (model.network, model.channels, model.mean) == ("tiny", "rgb", 127.5)
    assert run_config(foreign) == config


def test_what_nothing_says_may_be_as_insightface_has_it(foreign, tmp_path):
    model = open_model(foreign, insightface=True)
    assert (model.channels, model.mean, model.std) == ("rgb", 127.5, 127.5)
    assert open_model(foreign, channels="bgr", insightface=True).channels == "bgr"
    torch.save(without_values("adaface_ir18"), tmp_path / "adaface.ckpt")
    with pytest.raises(ValueError, match="--channels bgr"):
        open_model(tmp_path / "adaface.ckpt", insightface=True)


@pytest.mark.parametrize("text", ["", "[1]", '{"architectures": ["Wrapper"]}'])
def test_another_config_beside_it_says_nothing(foreign, text):
    foreign.with_name("config.json").write_text(text)
    with pytest.raises(ValueError, match="nothing says the channel order"):
        open_model(foreign, "tiny")


@pytest.mark.parametrize("network", ["r18", "adaface_ir18", "mbf", "tiny"])
def test_a_network_is_recognised(tmp_path, network):
    torch.save(without_values(network), tmp_path / "backbone.pth")
    model = open_model(tmp_path / "backbone.pth", channels="bgr")
    assert (model.network, model.embedding_size) == (network, 512)
    assert (model.channels, model.mean, model.std) == ("bgr", 127.5, 127.5)


def test_a_network_of_another_width_is_recognised(tmp_path):
    torch.save(without_values("small", 256), tmp_path / "backbone.pth")
    model = open_model(tmp_path / "backbone.pth", channels="rgb")
    assert (model.network, model.embedding_size) == ("small", 256)


def test_only_an_exact_match_is_recognised(tmp_path, tiny):
    state = dict(tiny.state_dict())
    del state["layers.0.bias"]
    torch.save(state, tmp_path / "backbone.pth")
    with pytest.raises(ValueError, match="no network that is known here: its 13 names .* r18, .*adaface_ir50, .*tiny"):
        open_model(tmp_path / "backbone.pth", channels="rgb")
    with pytest.raises(ValueError, match=r"of another network: 1 tensors are missing \['layers.0.bias'\]"):
        open_model(tmp_path / "backbone.pth", "tiny", channels="rgb")


def test_half_precision_weights_become_single(tmp_path, tiny):
    torch.save({name: tensor.half() for name, tensor in tiny.state_dict().items()}, tmp_path / "backbone.pth")
    model = open_model(tmp_path / "backbone.pth", "tiny", channels="rgb")
    assert {p.dtype for p in model.backbone.parameters()} == {torch.float32}


def test_nothing_is_guessed(foreign):
    with pytest.raises(ValueError, match=r"--channels rgb \(InsightFace's models\) or --channels bgr \(AdaFace's\)"):
        open_model(foreign, "tiny")
    for given, message in (
        ({"channels": "grb"}, "channels='grb': expected 'rgb' or 'bgr'"),
        ({"std": 0.0}, "std=0.0: expected a number above 0"),
        ({"mean": float("inf")}, "mean=inf: expected a number"),
        ({"embedding_size": 0}, "embedding_size=0: expected a whole number above 0"),
        ({"embedding_size": 32}, "makes features of 16 dimensions, not of 32"),
        ({"network": "r51"}, "did you mean 'r50'"),
        ({"network": "mbf"}, "backbone.pth is of another network"),
    ):
        with pytest.raises(ValueError, match=message):
            open_model(foreign, **{"network": "tiny", "channels": "rgb", **given})


def test_what_is_given_goes_before_what_the_file_says(tiny, tmp_path):
    save_model(tmp_path / "model.pt", tiny.state_dict(), "tiny", 16)
    model = open_model(tmp_path / "model.pt", channels="bgr", mean=127, std=128)
    assert (model.channels, model.mean, model.std, model.network) == ("bgr", 127.0, 128.0, "tiny")
    with pytest.raises(ValueError, match="of another network"):
        open_model(tmp_path / "model.pt", "mini")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"channels": "cmyk"}, "model.pt: channels='cmyk'"),
        ({"network": 3}, "network=3: expected a name"),
        ({"embedding_size": "16"}, "embedding_size='16': expected a whole number"),
        ({"mean": True}, "mean=True: expected a number"),
        ({"embedding_size": 32}, "makes features of 16 dimensions, not of 32"),
    ],
)
def test_facts_in_the_file_that_cannot_be(tiny, tmp_path, facts, message):
    state = tiny.state_dict()
    ours = {"network": "tiny", "embedding_size": 16, "channels": "rgb", "mean": 127.5, "std": 127.5}
    state._metadata[""]["qgface"] = {**ours, **facts}
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=message):
        open_model(tmp_path / "model.pt")


@pytest.mark.parametrize("order", ["BGR", "'RGB'"])
def test_cvlface_says_its_order_in_the_yaml_beside_it(tiny, tmp_path, order):
    torch.save({f"net.{name}": tensor for name, tensor in tiny.state_dict().items()}, tmp_path / "model.pt")
    (tmp_path / "model.yaml").write_text(f"input_size: [3, 112, 112]\ncolor_space: {order}\nname: 'ir50'\n")
    model = open_model(tmp_path / "model.pt", "tiny")
    assert (model.network, model.channels, model.mean) == ("tiny", order.strip("'").lower(), 127.5)
    (tmp_path / "model.yaml").write_text("color_space: LAB\n")
    with pytest.raises(ValueError, match="model.yaml, color_space: channels='lab'"):
        open_model(tmp_path / "model.pt", "tiny")
