"""ONNX face models through onnxruntime, on a GPU where onnxruntime-gpu is installed, else on the CPU."""

import contextlib
from pathlib import Path

import torch
from torch import nn

SIDE = 112  # pixels of an aligned face
NUMBERS = {"embedding_size": int, "mean": float, "std": float, "norm_mean": float, "norm_std": float}


class OnnxBackbone(nn.Module):
    """A graph as a backbone.

    The graph takes one float32 input, (n, 3, 112, 112) or (n, 112, 112, 3); n may be fixed, as many exports fix it to
    1: batches are cut, and the last one filled up. It gives features (n, D), or unit features (n, D) and norms (n, 1),
    as AdaFace's exports do: these are multiplied.

    Args:
        path: the file; all weights are in it, as its digest stands for them.

    Raises:
        ValueError: onnxruntime is not installed; the file is missing, damaged or no face model as above.
    """

    def __init__(self, path: Path):
        super().__init__()
        self._session = _session(path)
        self.metadata = _metadata(self._session)
        self._input, self._batch, self._channels_last = _input(path, self._session)
        try:
            h = self(torch.zeros(2, 3, SIDE, SIDE))
        except Exception as error:  # onnxruntime's own classes
            raise ValueError(f"model {path} does not take faces of {SIDE} x {SIDE}: {_first_line(error)}") from None
        self.embedding_size = h.shape[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, 112, 112) float32 -> h (n, D) float32, on the device of `x`.

        Raises:
            ValueError: the graph gives something else than features.
        """
        parts = [self._run(part) for part in x.split(self._batch or len(x))]
        return torch.cat(parts).to(x.device)

    def _run(self, x: torch.Tensor) -> torch.Tensor:
        n = len(x)
        if self._batch and n < self._batch:
            x = torch.cat([x, x.new_zeros(self._batch - n, *x.shape[1:])])
        if self._channels_last:
            x = x.permute(0, 2, 3, 1)
        outputs = self._session.run(None, {self._input: x.contiguous().cpu().numpy()})
        shapes = [output.shape for output in outputs]
        rows = len(x)
        if len(shapes[0]) != 2 or shapes[0][0] != rows or shapes[1:] not in ([], [(rows, 1)]):
            raise ValueError(f"it gives {shapes} for {rows} images, expected features (n, D)")
        h = outputs[0] if len(outputs) == 1 else outputs[0] * outputs[1]
        return torch.from_numpy(h[:n]).float()


def _session(path: Path):
    try:
        import onnxruntime
    except ImportError:
        raise ValueError(f"model {path} needs onnxruntime: pip install onnxruntime") from None
    if not path.is_file():
        raise ValueError(f"model {path} does not exist")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave the cores to those that decode
    options.log_severity_level = 4  # what is wrong comes as an exception
    available = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
    try:
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=providers)
    except Exception as error:  # onnxruntime's own classes
        raise ValueError(f"model {path} is not an ONNX model that can be read: {_first_line(error)}") from None


def _metadata(session) -> dict[str, str | int | float]:
    """The model's own properties; those of the colour contract as numbers where they are some."""
    values = dict(session.get_modelmeta().custom_metadata_map)
    for name, kind in NUMBERS.items():
        with contextlib.suppress(KeyError, ValueError):
            values[name] = kind(values[name])
    if "channels" in values:
        values["channels"] = values["channels"].lower()
    return values


def _input(path: Path, session) -> tuple[str, int | None, bool]:
    """Name of the input, its fixed batch size, and whether channels come last."""
    inputs = [(node.name, node.shape, node.type) for node in session.get_inputs()]
    (name, shape, kind), *more = inputs
    numbers = [size if isinstance(size, int) else None for size in shape]
    if not more and kind == "tensor(float)" and len(shape) == 4:
        for channel, channels_last in ((1, False), (3, True)):
            sides = [size for axis, size in enumerate(numbers) if axis not in (0, channel)]
            if numbers[channel] == 3 and all(side in (None, SIDE) for side in sides):
                return name, numbers[0], channels_last
    given = ", ".join(f"{name} {shape} {kind}" for name, shape, kind in inputs)
    raise ValueError(f"model {path} takes {given}: expected one float32 input (n, 3, {SIDE}, {SIDE})")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
