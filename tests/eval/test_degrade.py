import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from eval.degrade import enlarged, grade, motion, noise, small
from tests.faces import photo
from utils.rng import Purpose, uniforms

RISING = {  # by how much is lost
    "resolution": "112px 56px 28px 20px 16px 12px 8px 4px".split(),
    "jpeg": "jpeg95 jpeg50 jpeg30 jpeg10 jpeg5".split(),
    "blur": "blur0 blur0.5 blur1 blur2 blur4 blur8".split(),
    "noise": "noise0 noise5 noise10 noise20 noise40".split(),
    "shot": "shot0 shot5 shot10 shot20 shot40".split(),
}
ALL = [name for names in RISING.values() for name in names]


@pytest.fixture(scope="module")
def face():
    """Values in the middle of the range, so that little is cut off at its ends."""
    return (photo(3, 1) // 2 + 64).astype(np.uint8)


def grating(cycles):
    """A cosine of amplitude 100 down the rows; mirrored at the borders it goes on as it is."""
    wave = 128 + 100 * np.cos(2 * np.pi * cycles * (np.arange(112) + 0.5) / 112)
    return np.broadcast_to(np.rint(wave)[:, None, None], (112, 112, 3)).astype(np.uint8)


def detail(image):
    """Mean square of neighbours' differences."""
    x = image.astype(float)
    return np.square(np.diff(x, axis=0)).mean() + np.square(np.diff(x, axis=1)).mean()


@pytest.mark.parametrize("name", ["112px", "blur0", "noise0", "shot0"])
def test_level_that_changes_nothing(name, face):
    assert np.array_equal(grade(name)(face, 7), face)


@pytest.mark.parametrize("name", ALL)
def test_result_is_a_new_image_of_the_same_brightness(name, face):
    before = face.copy()
    result = grade(name)(face, 7)
    assert result.shape == (112, 112, 3) and result.dtype == np.uint8 and not np.shares_memory(result, face)
    assert np.array_equal(face, before)
    assert abs(result.mean() - face.mean()) < 0.5


@pytest.mark.parametrize("kind", ["resolution", "blur"])
def test_each_level_loses_detail(kind, face):
    left = [detail(grade(name)(face, 0)) for name in RISING[kind]]
    assert all(less < more for more, less in zip(left, left[1:], strict=False))


@pytest.mark.parametrize("kind", RISING)
def test_each_level_is_further_from_the_original(kind, face):
    distance = [np.square(grade(name)(face, 0).astype(float) - face).mean() for name in RISING[kind]]
    assert all(more > 1.1 * less for less, more in zip(distance, distance[1:], strict=False))


def test_resolution_is_lens_sensor_and_cubic_convolution():
    """Against loops over one axis: on an image that is constant along the other, that one changes nothing."""
    signal = np.random.default_rng(0).integers(0, 256, 112)
    image = np.broadcast_to(signal[:, None, None], (112, 112, 3)).astype(np.uint8)
    for side in (8, 12, 16, 20, 28, 100):
        expected = loop_resolution(signal, side)
        assert np.array_equal(grade(f"{side}px")(image, 0), np.broadcast_to(expected[:, None, None], image.shape))
        turned = grade(f"{side}px")(image.swapaxes(0, 1), 0)
        assert np.array_equal(turned, np.broadcast_to(expected[None, :, None], image.shape))


def loop_resolution(signal, side):
    def at(values, i):
        n = len(values)
        return values[-1 - i if i < 0 else 2 * n - 1 - i if i >= n else i]

    step = 112 / side
    sigma = 0.4 * math.sqrt(step**2 - 1)
    radius = int(4 * sigma + 0.5)
    kernel = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)]
    blurred = [
        sum(weight * at(signal, i + k - radius) for k, weight in enumerate(kernel)) / sum(kernel) for i in range(112)
    ]
    small = []
    for pixel in range(side):
        low, high = pixel * step, (pixel + 1) * step
        covered = [max(0.0, min(high, i + 1) - max(low, i)) for i in range(112)]
        small.append(round(sum(c * b for c, b in zip(covered, blurred, strict=True)) / step))
    large = []
    for i in range(112):
        x = (i + 0.5) * side / 112 - 0.5
        value = 0.0
        for tap in range(math.floor(x) - 1, math.floor(x) + 3):
            d = abs(x - tap)
            near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * (d**3 - 5 * d**2 + 8 * d - 4)
            value += at(small, tap) * (near if d <= 1 else far)
        large.append(min(255, max(0, round(value))))
    return np.array(large)


def test_what_a_sensor_cannot_resolve_does_not_come_back_as_a_pattern():
    """Eight pixels resolve up to four cycles: two stay, six vanish instead of turning into two."""
    amplitude = {cycles: np.ptp(grade("8px")(grating(cycles), 0).astype(int)) / 2 for cycles in (2, 6, 56)}
    assert amplitude[2] > 60 and amplitude[6] < 8 and amplitude[56] < 1


@pytest.mark.parametrize("name", ["8px", "20px", "blur3", "jpeg100"])
def test_constant_image_stays_constant(name):
    image = np.full((112, 112, 3), (200, 120, 31), np.uint8)
    result = grade(name)(image, 0).astype(int)
    assert np.ptp(result, axis=(0, 1)).max() == 0
    assert np.abs(result[0, 0] - (200, 120, 31)).max() <= (name == "jpeg100")  # JPEG rounds luma and colours


@pytest.mark.parametrize("sigma", [5, 20])
def test_noise_has_the_strength_that_it_says(sigma):
    image = np.full((112, 112, 3), 128, np.uint8)
    noise = grade(f"noise{sigma}")(image, 5).astype(float) - 128
    assert noise.std() == pytest.approx(math.sqrt(sigma**2 + 1 / 12), rel=0.015)  # and rounding
    assert abs(noise.mean()) < 4 * sigma / math.sqrt(noise.size)
    neighbours = [
        np.corrcoef(noise[:-1].ravel(), noise[1:].ravel()),
        np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel()),
    ]
    assert max(abs(matrix[0, 1]) for matrix in neighbours) < 0.04


def test_noise_of_an_image_by_loops():
    image = np.full((112, 112, 3), 100, np.uint8)
    u = uniforms(0, 0, np.array([41]), Purpose.NOISE, image.size)[0]
    result = grade("noise10")(image, 41).ravel()
    for i in range(0, image.size // 2, 997):
        radius, angle = math.sqrt(-2 * math.log(1 - u[i])), 2 * math.pi * u[i + image.size // 2]
        assert result[i] == round(100 + 10 * radius * math.cos(angle))
        assert result[i + image.size // 2] == round(100 + 10 * radius * math.sin(angle))


def test_shot_noise_grows_with_the_root_of_the_brightness():
    def spread(value):
        return (grade("shot10")(np.full((112, 112, 3), value, np.uint8), 1).astype(float)).std()

    assert spread(0) == 0
    assert spread(160) / spread(40) == pytest.approx(2, rel=0.03)
    assert spread(128) == pytest.approx(10, rel=0.02)


def test_noise_belongs_to_the_image_and_not_to_when_it_is_asked_for(face):
    noise = grade("noise20")
    alone = {index: noise(face, index) for index in (0, 1, 2**33)}
    with ThreadPoolExecutor(4) as pool:
        for index, image in zip((2**33, 1, 0) * 4, pool.map(noise, [face] * 12, (2**33, 1, 0) * 4), strict=True):
            assert np.array_equal(image, alone[index])
    difference = [alone[index].astype(float).ravel() - face.ravel() for index in alone]
    assert np.abs(np.corrcoef(difference) - np.eye(3)).max() < 0.03


def test_levels_of_noise_share_a_pattern():
    grey = np.full((112, 112, 3), 128, np.uint8)
    weak, strong = (grade(name)(grey, 3).astype(int) - 128 for name in ("noise10", "noise20"))
    assert np.abs(strong - 2 * weak).max() <= 1


@pytest.mark.parametrize(
    "name",
    "3px 113px 08px 8.5px px 8 jpeg0 jpeg101 jpeg50.5 blur29 blur-1 blur noise129 shot200 JPEG20 noise1e1".split()
    + ["", " 8px", "8px\n"],
)
def test_names_that_are_no_grade(name):
    with pytest.raises(ValueError, match="expected 4px to 112px") as caught:
        grade(name)
    assert repr(name) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["8px", "112px", "jpeg10", "blur1", "noise5", "shot5"])
@pytest.mark.parametrize(
    "image", [np.zeros((96, 112, 3), np.uint8), np.zeros((112, 112, 3), np.float32), np.zeros((112, 112), np.uint8)]
)
def test_other_images_are_refused(name, image):
    with pytest.raises(ValueError, match=r"expected \(112, 112, 3\) uint8 RGB"):
        grade(name)(image, 0)


@pytest.mark.parametrize(("length", "degrees"), [(0, 0), (1, 90), (5.5, 0), (9, 30), (14, 135), (6.2, 171.3)])
def test_motion_is_the_mean_along_a_line(length, degrees, face):
    """By loops: each pixel is the mean of points on the line through it; between pixels by bilinear interpolation."""
    x = np.pad(face, ((16, 16), (16, 16), (0, 0)), mode="symmetric").astype(float)
    result = motion(face, length, degrees)
    count = 4 * math.ceil(length) + 1
    steps = [length * (k / (count - 1) - 0.5) if count > 1 else 0.0 for k in range(count)]
    for row, column in [(0, 0), (3, 100), (56, 56), (111, 5), (80, 111)]:
        total = np.zeros(3)
        for t in steps:
            down, right = (
                row + 16 - t * math.sin(math.radians(degrees)),
                column + 16 + t * math.cos(math.radians(degrees)),
            )
            top, left = math.floor(down), math.floor(right)
            a, b = down - top, right - left
            total += (1 - a) * ((1 - b) * x[top, left] + b * x[top, left + 1])
            total += a * ((1 - b) * x[top + 1, left] + b * x[top + 1, left + 1])
        assert np.abs(result[row, column] - total / count).max() <= 0.5 + 1e-9  # rounded


def test_motion_blurs_along_its_direction_only():
    rows = grating(14)  # constant along a row
    assert np.array_equal(motion(rows, 8, 0), rows)
    assert np.ptp(motion(rows, 8, 90).astype(int)) < 10  # one whole period
    diagonal = np.broadcast_to((np.add.outer(np.arange(112), np.arange(112)) % 8 * 30)[..., None], (112, 112, 3))
    inside = (slice(10, -10), slice(10, -10))
    along = motion(diagonal.astype(np.uint8), 6, 45)[inside].astype(int)  # counter-clockwise from the right: up
    across = motion(diagonal.astype(np.uint8), 6, 135)[inside].astype(int)
    assert np.ptp(across) < np.ptp(along) / 3


def test_lens_and_sensor_then_enlargement_are_the_resolution(face):
    for side in (13, 28, 111):
        assert small(face, side).shape == (side, side, 3)
        assert np.array_equal(enlarged(small(face, side)), grade(f"{side}px")(face, 0))


def test_noise_of_small_pictures():
    picture = np.full((15, 15, 3), 128, np.uint8)
    spread = [(noise(picture, 10, index).astype(float) - 128).std() for index in range(30)]
    assert np.mean(spread) == pytest.approx(10, rel=0.03)
