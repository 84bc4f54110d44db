"""Smooth anti-aliased shapes at twice the final resolution, and the head's pose.

Points of the face lie on an ellipsoid and are turned with the head, so that nose, eyes and mouth move against each
other and the outline; then five landmarks are aligned to ArcFace's template, as real photos are.
"""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike

from recognition.data.synthetic.identity import Identity
from recognition.data.synthetic.photo import Photo

SIZE = 112
CENTRE = complex(56, 66)  # where the crop is shrunk to: a little more hair and chin than ArcFace's crops show
SHRINK = 0.88
TEMPLATE = np.array([38.3 + 51.7j, 73.5 + 51.5j, 56.0 + 71.7j, 41.5 + 92.4j, 70.7 + 92.2j])
DEEP = 38.0  # the head's half depth
SCALE = 2  # drawn at this multiple of the final resolution
_SHIFT = 4  # OpenCV's fractional bits


@lru_cache(maxsize=64)
def _spline(n: int, closed: bool, steps: int = 6) -> np.ndarray:
    """The matrix that takes n control points to a Catmull-Rom curve through them."""
    t = np.arange(steps)[:, None] / steps
    basis = np.hstack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3]) / 2
    spans = n if closed else n - 1
    matrix = np.zeros((spans * steps + (not closed), n))
    for span in range(spans):
        for column, weights in zip(range(span - 1, span + 3), basis.T, strict=True):
            matrix[span * steps : (span + 1) * steps, column % n if closed else np.clip(column, 0, n - 1)] += weights
    if not closed:
        matrix[-1, -1] = 1
    return matrix


def smooth(points: ArrayLike, closed: bool = True) -> np.ndarray:
    """A smooth curve through `points` (n, 2 or 3)."""
    through = np.asarray(points, dtype=np.float64)
    return _spline(len(through), closed) @ through


def mirrored(points: list[tuple[float, float]]) -> np.ndarray:
    """A closed symmetric outline from its right half, listed from top to bottom."""
    right = np.array(points, dtype=np.float64)
    left = right[::-1] * (-1, 1)
    return np.vstack([right, left[left[:, 0] < 0]])


def ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    """24 points of an ellipse."""
    angle = np.arange(24) * (np.pi / 12)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


class Canvas:
    """An RGB image to draw on, in coordinates of the final image."""

    def __init__(self, size: int, colour: np.ndarray):
        self.pixels = np.empty((size * SCALE, size * SCALE, 3), dtype=np.uint8)
        self.pixels[:] = colour

    def fill(self, points: np.ndarray, colour: np.ndarray) -> None:
        """Fill a polygon (n, 2)."""
        cv2.fillPoly(self.pixels, [_fixed(points)], colour.tolist(), cv2.LINE_AA, _SHIFT)

    def line(self, points: np.ndarray, colour: np.ndarray, width: float, closed: bool = False) -> None:
        """Draw a line through points (n, 2), `width` pixels thick."""
        thickness = max(1, round(width * SCALE))
        cv2.polylines(self.pixels, [_fixed(points)], closed, colour.tolist(), thickness, cv2.LINE_AA, _SHIFT)

    def image(self) -> np.ndarray:
        """The finished drawing (size, size, 3) uint8."""
        size = len(self.pixels) // SCALE
        return cv2.resize(self.pixels, (size, size), interpolation=cv2.INTER_AREA)


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round(((points + 0.5) * SCALE - 0.5) * (1 << _SHIFT)).astype(np.int32)


class Sketch:
    """One photo being drawn: the canvas, and the way from the face's frame to it."""

    def __init__(self, who: Identity, photo: Photo, background: np.ndarray):
        self.who, self.photo = who, photo
        self.canvas = Canvas(SIZE, background)
        self.turn = np.array([np.sin(photo.yaw), np.sin(photo.pitch)])
        self.squeeze = np.cos([photo.yaw, photo.pitch])
        self._align()

    def _align(self) -> None:
        """The least-squares similarity from the five landmarks, as turned, to the template."""
        who = self.who
        marks = [(-who.eye_x, who.eye_y), (who.eye_x, who.eye_y), (0, who.nose[1])]
        marks += [(-who.mouth[0], who.mouth[1]), (who.mouth[0], who.mouth[1])]
        seen = self._turned(np.array(marks, dtype=np.float64), np.array([0, 0, who.nose[2], 0, 0]))
        x = seen[:, 0] + 1j * seen[:, 1]
        target = CENTRE + SHRINK * (TEMPLATE - CENTRE)
        shift_x, shift_y, scale = self.photo.crop
        self.scale = scale * np.vdot(x - x.mean(), target - target.mean()) / np.vdot(x - x.mean(), x - x.mean()).real
        self.origin = target.mean() - self.scale * x.mean() + complex(shift_x, shift_y)

    def depth_at(self, x: float | np.ndarray, y: float | np.ndarray) -> np.ndarray:
        """How far the surface at (x, y) is in front of the head's centre."""
        return DEEP * np.sqrt(np.maximum(1 - (x / (1.04 * self.who.width)) ** 2 - (y / 58) ** 2, 0))

    def _turned(self, points: np.ndarray, lift: float | np.ndarray) -> np.ndarray:
        depth = self.depth_at(points[:, 0], points[:, 1]) + lift
        return points * self.squeeze + depth[:, None] * self.turn

    def _placed(self, points: np.ndarray) -> np.ndarray:
        z = self.scale * (points[:, 0] + 1j * points[:, 1]) + self.origin
        return np.stack([z.real, z.imag], axis=1)

    def on(self, points: np.ndarray, lift: float | np.ndarray = 0.0) -> np.ndarray:
        """Points on the face's surface, `lift` pixels above it -> points of the crop."""
        return self._placed(self._turned(np.asarray(points, dtype=np.float64), lift))

    def around(self, points: np.ndarray, depth: float | np.ndarray = 0.0) -> np.ndarray:
        """Points of an outline, which keeps its width when the head turns, at `depth` -> points of the crop."""
        depth = np.broadcast_to(depth, len(points))
        return self._placed(np.asarray(points, dtype=np.float64) + depth[:, None] * self.turn)

    def fill(self, points: np.ndarray, colour: np.ndarray, lift: float = 0.0) -> None:
        """Fill a shape that lies on the face."""
        self.canvas.fill(self.on(points, lift), colour)

    def line(
        self,
        points: np.ndarray,
        colour: np.ndarray,
        width: float,
        lift: float | np.ndarray = 0.0,
        closed: bool = False,
    ) -> None:
        """Draw a line that lies on the face."""
        self.canvas.line(self.on(points, lift), colour, width * abs(self.scale), closed)
