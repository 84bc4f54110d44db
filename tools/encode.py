"""Encode photos: unit features, norms and names in a folder that numpy and `tools.search` read.

    python -m tools.encode work_dirs/demo/model.pt photos --output features
    python -m tools.encode model.onnx a.jpg b.jpg --channels rgb --mean 127.5 --std 127.5 --output features
    python -m tools.encode model.pt list.txt --landmarks points.txt --output features

PHOTOS are folders, image files, or text files with a path on each line. A photo of 112 x 112 is taken as aligned;
others need --landmarks or --detector, and are refused without. The folder holds features.npy (n, D) float32 of length
1, norms.npy, indicators.npy of models trained here, names.txt and encoding.json. Memory grows with the photos' names
only. A run that was ended goes on where it was when it is started again with the same arguments; the files appear when
all are whole.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from recognition import FaceEncoder
from tools.encoding import Photos, add_model_options, find_photos, landmarks_of, open_encoder
from tools.gallery import FILES, GalleryWriter
from tools.pack.journal import Journal
from tools.pack.skipped import FINAL
from utils.cli import Parser, user_errors
from utils.files import file_digest


def main(words: list[str]) -> None:
    """Encode, publish, report."""
    options = _options(words)
    photos = find_photos(options.photos)
    landmarks = landmarks_of(photos, options.landmarks)
    encoder = open_encoder(options.model, options)
    print(encoder.model.describe())
    facts = {
        "landmarks": None if options.landmarks is None else file_digest(options.landmarks),
        "detector": None if options.detector is None else encoder.detector.digest,
        "amp": options.amp,
    }
    said = " ".join(str(word) for word in words if word != "--force")
    stamp = _stamp(photos, {**facts, **encoder.model.key()})
    with Journal(options.output, "encode", stamp, said, FILES, options.force) as journal:
        if not journal.finished:
            _write(photos, landmarks, encoder, journal, facts, options)
        notes = journal.notes
        journal.publish()
    print(f"{options.output}  {notes['written']} features of {encoder.dimension} dimensions")
    if notes["left_out"]:
        print(f"left out {notes['left_out']} photos, see {options.output / FINAL}", file=sys.stderr)


def _write(
    photos: Photos,
    landmarks: Sequence[np.ndarray | None] | None,
    encoder: FaceEncoder,
    journal: Journal,
    facts: dict[str, object],
    options: argparse.Namespace,
) -> None:
    writer, total = GalleryWriter(journal, encoder, photos.paths), len(photos.paths)
    if writer.done:
        print(f"going on after {writer.done} of {total} photos")
    rest = None if landmarks is None else landmarks[writer.done :]
    try:
        with tqdm(total=total, initial=writer.done, unit=" photos", disable=None, dynamic_ncols=True) as bar:
            for batch in encoder.stream(photos.paths[writer.done :], rest):
                for bad in batch.bad.values() if options.bad == "stop" else ():
                    raise ValueError(f"{bad}; mend it and start again, or leave such photos out with --bad skip")
                before = writer.done
                writer.write(batch)
                bar.update(writer.done - before)
        writer.finish(facts)
    except OSError as error:
        raise ValueError(
            f"{options.output}: {error.strerror or error} after {writer.done} of {total} photos; mend that and start "
            "again with the same arguments: it goes on from there"
        ) from None
    finally:
        writer.close()


def _options(words: list[str]) -> argparse.Namespace:
    parser = Parser("python -m tools.encode", __doc__)
    parser.add_argument("model", type=Path, help="model.pt of a run, arcface_torch's, AdaFace's, CVLface's, .onnx ...")
    parser.add_argument("photos", type=Path, nargs="+", metavar="PHOTOS", help="folders, files, lists of paths")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the features")
    add_model_options(parser)
    parser.add_argument(
        "--bad", choices=("stop", "skip"), default="stop", help=f"photos that cannot be used; skip: {FINAL} has them"
    )
    parser.add_argument("--force", action="store_true", help="replace the features that are in DIR")
    options = parser.parse_args(words)
    if options.output.suffix in (".npy", ".npz", ".csv") or options.output.is_file():
        raise ValueError(f"--output {options.output}: expected the name of a folder")
    return options


def _stamp(photos: Photos, settings: dict[str, object]) -> str:
    """Alike for the same photos, model and options."""
    sha = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in photos.paths:
        sha.update(path.encode(errors="surrogateescape") + b"\0")
    return sha.hexdigest()


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
