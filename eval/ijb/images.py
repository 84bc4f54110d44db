"""The faces of IJB: crops round each face with five landmarks, aligned as InsightFace's IJB scripts align them."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from utils import jpeg
from utils.align import TEMPLATE, TEMPLATE_SIDE, AlignError, similarity


class FaceImages:
    """`loose_crop/` as a target's images.

    Args:
        folder: of the image files.
        names: (n,) file names in it.
        landmarks: (n, 5, 2) float32 x, y in pixels of each file.
        listed: the list that names them, a line each.

    Raises:
        ValueError: an image is not there; the message counts them and names the first, the list and its line.
    """

    def __init__(self, folder: Path, names: Sequence[str], landmarks: np.ndarray, listed: Path):
        self.folder, self.names, self.landmarks = Path(folder), names, landmarks
        if not self.folder.is_dir():
            raise ValueError(f"{folder} is not there; expected InsightFace's folder of images beside meta/")
        there = set(os.listdir(folder))
        absent = (name for name in names if name not in there)
        missing = [name for name in absent if not (self.folder / name).is_file()]  # a name may hold a folder
        if missing:
            line = list(names).index(missing[0]) + 1
            raise ValueError(
                f"{listed}:{line}: {missing[0]} is not in {folder}; {len(missing)} of {len(names)} are not"
            )

    def __len__(self) -> int:
        return len(self.names)

    def read(self, start: int, end: int) -> np.ndarray:
        """(end - start, 112, 112, 3) uint8 RGB.

        Raises:
            ValueError: names the image that cannot be read or aligned.
        """
        faces = np.empty((end - start, TEMPLATE_SIDE, TEMPLATE_SIDE, 3), np.uint8)
        for face, name, landmarks in zip(faces, self.names[start:end], self.landmarks[start:end], strict=True):
            try:
                face[:] = warp(_decoded((self.folder / name).read_bytes()), landmarks)
            except (jpeg.ImageError, AlignError, OSError) as error:
                raise ValueError(f"{self.folder / name} cannot be used: {error}") from None
        return faces

    def digest(self) -> str:
        """Key for kept features: of names, sizes and dates of the files, landmarks and template.

        A copy of the folder with dates of its own has another one; what names the data wherever it lies is
        `eval.ijb.target.IJB.digest`.
        """
        sha = hashlib.sha256(repr((TEMPLATE.tolist(), len(self))).encode())
        for name in self.names:
            facts = (self.folder / name).stat()
            sha.update(f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
        sha.update(np.ascontiguousarray(self.landmarks).tobytes())
        return sha.hexdigest()


def warp(rgb: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """A face as `eval_ijbc.py` aligns it: bilinear, black where the image ends.

    There the matrix is skimage's, rounded as float32; in float64 one of 25,000 values of a face differs, by one level.
    Landmarks may lie outside the image, which is aligned there too.

    Args:
        rgb: (H, W, 3) uint8.
        landmarks: (5, 2) x, y in pixels: eyes, nose, corners of the mouth, first those on the image's left.

    Returns:
        (112, 112, 3) uint8.

    Raises:
        AlignError: landmarks that determine no similarity.
    """
    return cv2.warpAffine(rgb, similarity(landmarks, TEMPLATE), (TEMPLATE_SIDE, TEMPLATE_SIDE))


def _decoded(data: bytes) -> np.ndarray:
    """By OpenCV, as in the scripts: what libjpeg only warns of is an image there too."""
    jpeg.check(data, jpeg.MAX_PHOTO_SIDE)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise jpeg.ImageError(f"image of {len(data)} bytes cannot be decoded")
    return image
