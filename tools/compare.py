"""Compare two faces: their similarity, their norms, and a verdict where a threshold is known.

    python -m tools.compare work_dirs/demo/model.pt a.jpg b.jpg
    python -m tools.compare model.pt a.jpg b.jpg --landmarks points.txt --threshold 0.35

The similarity is the cosine of the features, -1 to 1. A verdict needs a threshold: --threshold, or an evaluation of
this very model whose results.json lies beside it. There the threshold is that at a false accept rate of 1e-3 on lfw
(--target names another set), and it is applied to what was evaluated: features of image and mirror image together.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from eval.embed import FUSIONS, fused
from eval.features import unit
from eval.results import read_evidence, read_results, results_of
from eval.roc import far_name, strict_thresholds
from recognition import FaceEncoder
from recognition.photos import faces
from tools.encoding import Photos, add_model_options, landmarks_of, open_encoder
from utils.cli import Parser, user_errors

FAR = 1e-3
LEAST = round(1 / FAR)  # pairs of strangers that a false accept rate needs


class Threshold(NamedTuple):
    """Same person above `cosine`, of features fused by `fusion`; `source` says where it is from."""

    cosine: float
    fusion: str
    source: str


def main(words: list[str]) -> None:
    """Encode both photos, print what is known of them."""
    options = _options(words)
    paths = [str(path) for path in options.photos]
    landmarks = landmarks_of(Photos(paths, [path.name for path in options.photos]), options.landmarks)
    encoder = open_encoder(options.model, options)
    u, z = encoder.encode(paths, landmarks)
    known = encoder.model.norm_mean is not None and encoder.model.norm_std is not None
    quality = [f", quality {value:+.2f}" for value in encoder.indicator(z)] if known else ["", ""]
    print(encoder.model.describe())
    for path, norm, said in zip(paths, z, quality, strict=True):
        print(f"{path}: norm {norm:.2f}{said}")
    cosine = float(encoder.similarity(u[0], u[1]))
    print(f"similarity {cosine:.4f}")
    if options.threshold is not None:
        print(_verdict(cosine, Threshold(options.threshold, "none", "--threshold")))
        return
    try:
        threshold = evaluated(options.model, encoder, options.target)
    except ValueError as error:
        print(f"no verdict: {error}; --threshold T gives one")
        return
    images = np.stack([face.image for _, face in faces(paths, landmarks, encoder.detector, 2)])
    first, second = unit(fused(encoder.embed, torch.from_numpy(images), threshold.fusion)[0].numpy())
    print(_verdict(float(first @ second), threshold))


def evaluated(model: Path, encoder: FaceEncoder, target: str) -> Threshold:
    """The threshold at a false accept rate of 1e-3 that the evaluation of this model found on a verification set.

    Raises:
        ValueError: says what there is not.
    """
    path = results_of(model)
    if not path.is_file():
        raise ValueError(f"the model has no evaluation beside it ({path.name})")
    results = read_results(path)
    found = results["provenance"].get(target)
    if found is None:
        others = ", ".join(results["provenance"]) or "nothing"
        raise ValueError(f"{path} does not have {target} but {others}, see --target")
    options = found.get("options", {})
    if (
        options.get("fusion") not in FUSIONS
        or results["model_digest"] != encoder.model.digest
        or any(options.get(name) != value for name, value in encoder.model.key().items())
    ):
        raise ValueError(f"{path} is of another model, or of one that took pixels in another way")
    evidence = read_evidence(path, target)
    if not {"dist", "issame"} <= evidence.keys():
        raise ValueError(f"{target} in {path} is no verification set")
    strangers = evidence["dist"][~evidence["issame"].astype(bool)]
    if len(strangers) < LEAST:
        raise ValueError(f"{target} has {len(strangers)} pairs of strangers, a rate of {far_name(FAR)} needs {LEAST}")
    distance = -float(strict_thresholds(-strangers.astype(np.float64), [FAR])[0])
    return Threshold(
        1 - distance / 2, options["fusion"], f"at a false accept rate of {far_name(FAR)} on {target}, {path}"
    )


def _verdict(cosine: float, threshold: Threshold) -> str:
    same = "same person" if cosine > threshold.cosine else "different persons"
    mirrored = "" if threshold.fusion == "none" else " with mirror images"
    above = "above" if cosine > threshold.cosine else "not above"
    return f"{same}: {cosine:.4f}{mirrored} is {above} the threshold {threshold.cosine:.4f} ({threshold.source})"


def _options(words: list[str]) -> argparse.Namespace:
    parser = Parser("python -m tools.compare", __doc__)
    parser.add_argument("model", type=Path, help="model.pt of a run, arcface_torch's, AdaFace's, CVLface's, .onnx ...")
    parser.add_argument("photos", type=Path, nargs=2, metavar="PHOTO", help="JPEG, PNG or BMP")
    parser.add_argument("--threshold", type=float, metavar="T", help="cosine above which two faces are one person's")
    parser.add_argument("--target", default="lfw", help="evaluated set whose threshold is taken; default: lfw")
    add_model_options(parser)
    options = parser.parse_args(words)
    if options.threshold is not None and not -1 <= options.threshold <= 1:
        raise ValueError(f"--threshold {options.threshold}: expected a cosine, -1 to 1")
    return options


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
