"""Thumbnails of the images that the evidence names (`eval.hardest`), for the report: `results/NAME_faces.json`.

A file of its own: who must not pass faces on removes it, or has it not written (`--no-faces`, `val_faces=False`).
"""

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from eval.features import Images
from eval.results import evidence_file
from utils import jpeg
from utils.files import replacing

SIDE, QUALITY = 80, 80  # pixels, JPEG


class Face(NamedTuple):
    """`name`: as the target's list has it. `data`: a JPEG in base64."""

    name: str
    data: str


def faces_file(path: Path | str, target: str) -> Path:
    """Where a target's thumbnails are, of results.json at `path`."""
    evidence = evidence_file(path, target)
    return evidence.with_name(f"{evidence.stem}_faces.json")


def write_faces(path: Path | str, target: str, images: Images | None, evidence: Mapping[str, np.ndarray]) -> None:
    """Write the thumbnails of a target, whole or not at all; earlier ones go.

    Args:
        path: of results.json.
        images: the target's; None: keep no faces.
        evidence: of its result.

    Raises:
        ValueError: an image cannot be read.
        OSError: the file cannot be written.
    """
    file = faces_file(path, target)
    named = [
        array for name, array in evidence.items() if name.startswith(("hard/", "sheet/")) and array.dtype == np.int32
    ]
    if images is None or not named:
        return file.unlink(missing_ok=True)
    content = {}
    for index in np.unique(np.concatenate([array.ravel() for array in named])).tolist():
        image = cv2.resize(images.read(index, index + 1)[0], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        content[index] = [images.names[index], base64.b64encode(jpeg.encode(image, QUALITY)).decode()]
    with replacing(file) as beside:
        beside.write_text(json.dumps(content), encoding="utf-8")


def read_faces(path: Path | str, target: str) -> dict[int, Face]:
    """Index -> thumbnail; empty where none were kept.

    Raises:
        ValueError: the file is damaged or another program's.
    """
    file = faces_file(path, target)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        faces = {int(index): Face(str(name), str(data)) for index, (name, data) in content.items()}
        for face in faces.values():
            jpeg.check(base64.b64decode(face.data, validate=True))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, binascii.Error) as error:
        raise ValueError(f"{file} cannot be read ({error}); evaluate that model again") from None
    return faces
