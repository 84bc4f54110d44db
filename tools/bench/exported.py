"""ONNX models in onnxruntime, float32 and int8, against the same network in PyTorch as the evaluation runs it."""

import torch
from torch import nn

from recognition.backbones import get_backbone
from recognition.embedder import pixels
from recognition.models.onnx import OnnxBackbone
from tools.bench.measure import Row, Step, seconds
from tools.export import graph
from tools.export.check import drawn_faces
from utils.scratch import scratch

D = 512
NETWORKS = ("small", "r34")


def rows(quick: bool, networks: tuple[str, ...] = ()) -> list[Row]:
    """Network by network, random weights: images a second on the CPU, one at a time and many."""
    names = networks or (("tiny",) if quick else NETWORKS)
    return [row for name in names for row in of_network(name, quick)]


def of_network(name: str, quick: bool) -> list[Row]:
    network = get_backbone(name, D).to(memory_format=torch.channels_last).eval()
    faces = pixels(torch.from_numpy(drawn_faces()), "rgb", 127.5, 127.5)
    with scratch("qgface_bench_") as folder:
        paths = {form: folder / f"{form}.onnx" for form in ("float32", "int8 dynamic", "int8 static")}
        graph.write_graph(paths["float32"], network, norm=False, opset=graph.OPSET)
        graph.quantise(paths["float32"], paths["int8 dynamic"], None)
        graph.quantise(paths["float32"], paths["int8 static"], faces.contiguous().numpy())
        models = {form: OnnxBackbone(path) for form, path in paths.items()}
    found = []
    for batch in (1, 2) if quick else (1, 32):
        took = seconds(_steps({"PyTorch": network, **models}, faces[:batch]), 2 if quick else 15 if batch == 1 else 5)
        speed = {form: batch / time for form, time in took.items()}
        found += [Row(f"{name}, batch {batch}: onnxruntime, {form}, against PyTorch", "1/s", speed["PyTorch"],
                      speed[form], higher=True) for form in models]  # fmt: skip
    return found


def _steps(models: dict[str, nn.Module], x: torch.Tensor) -> dict[str, Step]:
    def run(model: nn.Module) -> None:
        with torch.inference_mode():
            model(x)

    return {form: lambda model=model: run(model) for form, model in models.items()}
