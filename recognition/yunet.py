"""Faces in photos by YuNet, OpenCV's detector; its model file is the user's (OpenCV's model zoo, MIT licence).

    FaceEncoder.open("model.pt", detector=YuNet("face_detection_yunet_2023mar.onnx"))

YuNet gives a row of 15 numbers for each face: box x, y, width, height; right eye, left eye, nose, right and left corner
of the mouth, x and y of each; score. Right and left are the *person's*, so the right eye is on the image's left: this
is ArcFace's order already, and turning it round would mirror every face's landmarks. OpenCV's own FaceRecognizerSF
takes them to the same template in this order.
"""

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from utils.files import file_digest

SIDE = 640  # pixels to which a larger photo's longer side is shrunk: YuNet knows faces of 10 to some 300 pixels
# least score, non-maximum suppression, candidates: OpenCV's demo but for the score
SCORE, OVERLAP, MOST = 0.7, 0.3, 5000


class YuNet:
    """Landmarks of the largest face of a photo.

    Args:
        path: YuNet's ONNX file.
        score: faces below it are passed over, in (0, 1].

    Attributes:
        digest: SHA-256 of the file, in hex.

    Raises:
        ValueError: no such file, one that OpenCV cannot read, a score out of its range.
    """

    def __init__(self, path: str | Path, score: float = SCORE):
        self.path, self.score = Path(path), score
        if not self.path.is_file():
            raise ValueError(
                f"detector {path} does not exist; expected YuNet's model, face_detection_yunet_2023mar.onnx"
            )
        if not 0 < score <= 1:
            raise ValueError(f"detector score {score}: expected a number above 0 and at most 1")
        self.digest = file_digest(self.path)
        self._own = threading.local()  # a network remembers the size it was set to: each thread has its own
        try:
            self.faces(np.zeros((64, 64, 3), np.uint8))
        except cv2.error as error:
            reason = error.err or "OpenCV does not say why"
            raise ValueError(f"detector {path} cannot be used ({reason}); expected YuNet's ONNX model") from None

    def __call__(self, rgb: np.ndarray) -> np.ndarray | None:
        """(H, W, 3) uint8 RGB -> (5, 2) float64 landmarks, as `utils.align.align` takes them, of the face with the
        largest box; None: no face is found.
        """
        found = self.faces(rgb)
        return landmarks(largest(found)) if len(found) else None

    def faces(self, rgb: np.ndarray) -> np.ndarray:
        """(k, 15) float64, YuNet's rows in pixels of the photo."""
        height, width = rgb.shape[:2]
        scale = min(1.0, SIDE / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        if scale < 1:
            rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        network = self._network()
        network.setInputSize(size)
        found: Any = network.detect(np.ascontiguousarray(rgb[:, :, ::-1]))[1]  # None where OpenCV's types say array
        if found is None:
            return np.empty((0, 15))
        back = np.tile([width / size[0], height / size[1]], 7)
        return np.concatenate([found[:, :14] * back, found[:, 14:]], axis=1, dtype=np.float64)

    def _network(self) -> cv2.FaceDetectorYN:
        if not hasattr(self._own, "network"):
            self._own.network = cv2.FaceDetectorYN.create(str(self.path), "", (SIDE, SIDE), self.score, OVERLAP, MOST)
        return self._own.network


def largest(found: np.ndarray) -> np.ndarray:
    """The row (15,) of (k, 15) whose box is largest."""
    return found[np.argmax(found[:, 2] * found[:, 3])]


def landmarks(row: np.ndarray) -> np.ndarray:
    """YuNet's row (15,) -> (5, 2) in ArcFace's order: eyes, nose, corners of the mouth, first those on the image's
    left, which are the person's right ones.
    """
    return np.asarray(row[4:14], np.float64).reshape(5, 2)
