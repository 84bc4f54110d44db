"""python -m tools.export: what is in the files, and that nothing is written which differs from PyTorch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open

from eval.__main__ import main as evaluate
from recognition.backbones import get_backbone
from recognition.embedder import Embedder
from recognition.models import open_model, save_model
from tests import faces
from tools.export import __main__ as export
from tools.export import graph
from utils.jpeg import encode

onnx = pytest.importorskip("onnx")
D = 16


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of our training."""
    path = tmp_path_factory.mktemp("run") / "model.pt"
    torch.manual_seed(0)
    save_model(path, get_backbone("tiny", D).state_dict(), "tiny", D, 21.5, 3.25)
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.bin"
    faces.write_pairs(path, 20)
    return path


@pytest.fixture(scope="module")
def plain(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "face.onnx"
    export.main([str(model), "--output", str(path), "--license", "CC BY-NC 4.0"])
    return path


@pytest.fixture(scope="module")
def normed(model, pairs, tmp_path_factory):
    path = tmp_path_factory.mktemp("normed") / "face.onnx"
    export.main([str(model), "--output", str(path), "--norm", "--opset", "13", "--check", str(pairs)])
    return path


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(5, 3, 112, 112)).astype(np.float32))


def run(path: Path, x: torch.Tensor) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip((out.name for out in session.get_outputs()), session.run(None, {"x": x.numpy()}), strict=True))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_it_equals_pytorch_on_any_number_of_images(model, plain, normed, images, n):
    with torch.no_grad():
        h = open_model(model).backbone(images[:n]).numpy()
    z = np.linalg.norm(h, axis=1, keepdims=True)
    found = run(plain, images[:n]) | run(normed, images[:n])
    assert sorted(found) == ["feature", "u", "z"]
    for name, expected in (("feature", h), ("u", h / z), ("z", z)):
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)


def test_what_it_says_of_itself(model, plain, normed):
    said, other = onnx.load(plain), onnx.load(normed)
    metadata = {entry.key: entry.value for entry in said.metadata_props}
    assert metadata.pop("source_sha256") == open_model(model).digest
    assert metadata == {
        "channels": "rgb", "mean": "127.5", "std": "127.5", "norm_mean": "21.5", "norm_std": "3.25", "network": "tiny",
        "embedding_size": str(D), "license": "CC BY-NC 4.0", "precision": "float32",
    }  # fmt: skip
    assert [one.opset_import[0].version for one in (said, other)] == [graph.OPSET, 13]
    assert "rgb, (value - 127.5) / 127.5" in said.doc_string and "not normalised" in said.doc_string
    assert "license" in {entry.key for entry in other.metadata_props}  # something is said in any case
    for one in (said, other):
        assert one.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"


def test_it_opens_without_flags(plain, normed):
    for path in (plain, normed):
        opened = open_model(path)
        assert (opened.channels, opened.mean, opened.std, opened.embedding_size) == ("rgb", 127.5, 127.5, D)
        assert (opened.norm_mean, opened.norm_std) == (21.5, 3.25)


def test_the_evaluation_takes_it(plain, pairs, tmp_path):
    evaluate([str(plain), "--data", str(pairs.parent), "--output", str(tmp_path / "results.json"), "--no-cache"])
    assert (tmp_path / "results.json").exists()


def test_bgr_models_say_so(tmp_path, capsys):
    """A state dict that says nothing, to both formats; the tool says what it has compared."""
    torch.manual_seed(0)
    torch.save(get_backbone("mini", D).state_dict(), tmp_path / "foreign.ckpt")
    for name in ("face.onnx", "face.safetensors"):
        words = ["--channels", "bgr", "--mean", "127", "--std", "128", "--output", str(tmp_path / name)]
        export.main([str(tmp_path / "foreign.ckpt"), *words])
        opened = open_model(tmp_path / name)
        assert (opened.channels, opened.mean, opened.std) == ("bgr", 127.0, 128.0)
    shown = capsys.readouterr().out
    assert "ONNX opset 17, float32, outputs feature" in shown and "face.safetensors  safetensors, " in shown
    assert shown.count("32 drawn and random images: max |du| ") == 2


def test_safetensors_there_and_back(model, tmp_path):
    first, second = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    export.main([str(model), "--output", str(first), "--license", "CC0"])
    export.main([str(first), "--output", str(second)])
    ours, theirs = open_model(model), open_model(second)
    assert ours.backbone.state_dict().keys() == theirs.backbone.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(ours.backbone.parameters(), theirs.backbone.parameters(), strict=True))
    assert (theirs.network, theirs.norm_mean, theirs.norm_std) == ("tiny", 21.5, 3.25)
    metadata = safe_open(second, "pt").metadata()
    assert metadata["license"] == "CC0" and metadata["source_sha256"] == open_model(first).digest


@pytest.mark.parametrize("ranges", ["dynamic", "static"])
def test_int8(model, pairs, tmp_path, ranges):
    """Smaller, near, and not the same; faces from a folder."""
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(encode(faces.photo(number, 0), 90))
    made, words = tmp_path / "face.onnx", ["--calibrate", str(tmp_path)] if ranges == "static" else []
    export.main([str(model), "--output", str(made), "--int8", *words, "--check", str(tmp_path), str(pairs)])
    assert made.stat().st_size < model.stat().st_size / 3
    assert onnx.load(made).metadata_props and open_model(made).channels == "rgb"
    images = np.stack([faces.photo(number, 1) for number in range(6)])
    (u, _), (other, _) = (Embedder(open_model(path).backbone, "cpu")(images) for path in (model, made))
    cosine = (u * other).sum(1)
    assert 0.95 < cosine.min() and cosine.max() < 1 - 1e-6


@pytest.mark.parametrize("name", ["face.onnx", "face.safetensors"])
def test_an_export_that_differs_leaves_nothing(model, tmp_path, monkeypatch, name):
    """One weight of thousands is another; what was there before stays."""

    def changed(state: dict) -> dict:
        weight = state["fc.weight"].clone()
        weight[0, 0] += 1
        return type(state)(state, **{"fc.weight": weight})

    def write_graph(path, backbone, *arguments):
        other = get_backbone("tiny", D)
        other.load_state_dict(changed(backbone.state_dict()))
        graph_as_it_is(path, other, *arguments)

    def save(path, state, *arguments):
        other = changed(state)
        other._metadata = state._metadata
        save_model(path, other, *arguments)

    graph_as_it_is = graph.write_graph
    monkeypatch.setattr(graph, "write_graph", write_graph)
    monkeypatch.setattr(export, "save_model", save)
    (tmp_path / name).write_text("an earlier file")
    with pytest.raises(ValueError, match="the export differs from PyTorch: max .* no file is written"):
        export.main([str(model), "--output", str(tmp_path / name), "--overwrite"])
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "an earlier file"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "face.pt"], "face.pt: expected a name that ends in .onnx or .safetensors"),
        (["--output", "no/face.onnx"], "its folder does not exist"),
        (["--output", "face.safetensors", "--norm", "--opset", "17"], "--norm, --opset: of ONNX"),
        (["--output", "face.onnx", "--opset", "99"], "--opset 99: expected 13 to 20"),
        (["--output", "face.onnx", "--calibrate", "."], "--calibrate: of --int8, which is not asked for"),
        (["--output", "face.onnx", "--check", "nothing"], "nothing: expected a verification set"),
        (["--output", "taken.onnx"], "taken.onnx exists; --overwrite replaces it"),
    ],
)
def test_mistakes(model, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.onnx").touch()
    with pytest.raises(ValueError, match=message):
        export.main([str(model), *words])
    assert [path.name for path in tmp_path.iterdir()] == ["taken.onnx"]


def test_an_onnx_model_is_one_already(plain, tmp_path):
    with pytest.raises(ValueError, match="is an ONNX model already"):
        export.main([str(plain), "--output", str(tmp_path / "other.onnx")])


def test_without_onnx_the_message_names_it(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match="needs onnx: pip install onnx"):
        export.main([str(model), "--output", str(tmp_path / "face.onnx")])


def test_a_mistake_is_one_line(tmp_path, root):
    words = [sys.executable, "-m", "tools.export", str(tmp_path / "absent.pt"), "--output", str(tmp_path / "face.onnx")]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr == f"error: model {tmp_path / 'absent.pt'} does not exist\n"
