"""Evaluate a model on verification sets.

python -m eval work_dirs/demo/model.pt --data data/demo --target demo demo_lq
"""

import sys
from pathlib import Path

from eval.bins import load_bin
from eval.embed import Embedder
from eval.table import results_table, write_results
from eval.verification import check_bin, find_bins, verify
from recognition.models import open_model
from utils import parallel
from utils.cli import Parser, user_errors


def main(words: list[str]) -> None:
    """Load the model, run the targets that are there, print the table and write results.json."""
    parser = Parser("python -m eval", __doc__)
    parser.add_argument(
        "model", type=Path, help="model.pt of a run, arcface_torch's, AdaFace's .ckpt, CVLface's, .onnx"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the .bin files")
    parser.add_argument("--target", nargs="+", required=True, help="names: lfw means DATA/lfw.bin")
    parser.add_argument("--network", help="network of the model; default: what the file says, or is")
    parser.add_argument("--embedding-size", type=int, help="likewise")
    parser.add_argument(
        "--channels", choices=("rgb", "bgr"), help="order the model was trained with; default: likewise"
    )
    parser.add_argument("--mean", type=float, help="pixels become (value - mean) / std; default: likewise")
    parser.add_argument("--std", type=float, help="likewise")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu")
    parser.add_argument("--output", type=Path, help="default: results.json beside the model")
    options = parser.parse_args(words)

    found, missing = find_bins(options.data, options.target)
    if not found:
        raise ValueError(f"none of {', '.join(missing)} is in {options.data}; expected {missing[0]}.bin there")
    for name in missing:
        print(f"skipped {name}: no {name}.bin in {options.data}")
    model = open_model(
        options.model, options.network, options.embedding_size, options.channels, options.mean, options.std
    )
    device = parallel.choose_device(options.device)
    embed = Embedder(model.backbone, device, model.channels, model.mean, model.std, options.batch_size)
    results = {}
    for name, path in found.items():
        results[name] = verify(embed, check_bin(load_bin(path)))
        print(results_table({name: results[name]}) if len(found) == 1 else f"{name}: done", flush=True)
    if len(found) > 1:
        print(results_table(results))
    output = options.output or options.model.with_name("results.json")
    write_results(output, options.model, results)
    print(f"results  {output}")


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
