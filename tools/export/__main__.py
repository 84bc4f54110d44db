"""Write a model for other programs, as ONNX or safetensors, and check it against PyTorch before it is there.

    python -m tools.export work_dirs/demo/model.pt --output face.onnx --norm --check lfw.bin
    python -m tools.export work_dirs/demo/model.pt --output face_int8.onnx --int8 --calibrate faces/ --check lfw.bin
    python -m tools.export adaface_ir50.ckpt --channels bgr --output face.safetensors --license "MIT"

docs/export.md tells what is in the files, and how fast and how exact they are.
"""

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

from recognition.embedder import pixels
from recognition.models import Model, open_model, save_model
from recognition.models.files import is_safetensors
from tools.export import graph
from tools.export.check import Difference, difference, drawn_faces, read_faces
from utils.checkpoint import TensorFile
from utils.cli import Parser, user_errors
from utils.files import replacing
from utils.scratch import scratch

EXACT = 1e-4  # max |du| and |dz|/z of float32: two ways to sum the same products
INT8_COSINE = 0.9  # least cosine of a face's feature in int8 and in float32
LICENSE = "of the program: MIT; of the weights: as their owner and their training faces' owners say"


def main(words: list[str]) -> None:
    options = _options(words)
    model = open_model(
        options.model, options.network, options.embedding_size, options.channels, options.mean, options.std
    )
    faces = read_faces(options.check) if options.check else drawn_faces()
    license = options.license or _said_license(options.model) or LICENSE
    with scratch("qgface_export_") as folder:
        made = folder / f"model{options.output.suffix.lower()}"
        (_write_safetensors if is_safetensors(made) else _write_onnx)(model, made, license, options)
        found = _check(model, open_model(made), faces, options)
        with replacing(options.output) as beside:
            shutil.copyfile(made, beside)
    print(model.describe())
    print(f"{options.output}  {_form(options)}, {options.output.stat().st_size / 1e6:.1f} MB")
    print(f"check    {len(faces)} {'faces' if options.check else 'drawn and random images'}: {found}")


def _said_license(path: Path) -> str | None:
    """What a .safetensors file that was exported before says."""
    return TensorFile(path).metadata.get("license") if is_safetensors(path) else None


def _write_safetensors(model: Model, path: Path, license: str, options: argparse.Namespace) -> None:
    facts = (model.network, model.embedding_size, model.norm_mean, model.norm_std)
    words = {"license": license, "source_sha256": model.digest}
    save_model(path, model.backbone.state_dict(), *facts, model.channels, model.mean, model.std, words)


def _write_onnx(model: Model, path: Path, license: str, options: argparse.Namespace) -> None:
    graph.write_graph(path, model.backbone, options.norm, options.opset)
    if options.int8:
        whole = path.with_name("float32.onnx")
        path.rename(whole)
        calibration = None
        if options.calibrate:
            x = pixels(torch.from_numpy(read_faces(options.calibrate)), model.channels, model.mean, model.std)
            calibration = x.contiguous().numpy()
        graph.quantise(whole, path, calibration)
    facts = {name: getattr(model, name) for name in ("channels", "mean", "std", "norm_mean", "norm_std")}
    facts |= {"network": model.network, "embedding_size": model.embedding_size}
    facts |= {"license": license, "source_sha256": model.digest, "precision": _precision(options)}
    text = (
        f"Aligned faces, 112 x 112: x is float32 (n, 3, 112, 112), {model.channels}, (value - {model.mean:g}) / "
        f"{model.std:g}. " + ("u: unit feature, z: its norm." if options.norm else "feature: not normalised.")
    )
    graph.describe(path, {name: str(value) for name, value in facts.items() if value is not None}, text)


def _precision(options: argparse.Namespace) -> str:
    return "float32" if not options.int8 else "int8, static" if options.calibrate else "int8, dynamic"


def _form(options: argparse.Namespace) -> str:
    if is_safetensors(options.output):
        return "safetensors"
    outputs = " and ".join(graph.output_names(options.norm))
    return f"ONNX opset {options.opset}, {_precision(options)}, outputs {outputs}"


def _check(model: Model, exported: Model, faces: np.ndarray, options: argparse.Namespace) -> Difference:
    """Raises a ValueError where the exported model is another."""
    found = difference(model, exported, faces)
    if options.int8:
        if found.cosine < INT8_COSINE:
            hint = "drop --int8" if options.calibrate else "name real faces with --check, or drop --int8"
            raise ValueError(f"int8 differs from PyTorch: {found}; at least {INT8_COSINE} is expected: {hint}")
    elif max(found.feature, found.norm) > EXACT:
        raise ValueError(f"the export differs from PyTorch: {found}; at most {EXACT} is expected; no file is written")
    return found


def _options(words: list[str]) -> argparse.Namespace:
    parser = Parser("python -m tools.export", __doc__)
    add = parser.add_argument
    add("model", type=Path, help="model.pt of a run, arcface_torch's, AdaFace's .ckpt, CVLface's, .safetensors")
    add("--output", type=Path, required=True, metavar="FILE", help="NAME.onnx or NAME.safetensors")
    add("--overwrite", action="store_true", help="replace a file that is there")
    add("--check", type=Path, nargs="+", metavar="DATA", help="real faces: .bin, .rec, folders; default: drawn ones")
    add("--license", metavar="TEXT", help="of the weights, for the metadata")
    add("--norm", action="store_true", help="ONNX: outputs u and z = |h| instead of the feature h")
    add("--opset", type=int, help=f"ONNX: {graph.OPSETS[0]} to {graph.OPSETS[-1]}; default: {graph.OPSET}")
    add("--int8", action="store_true", help="ONNX: a quarter of the size; faster with --calibrate only")
    add("--calibrate", type=Path, nargs="+", metavar="DATA", help="faces that fix the ranges of --int8, as --check")
    add("--network", help="network of the model; default: what the file says, or is")
    add("--embedding-size", type=int, help="likewise")
    add("--channels", choices=("rgb", "bgr"), help="order the model was trained with; default: what the file says")
    add("--mean", type=float, help="pixels become (value - mean) / std; default: likewise")
    add("--std", type=float, help="likewise")
    options = parser.parse_args(words)
    _check_options(options)
    options.opset = options.opset or graph.OPSET
    return options


def _check_options(options: argparse.Namespace) -> None:
    output = options.output
    if output.suffix.lower() not in (".onnx", ".safetensors"):
        raise ValueError(f"--output {output}: expected a name that ends in .onnx or .safetensors")
    if options.model.suffix.lower() == ".onnx":
        raise ValueError(f"{options.model} is an ONNX model already; expected a model of PyTorch")
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise ValueError(f"--output {output}: it is a folder, or its folder does not exist")
    if output.exists() and not options.overwrite:
        raise ValueError(f"--output {output} exists; --overwrite replaces it")
    if options.calibrate and not options.int8:
        raise ValueError("--calibrate: of --int8, which is not asked for")
    if is_safetensors(output):
        given = {"--norm": options.norm, "--int8": options.int8, "--opset": options.opset is not None}
        if wrong := [name for name, is_given in given.items() if is_given]:
            raise ValueError(f"{', '.join(wrong)}: of ONNX; {output} holds the weights alone")
    else:
        graph.need_onnx()
    if options.opset is not None and options.opset not in graph.OPSETS:
        raise ValueError(f"--opset {options.opset}: expected {graph.OPSETS[0]} to {graph.OPSETS[-1]}")


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
