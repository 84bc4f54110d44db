"""Evaluate IJB-B or IJB-C 1:1, with the flags of InsightFace's eval_ijbc.py.

    python -m eval.ijb_11 --model-prefix model.pt --image-path IJBB --result-dir results --job a --target IJBB

Writes results/a/ijbb.npy (the scores of all pairs in the list's order), ijbb.pdf and ijbb.png (the ROC); prints TAR
at FAR 1e-6 to 1e-1.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from eval.cache import embedded, read_features
from eval.ijb.meta import TARGETS
from eval.ijb.report import curve, draw_roc, method_names, read_scores, tar_table, write_scores
from eval.ijb.target import IJB
from recognition.embedder import Embedder
from recognition.models import open_model
from utils import parallel
from utils.cli import Parser, user_errors


def main(words: list[str]) -> None:
    """Lists, features, scores, table and drawing."""
    parser = parser_of("python -m eval.ijb_11", __doc__)
    parser.add_argument("--compare", nargs="+", type=Path, default=[], metavar="FILE", help="score files to draw too")
    options = parser.parse_args(words)
    target = open_target(options)
    issame = target.pairs.issame
    others = [read_scores(path, len(issame)) for path in options.compare]
    folder = options.result_dir / options.job
    folder.mkdir(parents=True, exist_ok=True)
    templates = target.templates(image_features(options, target))
    for note in templates.notes:
        print(f"note: {note}")
    path = folder / f"{target.name}.npy"
    scores = target.pair_scores(templates)
    write_scores(path, scores)
    methods = zip(method_names([path, *options.compare]), [scores, *others], strict=True)
    curves = {method: curve(scores, issame) for method, scores in methods}
    draw_roc(path, curves)
    print(tar_table(curves, options.target))
    print(f"scores  {path}\nROC     {path.with_suffix('.pdf')}, {path.with_suffix('.png').name}")


def parser_of(prog: str, description: str) -> Parser:
    """The flags that 1:1 and 1:N share."""
    parser = Parser(prog, description)
    parser.add_argument("--model-prefix", type=Path, metavar="MODEL", help="model.pt of a run, arcface_torch's, "
                        "AdaFace's .ckpt, CVLface's, .onnx")  # fmt: skip
    parser.add_argument("--image-path", type=Path, required=True, help="InsightFace's folder: meta/ and loose_crop/")
    parser.add_argument("--result-dir", type=Path, default=Path("."), help="default: the current folder")
    parser.add_argument("--batch-size", type=int, default=128, help="images at a time; default: 128")
    parser.add_argument("--network", help="network of the model; default: what the file says, or is")
    parser.add_argument("--job", default="insightface", help="name of the folder in RESULT_DIR; default: insightface")
    parser.add_argument("--target", choices=TARGETS, default="IJBC", help="default: IJBC")
    parser.add_argument("--features", type=Path, metavar="FILE.npy", help="(n, D) of the images, in place of a model; "
                        "(n, 2 x EMBEDDING_SIZE): InsightFace's, image beside mirror image")  # fmt: skip
    parser.add_argument("--embedding-size", type=int, help="of the model or features; default: the file's, or 512")
    parser.add_argument("--no-norm-score", action="store_true", help="every image's feature to length 1 before pooling")
    parser.add_argument("--no-detector-score", action="store_true", help="no weight by the detector's score")
    parser.add_argument("--no-flip", action="store_true", help="without the mirror image")
    parser.add_argument(
        "--channels", choices=("rgb", "bgr"), help="default: what the file says, else InsightFace's rgb"
    )
    parser.add_argument("--mean", type=float, help="pixels become (value - mean) / std; default: likewise, 127.5")
    parser.add_argument("--std", type=float, help="likewise")
    parser.add_argument("--no-cache", action="store_true", help="do not keep features in RESULT_DIR/features")
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu")
    return parser


def open_target(options: argparse.Namespace) -> IJB:
    """The protocol that the flags ask for, its lists checked."""
    if (options.model_prefix is None) == (options.features is None):
        raise ValueError("expected --model-prefix MODEL or --features FILE.npy, one of them")
    norm, detector = not options.no_norm_score, not options.no_detector_score
    return IJB(options.image_path, options.target, norm, detector, with_images=options.features is None)


def image_features(options: argparse.Namespace, target: IJB) -> np.ndarray:
    """(n, D) float32 of the target's images: by the model, or from the file."""
    if options.features is not None:
        return read_features(options.features, options.embedding_size or 512, not options.no_flip).h
    given = (options.network, options.embedding_size, options.channels, options.mean, options.std)
    model = open_model(options.model_prefix, *given, insightface=True)
    device = parallel.choose_device(options.device)
    embed = Embedder(model.backbone, device, model.channels, model.mean, model.std, options.batch_size)
    print(model.describe())
    folder = None if options.no_cache else options.result_dir / "features"
    return embedded(embed, target, "none" if options.no_flip else "sum", model.key(), folder).h


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
