"""Five-point alignment against menpo, against known transforms, and on photos with a mark at each landmark."""

import cv2
import numpy as np
import pytest

from utils.align import TEMPLATE, AlignError, align, is_mirrored, similarity

RNG = np.random.default_rng(0)


def turned(points: np.ndarray, angle: float, scale: float, shift=(0, 0)) -> np.ndarray:
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return scale * points @ rotation.T + shift


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


@pytest.mark.parametrize("angle", np.linspace(-np.pi, np.pi, 9))
@pytest.mark.parametrize("scale", [0.05, 1, 37])
def test_a_known_transform_is_recovered(angle, scale):
    matrix = similarity(turned(TEMPLATE, angle, scale, (300, -40)), TEMPLATE)
    back = turned(np.eye(2), -angle, 1 / scale).T
    assert np.allclose(matrix[:, :2], back, atol=1e-9 / scale)
    assert np.allclose(apply(matrix, turned(TEMPLATE, angle, scale, (300, -40))), TEMPLATE, atol=1e-9)


def test_menpo_finds_the_same():
    menpo = pytest.importorskip("menpo.transform")
    shape = pytest.importorskip("menpo.shape")
    for case in range(20):
        points = turned(TEMPLATE, RNG.uniform(-3, 3), RNG.uniform(0.3, 9), RNG.normal(0, 200, 2))
        points += RNG.normal(0, 4, points.shape) * (case % 2)
        theirs = menpo.AlignmentSimilarity(shape.PointCloud(points), shape.PointCloud(TEMPLATE)).h_matrix
        ours = similarity(points, TEMPLATE)
        sizes = [np.sqrt(np.linalg.det(matrix[:2, :2])) for matrix in (ours, theirs)]
        assert np.allclose(ours[:, :2] / sizes[0], theirs[:2, :2] / sizes[1], atol=1e-10)
        # menpo's scale is the ratio of the norms; the least squares' is that times the correlation
        centred = points - points.mean(0), TEMPLATE - TEMPLATE.mean(0)
        rotated = centred[0] @ (theirs[:2, :2] / sizes[1]).T
        correlation = (rotated * centred[1]).sum() / np.linalg.norm(centred[0]) / np.linalg.norm(centred[1])
        assert sizes[0] == pytest.approx(sizes[1] * correlation, rel=1e-10)


def test_no_other_rotation_scale_or_shift_is_nearer():
    """The gradient of the squared distance by each of the four parameters is 0, and it is the fit of lstsq."""
    for _ in range(20):
        points = turned(TEMPLATE, RNG.uniform(-3, 3), RNG.uniform(0.3, 9)) + RNG.normal(0, 5, (5, 2))
        (a, _, x), (b, _, y) = matrix = similarity(points, TEMPLATE)
        rest = apply(matrix, points) - TEMPLATE
        angle = np.arctan2(b, a)
        by_angle = (rest * turned(points, angle + np.pi / 2, np.hypot(a, b))).sum()
        by_scale = (rest * turned(points, angle, 1)).sum()
        assert np.allclose([by_angle, by_scale, *rest.sum(0)], 0, atol=1e-8 * np.abs(points).sum())
        u, v = points.T
        one, none = np.ones(5), np.zeros(5)
        system = np.concatenate([np.stack([u, -v, one, none], 1), np.stack([v, u, none, one], 1)])
        assert np.allclose(np.linalg.lstsq(system, TEMPLATE.T.ravel(), rcond=None)[0], [a, b, x, y])


SWAPPED = [1, 0, 2, 4, 3]  # the person's left first


@pytest.mark.parametrize("turn", range(0, 360, 30))
@pytest.mark.parametrize("yaw", [0, 30, 60])
def test_landmarks_of_a_mirrored_face_are_noticed(turn, yaw):
    points = seen_from(yaw)
    photo = np.zeros((300, 300, 3), np.uint8)
    placed = turned(points - points.mean(axis=0), np.radians(turn), 1.5, (150, 150))
    align(photo, placed)
    if yaw < 60:
        with pytest.raises(AlignError, match="mirrored"):
            align(photo, placed[SWAPPED])


@pytest.mark.parametrize("yaw", range(-110, 111, 10))
def test_a_face_in_profile_is_none_that_is_mirrored(yaw):
    assert not is_mirrored(seen_from(yaw))
    align(np.zeros((200, 200, 3), np.uint8), seen_from(yaw))


def seen_from(yaw: float) -> np.ndarray:
    """The template's points on a head that is turned by so many degrees, the nose in front of the rest."""
    depth = np.array([0, 0, 18, 4, 4])  # pixels of the template
    centre = TEMPLATE.mean(axis=0)
    x = (TEMPLATE[:, 0] - centre[0]) * np.cos(np.radians(yaw)) + depth * np.sin(np.radians(yaw))
    return np.stack([x + centre[0], TEMPLATE[:, 1]], axis=1)


def test_never_mirrored():
    for _ in range(50):
        matrix = similarity(RNG.normal(0, 50, (5, 2)) * [-1, 1], TEMPLATE)
        assert np.linalg.det(matrix[:, :2]) > 0
    swapped = TEMPLATE * [-1, 1]
    assert np.linalg.det(similarity(swapped, TEMPLATE)[:, :2]) > 0


def test_points_on_a_line_are_enough():
    line = np.array([[10.0, 5], [20, 5], [30, 5], [40, 5], [50, 5]])
    assert np.allclose(apply(similarity(line, turned(line, 1, 2)), line), turned(line, 1, 2))


@pytest.mark.parametrize("side", [112, 56, 224])
def test_landmarks_come_to_their_places(side):
    points = turned(TEMPLATE, 0.5, 4, (150, 60))
    photo = np.zeros((700, 800, 3), np.uint8)
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)]
    for point, colour in zip(points, colours, strict=True):
        cv2.circle(photo, [round(x) for x in point], 22, colour, -1)
    image = align(photo, points, side)
    assert image.shape == (side, side, 3) and image.dtype == np.uint8
    for (x, y), colour in zip(TEMPLATE * side / 112, colours, strict=True):
        assert tuple(image[round(y), round(x)]) == colour


def test_an_aligned_face_stays_as_it_is():
    face = RNG.integers(0, 256, (112, 112, 3), dtype=np.uint8)
    assert np.array_equal(align(face, TEMPLATE), face)


@pytest.mark.parametrize(
    "points, words",
    [
        (np.ones((5, 2)), "in one place"),
        (np.full((5, 2), np.nan), "not finite"),
        (TEMPLATE + [[np.inf, 0], *[[0, 0]] * 4], "not finite"),
        (TEMPLATE * 1e300, "not finite"),
        (TEMPLATE[:4], r"shape \(4, 2\): expected \(5, 2\)"),
        (TEMPLATE.ravel(), "shape"),
        (TEMPLATE + [900, 0], "outside the photo of 200 x 150"),
        (TEMPLATE - [0, 400], "outside the photo"),
    ],
)
def test_landmarks_that_are_none(points, words):
    with pytest.raises(AlignError, match=words):
        align(np.zeros((150, 200, 3), np.uint8), points)
