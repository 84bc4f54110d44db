"""A backbone as an ONNX file with a free batch size, which says itself how it takes pixels."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

OPSETS = range(13, 21)  # per-channel int8 needs 13; the exporter ends at 20
OPSET = 17
SIDE = 112  # pixels of an aligned face
BATCH = 16  # faces whose ranges are taken at a time
QUANTISED = ("Conv", "Gemm", "Add", "PRelu")  # what has int8 kernels; BatchNorm and lengths stay float32


class UnitAndNorm(nn.Module):
    """h of a backbone as u = h / |h| (n, D) and z = |h| (n, 1)."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.backbone(x)
        z = h.norm(dim=1, keepdim=True)
        return h / z.clamp_min(torch.finfo(h.dtype).tiny), z


def output_names(norm: bool) -> list[str]:
    """Of the graph."""
    return ["u", "z"] if norm else ["feature"]


def need_onnx() -> None:
    """Raise a ValueError where the onnx package is not installed."""
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise ValueError("writing .onnx files needs onnx: pip install onnx") from None


def write_graph(path: Path, backbone: nn.Module, norm: bool, opset: int) -> None:
    """Write float32 x (n, 3, 112, 112) -> feature (n, D), or with `norm` u (n, D) and z (n, 1); n is free.

    The exporter is PyTorch's older one, which needs no package but onnx: these networks are straight, and it folds the
    BatchNorms behind convolutions.
    """
    names = output_names(norm)
    module = (UnitAndNorm(backbone) if norm else backbone).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is the older one
        torch.onnx.export(
            module,
            (torch.zeros(2, 3, SIDE, SIDE),),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=["x"],
            output_names=names,
            dynamic_axes={name: {0: "n"} for name in ("x", *names)},
        )


def quantise(source: Path, target: Path, calibration: np.ndarray | None) -> None:
    """Write a graph's int8 form: weights by output channel; inputs and outputs stay float32.

    Args:
        calibration: float32 (n, 3, 112, 112), inputs whose ranges the activations keep (static); None: every input's
            own ranges are found while it is worked on (dynamic).
    """
    from onnxruntime import quantization as ort

    logging.disable(logging.WARNING)  # advice on images that are not faces
    try:
        if calibration is None:
            # the CPU's integer convolution takes unsigned weights only
            ort.quantize_dynamic(source, target, weight_type=ort.QuantType.QUInt8)
        else:
            ort.quantize_static(
                source,
                target,
                _Calibration(calibration),
                quant_format=ort.QuantFormat.QDQ,
                activation_type=ort.QuantType.QUInt8,
                weight_type=ort.QuantType.QInt8,
                per_channel=True,
                reduce_range=True,  # else sums overflow on CPUs without VNNI
                op_types_to_quantize=list(QUANTISED),
            )
    finally:
        logging.disable(logging.NOTSET)


class _Calibration:
    """onnxruntime's CalibrationDataReader."""

    def __init__(self, x: np.ndarray):
        self._batches = iter(np.array_split(x, -(-len(x) // BATCH)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"x": batch}


def describe(path: Path, metadata: Mapping[str, str], text: str) -> None:
    """Put properties and words into a graph, and have it checked."""
    import onnx

    graph = onnx.load(path)
    onnx.helper.set_model_props(graph, dict(metadata))
    graph.doc_string = text
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)
