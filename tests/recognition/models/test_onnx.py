"""ONNX models as backbones."""

import hashlib
import sys

import numpy as np
import pytest
import torch

from recognition.models import open_model
from tests.onnx_files import UINT8, node, pooled, write

RGB = {"channels": "rgb", "mean": 127.5, "std": 127.5}


def quarters(x: np.ndarray) -> np.ndarray:
    """(n, 12): the means of the four quarters of each channel."""
    parts = [x[:, c, r : r + 56, s : s + 56].mean((1, 2)) for c in range(3) for r in (0, 56) for s in (0, 56)]
    return np.stack(parts, axis=1)


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(5, 3, 112, 112)).astype(np.float32)


def test_without_onnxruntime_the_message_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="needs onnxruntime: pip install onnxruntime"):
        open_model(pooled(tmp_path / "m.onnx"), **RGB)


class TestWithOnnxruntime:
    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("onnxruntime")

    @pytest.mark.parametrize("batch", ["n", 1, 2, 5, 7])
    def test_features_and_facts(self, tmp_path, images, batch):
        model = open_model(pooled(tmp_path / "m.onnx", batch), **RGB)
        x = torch.from_numpy(images)
        for given in (x, x.contiguous(memory_format=torch.channels_last), x[:1]):
            h = model.backbone(given)
            assert h.dtype == torch.float32 and h.shape == (len(given), 12)
            np.testing.assert_allclose(h, quarters(images[: len(given)]), atol=1e-5)
        assert (model.network, model.embedding_size, model.channels, model.mean) == ("onnx", 12, "rgb", 127.5)
        assert model.digest == hashlib.sha256((tmp_path / "m.onnx").read_bytes()).hexdigest()
        assert not model.backbone.training

    def test_channels_last(self, tmp_path, images):
        nodes = [
            node("Transpose", ["x"], "t", perm=[0, 3, 1, 2]),
            node("AveragePool", ["t"], "p", kernel_shape=[56, 56], strides=[56, 56]),
            node("Flatten", ["p"], "h", axis=1),
        ]
        path = write(tmp_path / "m.onnx", nodes, {"x": ["n", 112, 112, 3]}, {"h": ["n", 12]})
        h = open_model(path, **RGB).backbone(torch.from_numpy(images))
        np.testing.assert_allclose(h, quarters(images), atol=1e-5)

    def test_unit_feature_and_norm_are_multiplied(self, tmp_path, images):
        nodes = [
            node("AveragePool", ["x"], "p", kernel_shape=[56, 56], strides=[56, 56]),
            node("Flatten", ["p"], "h", axis=1),
            node("ReduceL2", ["h"], "z", axes=[1], keepdims=1),
            node("Div", ["h", "z"], "u"),
        ]
        path = write(tmp_path / "m.onnx", nodes, {"x": [1, 3, 112, 112]}, {"u": [1, 12], "z": [1, 1]})
        h = open_model(path, **RGB).backbone(torch.from_numpy(images))
        np.testing.assert_allclose(h, quarters(images), atol=1e-5)

    def test_the_colour_contract_in_its_metadata(self, tmp_path):
        path = pooled(tmp_path / "m.onnx", channels="bgr", mean="127", std="128", author="somebody")
        model = open_model(path)
        assert (model.channels, model.mean, model.std) == ("bgr", 127.0, 128.0)
        model = open_model(path, channels="rgb", mean=0.0)
        assert (model.channels, model.mean, model.std) == ("rgb", 0.0, 128.0)

    def test_flags_go_before_metadata_of_another_meaning(self, tmp_path):
        path = pooled(tmp_path / "m.onnx", channels="RGB", mean="0.5,0.5,0.5", std="0.5,0.5,0.5", network="arcface")
        model = open_model(path, mean=127.5, std=127.5)
        assert (model.channels, model.mean, model.std, model.network) == ("rgb", 127.5, 127.5, "onnx")

    @pytest.mark.parametrize(
        ("metadata", "message"),
        [
            ({}, "nothing says the channel order .* --channels rgb .* --channels bgr .*--mean 127.5 --std 127.5"),
            ({"channels": "rgb"}, "nothing says how .* scales pixels.*; add --mean 127.5 --std 127.5"),
            ({"channels": "rgb", "mean": "127.5"}, "add --mean 127.5 --std 127.5"),
            ({"channels": "gray"}, "metadata of model .*channels='gray': expected 'rgb' or 'bgr'"),
            ({"std": "wide"}, "metadata of model .*std='wide': expected a number"),
            ({"std": "0"}, "std=0.0: expected a number above 0"),
            ({"mean": "nan"}, "mean=nan: expected a number"),
        ],
    )
    def test_a_contract_that_is_missing_or_wrong(self, tmp_path, metadata, message):
        with pytest.raises(ValueError, match=message):
            open_model(pooled(tmp_path / "m.onnx", **metadata))

    def test_a_width_that_differs(self, tmp_path):
        with pytest.raises(ValueError, match="m.onnx makes features of 12 dimensions, not of 512"):
            open_model(pooled(tmp_path / "m.onnx"), embedding_size=512, **RGB)

    def test_what_is_no_face_model(self, tmp_path):
        flat = [node("Flatten", ["x"], "h", axis=1)]
        cast = [node("Cast", ["x"], "f", to=1), node("Flatten", ["f"], "h", axis=1)]
        both = [node("Add", ["x", "y"], "s"), node("Flatten", ["s"], "h", axis=1)]
        same = [node("Relu", ["x"], "h")]
        face = ["n", 3, 112, 112]
        for nodes, inputs, output, kind, message in (
            (flat, {"x": ["n", 3, 224, 224]}, ["n", 150528], 1, r"takes x .*224.*input \(n, 3, 112, 112\)"),
            (flat, {"x": ["n", 1, 112, 112]}, ["n", 12544], 1, "expected one float32 input"),
            (cast, {"x": face}, ["n", 37632], UINT8, r"tensor\(uint8\): expected one float32 input"),
            (both, {"x": face, "y": face}, ["n", 37632], 1, "takes x .* y .*: expected one"),
            (same, {"x": face}, face, 1, r"for 2 images, expected features \(n, D\)"),
        ):  # fmt: skip
            path = write(tmp_path / "m.onnx", nodes, inputs, {"h": output}, kind)
            with pytest.raises(ValueError, match=message):
                open_model(path, **RGB)

    def test_damaged_and_missing(self, tmp_path):
        whole = pooled(tmp_path / "m.onnx").read_bytes()
        for name, data in (("cut", whole[:-30]), ("text", b"hello"), ("empty", b"")):
            (tmp_path / f"{name}.onnx").write_bytes(data)
            with pytest.raises(ValueError, match=f"{name}.onnx .*is not an ONNX model that can be read"):
                open_model(tmp_path / f"{name}.onnx", **RGB)
        with pytest.raises(ValueError, match="absent.onnx does not exist"):
            open_model(tmp_path / "absent.onnx", **RGB)
