"""IJB-B or IJB-C 1:1 with the flags of InsightFace's eval_ijbc.py.

python -m eval.ijb_11 --model-prefix model.pt --image-path IJBB --result-dir results --network r50 --job a --target IJBB

Writes results/a/ijbb.npy (the scores of all pairs in the list's order), ijbb.pdf and ijbb.png (the ROC); prints TAR
at FAR 1e-6 to 1e-1.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from eval.cache import cached
from eval.features import Features, checked, extract
from eval.ijb.meta import TARGETS
from eval.ijb.report import curve, draw_roc, method_names, read_scores, tar_table, write_scores
from eval.ijb.target import IJB
from eval.network import network_of
from recognition.backbones import get_backbone
from recognition.embedder import Embedder
from utils import parallel
from utils.checkpoint import load_backbone
from utils.cli import Parser, user_errors
from utils.files import file_digest


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
    parser.add_argument("--model-prefix", type=Path, help="model.pt of a run, or of arcface_torch")
    parser.add_argument("--image-path", type=Path, required=True, help="InsightFace's folder: meta/ and loose_crop/")
    parser.add_argument("--result-dir", type=Path, default=Path("."), help="default: the current folder")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--network", help="network of the model; default: the config.json beside it")
    parser.add_argument("--job", default="insightface", help="name of the folder in RESULT_DIR; default: insightface")
    parser.add_argument("--target", choices=TARGETS, default="IJBC")
    parser.add_argument("--features", type=Path, metavar="FILE.npy", help="(n, D) of the images, in place of a model; "
                        "(n, 2 x EMBEDDING_SIZE): InsightFace's, image beside mirror image")  # fmt: skip
    parser.add_argument("--embedding-size", type=int, help="of the model or features; default: config.json's, or 512")
    parser.add_argument("--no-norm-score", action="store_true", help="every image's feature to length 1 before pooling")
    parser.add_argument("--no-detector-score", action="store_true", help="no weight by the detector's score")
    parser.add_argument("--no-flip", action="store_true", help="without the mirror image")
    parser.add_argument("--channels", choices=("rgb", "bgr"), default="rgb", help="default: rgb, InsightFace's")
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
        return read_features(options.features, options.embedding_size or 512, not options.no_flip)
    size = network_of(options.model_prefix, options.network, options.embedding_size)
    backbone = get_backbone(*size)
    load_backbone(backbone, options.model_prefix)
    device = parallel.choose_device(options.device)
    embed = Embedder(backbone, device, options.channels, batch_size=options.batch_size)
    print(f"model    {options.model_prefix}, {size[0]}, channels {options.channels}, pixels to [-1, 1]")
    fusion = "none" if options.no_flip else "sum"
    key = {
        "model": file_digest(options.model_prefix),
        "data": target.images.digest(),
        "fusion": fusion,
        "colour": [embed.channels, embed.mean, embed.std],
    }

    def make() -> Features:
        with tqdm(total=len(target.images), desc=target.name, unit="image", dynamic_ncols=True, mininterval=1) as bar:
            return extract(embed, target.images, fusion, bar.update)

    folder = None if options.no_cache else options.result_dir / "features"
    features, kept = cached(folder, target.name, key, make)
    if kept:
        print(f"features kept in {folder}")
    return features.h


def read_features(path: Path, size: int, flip: bool) -> np.ndarray:
    """(n, D) float32 from a file of (n, D), or of (n, 2 `size`): the halves' sum, the first one without `flip`.

    Raises:
        ValueError: no such array, NaN or infinity in it, no second half to leave out.
        OSError: it cannot be read.
    """
    try:
        h = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no array of features: {error}") from None
    if not isinstance(h, np.ndarray):
        raise ValueError(f"{path} is an archive; expected one array (images, dimension)")
    h = checked(h).h
    halves = h.shape[1] == 2 * size
    if not flip and not halves:
        raise ValueError(f"--no-flip: {path} has {h.shape[1]} columns, not {2 * size} with a mirror image to leave out")
    what = ("image plus mirror image" if flip else "the image's half") if halves else "as they are"
    print(f"features {path}, {h.shape[0]} x {h.shape[1]}, {what}")
    if not halves:
        return h
    return h[:, :size] + h[:, size:] if flip else np.ascontiguousarray(h[:, :size])


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
