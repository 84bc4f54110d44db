"""Small ONNX models, written byte by byte: the onnx package is not needed to make one (onnx.proto3 has the numbers)."""

from pathlib import Path

import numpy as np

FLOAT, UINT8 = 1, 2


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def node(kind: str, inputs: list[str], output: str, **attributes: int | list[int]) -> bytes:
    out = b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, kind)
    for name, value in attributes.items():
        many = isinstance(value, list)
        numbers = b"".join(_field(8, v) for v in value) if many else _field(3, value)
        out += _field(5, _field(1, name) + numbers + _field(20, 7 if many else 2))
    return out


def _value(name: str, shape: list[int | str], kind: int) -> bytes:
    dims = b"".join(_field(1, _field(1 if isinstance(size, int) else 2, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, dims)))


def write(
    path: Path,
    nodes: list[bytes],
    inputs: dict[str, list],
    outputs: dict[str, list],
    kind: int = FLOAT,
    **metadata: str,
) -> Path:
    """A model of float outputs whose inputs have the element type `kind`; `metadata` become its metadata_props."""
    graph = b"".join(_field(1, n) for n in nodes) + _field(2, "face")
    graph += b"".join(_field(11, _value(name, shape, kind)) for name, shape in inputs.items())
    graph += b"".join(_field(12, _value(name, shape, FLOAT)) for name, shape in outputs.items())
    model = _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))
    model += b"".join(_field(14, _field(1, key) + _field(2, value)) for key, value in metadata.items())
    path.write_bytes(model)
    return path


def pooled(path: Path, batch: int | str = "n", **metadata: str) -> Path:
    """h (n, 12): the means of the four quarters of each channel."""
    nodes = [
        node("AveragePool", ["x"], "p", kernel_shape=[56, 56], strides=[56, 56]),
        node("Flatten", ["p"], "h", axis=1),
    ]
    return write(path, nodes, {"x": [batch, 3, 112, 112]}, {"h": [batch, 12]}, **metadata)


def yunet(path: Path) -> Path:
    """A network with YuNet's outputs. Each cell's numbers are the mean blue, green and red in it: the score their mean,
    `bbox` and `kps` they themselves, repeated. Only a cell that is filled scores well.
    """
    nodes, shapes = [], {}
    for stride in (8, 16, 32):
        pixels, mean = f"p{stride}", f"m{stride}"
        nodes += [
            node("AveragePool", ["x"], pixels, kernel_shape=[stride, stride], strides=[stride, stride]),
            node("ReduceMean", [pixels], mean, axes=[1], keepdims=1),
            node("Concat", [mean, pixels], f"b{stride}", axis=1),
            node("Concat", [pixels, pixels, pixels, mean], f"k{stride}", axis=1),
        ]
        outputs = {"cls": (mean, 1), "obj": (mean, 1), "bbox": (f"b{stride}", 4), "kps": (f"k{stride}", 10)}
        for name, (part, numbers) in outputs.items():
            nodes.append(node("Transpose", [part], f"{name}_{stride}", perm=[0, 2, 3, 1]))
            shapes[f"{name}_{stride}"] = [1, 64 // stride, 64 // stride, numbers]
    return write(path, nodes, {"x": [1, 3, 64, 64]}, shapes)


def photo_for_yunet() -> np.ndarray:
    """(96, 128, 3) RGB, black but for what `yunet`'s network takes for a face."""
    photo = np.zeros((96, 128, 3), np.uint8)
    photo[16:24, 40:48] = 7, 5, 3
    return photo
