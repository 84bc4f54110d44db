"""Five-point alignment: the similarity transform that brings a face's landmarks to InsightFace's 112 x 112 template."""

import cv2
import numpy as np

# face_align.py of InsightFace: eyes, nose, corners of the mouth; x, y in pixels, first those on the image's left
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
TEMPLATE_SIDE = 112


class AlignError(ValueError):
    """Landmarks that determine no transform, or belong to another image."""


def similarity(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rotation, scale and shift that bring `points` nearest to `target` in least squares (Umeyama, 1991).

    In the plane the orientation-preserving similarities are z -> a z + b over the complex numbers, so the best one is
    a linear fit with the same optimum as Umeyama's, and never a mirror image.

    Args:
        points: (n, 2) x, y.
        target: (n, 2) x, y.

    Returns:
        (2, 3) float64, for column vectors (x, y, 1).

    Raises:
        AlignError: another shape, not finite, all points in one place, or a best scale of 0.
    """
    points, target = np.asarray(points, np.float64), np.asarray(target, np.float64)
    if points.shape != target.shape or points.shape[1:] != (2,):
        raise AlignError(f"landmarks of shape {points.shape}: expected {target.shape}")
    if not (np.abs(points) < 1e6).all():  # false for NaN too
        raise AlignError("landmarks that are not finite pixel positions")
    z, w = (array[:, 0] + 1j * array[:, 1] for array in (points, target))
    z_centred, w_centred = z - z.mean(), w - w.mean()
    spread = np.vdot(z_centred, z_centred).real
    if spread <= len(z) * 1e-6:  # a thousandth of a pixel
        raise AlignError("all landmarks are in one place")
    a = np.vdot(z_centred, w_centred) / spread
    if abs(a) * np.sqrt(spread) < 1e-6 * np.linalg.norm(w_centred):
        raise AlignError("landmarks that fit a face in no rotation and scale; are they in another order?")
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def is_mirrored(landmarks: np.ndarray) -> bool:
    """Whether the template's mirror image fits (5, 2) landmarks more than twice as well as the template itself: left
    and right were exchanged, as where the person's own left comes first. A face in profile fits both alike.
    """
    z, w = (np.asarray(points, np.float64) @ [1, 1j] for points in (landmarks, TEMPLATE))
    z, w = z - z.mean(), w - w.mean()
    return bool(abs(z @ w) > 2 * abs(np.vdot(z, w)))  # each is a best scale, but for the same factor


def align(rgb: np.ndarray, landmarks: np.ndarray, side: int = TEMPLATE_SIDE) -> np.ndarray:
    """A photo's face, aligned as InsightFace aligns it: bilinear, black where the photo ends.

    Args:
        rgb: (H, W, 3) uint8.
        landmarks: (5, 2) x, y in pixels of the photo: eyes, nose, corners of the mouth, first those on the image's
            left.
        side: pixels; other sides than 112 scale the template.

    Returns:
        (side, side, 3) uint8.

    Raises:
        AlignError: see `similarity` and `is_mirrored`, or the landmarks' centre lies outside the photo.
    """
    matrix = similarity(landmarks, TEMPLATE * (side / TEMPLATE_SIDE))
    if is_mirrored(landmarks):
        raise AlignError(
            "landmarks of a mirrored face: expected eyes, nose, corners of the mouth, first those on the image's left"
        )
    height, width = rgb.shape[:2]
    x, y = np.mean(landmarks, axis=0)
    if not (0 <= x < width and 0 <= y < height):
        raise AlignError(
            f"landmarks round ({x:.0f}, {y:.0f}) lie outside the photo of {width} x {height} pixels; "
            "are they of another size of it?"
        )
    return cv2.warpAffine(rgb, matrix, (side, side), flags=cv2.INTER_LINEAR)
