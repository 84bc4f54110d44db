"""Evaluate a model: every target that is in a folder, or those that are named.

python -m eval work_dirs/demo/model.pt --data data/demo --target demo demo_lq
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from eval.cache import cached
from eval.embed import FUSIONS, Embed
from eval.features import Features, extract
from eval.network import network_of
from eval.protocol import Target
from eval.results import Record, write_results
from eval.table import results_table
from eval.targets import Opened, open_targets
from recognition.backbones import get_backbone
from recognition.embedder import Embedder
from utils import parallel
from utils.checkpoint import load_backbone
from utils.cli import Parser, report, user_errors
from utils.files import file_digest


def main(words: list[str]) -> None:
    """Open targets and model, run one target after the other, each written when it is done; one table at the end."""
    options = _options(words)
    opened = open_targets(options.data, options.target)
    _say_what_is_missing(opened, options.data)
    backbone = get_backbone(*network_of(options.model, options.network, options.embedding_size))
    load_backbone(backbone, options.model)
    embed = Embedder(backbone, parallel.choose_device(options.device), options.channels, batch_size=options.batch_size)
    digest = file_digest(options.model)
    results = {}
    for name, target in opened.targets.items():
        try:
            features, data_digest = _features(embed, target, digest, options)
            result = target.score(features)
        except ValueError as error:
            opened.wrong[name] = " ".join(str(error).split())
            report(f"{name}: {opened.wrong[name]}")
            continue
        record = Record(result, target.version, data_digest, {"fusion": options.fusion})
        write_results(options.output, options.model, digest, {name: record})
        results[name] = result
    if results:
        print(results_table(results))
        print("\n".join(f"note: {name}: {note}" for name, result in results.items() for note in result.notes), end="")
        print(f"results  {options.output}")
    if opened.wrong:
        raise SystemExit(2)


def _options(words: list[str]) -> argparse.Namespace:
    parser = Parser("python -m eval", __doc__)
    parser.add_argument("model", type=Path, help="model.pt of a run, or of arcface_torch")
    parser.add_argument("--data", type=Path, required=True, help="folder of the targets")
    parser.add_argument("--target", nargs="+", help="names: lfw means DATA/lfw.bin; default: all that is in DATA")
    parser.add_argument("--network", help="network of the model; default: the config.json beside it")
    parser.add_argument("--embedding-size", type=int, help="likewise")
    parser.add_argument("--channels", choices=("rgb", "bgr"), default="rgb", help="order the model was trained with")
    parser.add_argument("--fusion", choices=FUSIONS, default="sum", help="of an image and its mirror image")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu")
    parser.add_argument("--output", type=Path, help="default: results.json beside the model")
    parser.add_argument("--cache", type=Path, help="folder of kept features; default: features beside the results")
    parser.add_argument("--no-cache", action="store_true", help="keep no features")
    options = parser.parse_args(words)
    options.output = options.output or options.model.with_name("results.json")
    if options.output.suffix != ".json":
        raise ValueError(f"--output {options.output}: expected a file name that ends in .json; plots go beside it")
    return options


def _say_what_is_missing(opened: Opened, data: Path) -> None:
    for name, why in opened.wrong.items():
        report(f"{name}: {why}")
    for name, why in opened.skipped.items():
        print(f"skipped {name}: {why}")
    if opened.targets:
        return
    if opened.wrong:
        raise SystemExit(2)
    raise ValueError(f"nothing to evaluate in {data}: {'; '.join(opened.skipped.values()) or 'no target is there'}")


def _features(embed: Embed, target: Target, model_digest: str, options) -> tuple[Features, str]:
    """Of the target's images, out of the cache where they are there; and the digest of the images."""
    data_digest = target.images.digest()
    key = {
        "model": model_digest,
        "data": data_digest,
        "fusion": options.fusion,
        "colour": [embed.channels, embed.mean, embed.std],
    }
    folder = None if options.no_cache else options.cache or options.output.with_name("features")

    def make() -> Features:
        with tqdm(total=len(target.images), desc=target.name, unit="image", dynamic_ncols=True, mininterval=1) as bar:
            return extract(embed, target.images, options.fusion, bar.update)

    return cached(folder, target.name, key, make)[0], data_digest


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
