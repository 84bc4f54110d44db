"""Evaluate a model: every target that is in a folder, or those that are named.

    python -m eval work_dirs/demo/model.pt --data data/demo --target demo demo_lq

docs/evaluation.md has the targets, and what is measured on each.
"""

import argparse
import sys
from pathlib import Path

from eval.bins import load_bin
from eval.cache import embedded, read_features
from eval.color import check_color, verdict
from eval.compare import compare, comparison_table
from eval.embed import FUSIONS
from eval.outputs import write_outputs
from eval.report.page import write_report
from eval.results import Record, read_records, read_results, results_of
from eval.table import results_table
from eval.targets import CROSS_RESOLUTION, Opened, open_targets
from eval.verification import BinImages
from recognition.data.sources import open_source
from recognition.embedder import Embedder
from recognition.models import Model, open_model
from utils import parallel
from utils.cli import Parser, report, user_errors
from utils.files import file_digest, writable_folder

WIDTH = 512  # of features made elsewhere, to tell (n, D) from InsightFace's (n, 2 D)


def main(words: list[str]) -> None:
    """Open targets and model, run one target after the other, each written when it is done; one table at the end."""
    options = _options(words)
    if options.check_color:
        return _check_color(options)
    model = None if options.model is None else _open_model(options)
    ijb = {
        "use_norm_score": not options.no_norm_score,
        "use_detector_score": not options.no_detector_score,
        "with_images": model is not None,
    }
    opened = open_targets(options.data, options.target, options.pairs, ijb, open_source)
    _say_what_is_missing(opened, options.data)
    how = {"fusion": options.fusion, **{name: ijb[name] for name in ("use_norm_score", "use_detector_score")}}
    records = _with_features(opened, options, how) if model is None else _with_model(model, opened, options, how)
    if records:
        _show(records, options)
    if opened.wrong:
        raise SystemExit(2)


def _with_model(model: Model, opened: Opened, options: argparse.Namespace, how: dict) -> dict[str, Record]:
    """Embed and score each target; what is wrong with one is said and does not keep the others from running."""
    embed = _embedder(model, options)
    print(model.describe())
    norms = None if model.norm_mean is None or model.norm_std is None else (model.norm_mean, model.norm_std)
    place = (options.output, str(options.model), model.digest)
    folder = None if options.no_cache else options.cache or options.output.with_name("features")
    records = {}
    for name, target in opened.targets.items():
        try:
            features = embedded(embed, target, options.fusion, model.key(), folder)
            records[name] = write_outputs(*place, target, features, how | model.key(), norms, not options.no_faces)
        except (ValueError, OSError) as error:
            opened.wrong[name] = str(error)
            report(f"{name}: {error}")
    return records


def _with_features(opened: Opened, options: argparse.Namespace, how: dict) -> dict[str, Record]:
    """Score features that were made elsewhere."""
    if len(opened.targets) != 1:
        raise ValueError(f"--features: they are of one target; name it: --target {next(iter(opened.targets))}")
    ((name, target),) = opened.targets.items()
    features = read_features(options.features, options.embedding_size or WIDTH, options.fusion != "none")
    place = (options.output, str(options.features), file_digest(options.features))
    return {name: write_outputs(*place, target, features, how, faces=not options.no_faces)}


def _show(records: dict[str, Record], options: argparse.Namespace) -> None:
    print(results_table({name: record.result for name, record in records.items()}))
    notes = [f"{name}: {note}" for name, record in records.items() for note in record.result.notes]
    if options.against:
        _, others, unreadable = read_records(options.against)
        rows, incomparable = compare(records, others)
        print(f"against {options.against}\n{comparison_table(rows)}")
        notes += [*incomparable, *(why for name, why in unreadable.items() if name in records)]
    for note in notes:
        print(f"note: {note}")
    print(f"results  {options.output}, charts and quality in {options.output.with_suffix('')}/")
    print(f"report   {write_report(options.output, faces=not options.no_faces)}")


def _check_color(options: argparse.Namespace) -> None:
    """Say which channel order separates the pairs of a `.bin` better."""
    pair_bin = load_bin(options.data / f"{options.target[0].removesuffix('.bin')}.bin")
    model = _open_model(options, insightface=True)
    result = check_color(BinImages(pair_bin), pair_bin.issame, lambda order: _embedder(model, options, order))
    print(f"{model.describe()}\n{pair_bin.name}: {verdict(result, model.channels)}")


def _open_model(options: argparse.Namespace, insightface: bool = False) -> Model:
    given = (options.network, options.embedding_size, options.channels, options.mean, options.std)
    return open_model(options.model, *given, insightface=insightface)


def _embedder(model: Model, options: argparse.Namespace, channels: str | None = None) -> Embedder:
    device = parallel.choose_device(options.device)
    return Embedder(model.backbone, device, channels or model.channels, model.mean, model.std, options.batch_size)


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


def _options(words: list[str]) -> argparse.Namespace:
    parser = Parser("python -m eval", __doc__)
    add = parser.add_argument
    add(
        "model",
        type=Path,
        nargs="?",
        help="model.pt of a run, arcface_torch's, AdaFace's .ckpt, CVLface's, .safetensors, .onnx",
    )
    add("--data", type=Path, required=True, help="folder of the targets")
    add(
        "--target",
        nargs="+",
        help="lfw (DATA/lfw.bin) scface ijbb cross_resolution surveillance:FACES ...; default: all sets",
    )
    add("--features", type=Path, metavar="FILE.npy", help="(n, D) or (n, 2 D), made elsewhere")
    add("--network", help="network of the model; default: what the file says, or is")
    add("--embedding-size", type=int, help="likewise")
    add("--channels", choices=("rgb", "bgr"), help="order the model was trained with; default: what the file says")
    add("--mean", type=float, help="pixels become (value - mean) / std; default: likewise")
    add("--std", type=float, help="likewise")
    add("--fusion", choices=FUSIONS, default="sum", help="of an image and its mirror image")
    add("--no-norm-score", action="store_true", help="IJB: every image's feature to length 1 before pooling")
    add("--no-detector-score", action="store_true", help="IJB: no weight by the detector's score, as AdaFace's script")
    add("--pairs", type=int, help="that cross_resolution takes of its set, a multiple of 10; default: all")
    add("--against", type=Path, metavar="RESULTS", help="another results.json: differences and p-values")
    add("--no-faces", action="store_true", help="keep no thumbnails of test images, and show none in the report")
    add("--check-color", action="store_true", help="which channel order separates the pairs of TARGET.bin better")
    add("--batch-size", type=int, default=128, help="images at a time; default: 128")
    add("--device", default="auto", help="auto, cuda or cpu")
    add("--output", type=Path, help="default: results.json beside model.pt, NAME_results.json beside NAME")
    add("--cache", type=Path, help="folder of kept features; default: features beside the results")
    add("--no-cache", action="store_true", help="keep no features")
    options = parser.parse_args(words)
    if (options.model is None) == (options.features is None):
        raise ValueError("expected a model or --features FILE.npy, one of them; python -m eval --help shows how")
    if options.check_color and (options.model is None or len(options.target or ()) != 1):
        raise ValueError("--check-color takes a model and one verification set: --target lfw")
    if options.features is not None:
        given = {"--fusion " + options.fusion: options.fusion in ("norm", "average")}
        given |= {f"--{name}": getattr(options, name) is not None for name in ("network", "channels", "mean", "std")}
        if wrong := [name for name, is_given in given.items() if is_given]:
            raise ValueError(f"{', '.join(wrong)}: of no meaning with --features, which are made already")
    if options.pairs is not None and not any(name.startswith(CROSS_RESOLUTION) for name in options.target or ()):
        raise ValueError("--pairs: of cross_resolution, which --target does not name")
    if not options.data.is_dir():
        raise ValueError(f"--data {options.data}: no such folder")
    _check_places(options)
    return options


def _check_places(options: argparse.Namespace) -> None:
    """What would be found wrong only after hours."""
    options.output = options.output or results_of(options.model or options.features)
    if options.output.suffix != ".json":
        raise ValueError(f"--output {options.output}: expected a file name that ends in .json; charts go beside it")
    if options.against is not None:
        read_results(options.against)
        if options.against.resolve() == options.output.resolve():
            raise ValueError(f"--against {options.against} is where the results go; --output FILE.json names another")
    if not options.check_color:
        writable_folder(options.output.parent)


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
