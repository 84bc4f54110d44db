import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from eval import camera, degrade
from tests.faces import photo
from utils import jpeg


def test_strengths_fill_the_ranges_and_keep_to_them():
    for distance, ranges in camera.DISTANCES.items():
        shots = [camera.shot(index, distance) for index in range(3000)]
        moved = [shot for shot in shots if shot.sigma is None]
        focus = [shot for shot in shots if shot.length is None]
        assert len(moved) + len(focus) == 3000 and 0.45 < len(moved) / 3000 < 0.55
        drawn = {
            "side": [shot.side for shot in shots],
            "defocus": [shot.sigma for shot in focus],
            "motion": [shot.length for shot in moved],
            "noise": [shot.noise for shot in shots],
            "quality": [shot.quality for shot in shots],
        }
        for name, values in drawn.items():
            low, high = getattr(ranges, name)
            near = 0.01 * (high - low)
            assert low <= min(values) <= low + near and high - near <= max(values) <= high
        logarithm = np.log([shot.gamma for shot in shots]) / math.log(ranges.gamma)
        assert abs(logarithm).max() <= 1 + 1e-12 and logarithm.min() < -0.99 and logarithm.max() > 0.99
        degrees = [shot.degrees for shot in moved]
        assert 0 <= min(degrees) < 2 and 178 < max(degrees) < 180


def test_strengths_of_images_and_distances_are_unrelated():
    drawn = np.array([[camera.shot(index, d).side for index in range(2000)] for d in camera.DISTANCES], float)
    assert np.abs(np.corrcoef(drawn) - np.eye(3)).max() < 0.08
    assert abs(np.corrcoef(drawn[0, 1:], drawn[0, :-1])[0, 1]) < 0.08


def test_each_distance_loses_more():
    images = [photo(identity, 0) for identity in range(12)]
    lost = {
        d: np.mean([np.square(camera.photograph(x, i, d).astype(float) - x).mean() for i, x in enumerate(images)])
        for d in camera.DISTANCES
    }
    assert lost[1] > 1.3 * lost[2] > 1.3 * 1.3 * lost[3] > 0


def test_a_picture_is_a_function_of_image_index_and_distance():
    image = photo(1, 1)
    before = image.copy()
    alone = {(i, d): camera.photograph(image, i, d) for i in (0, 7, 2**33) for d in camera.DISTANCES}
    assert np.array_equal(image, before)
    assert len({picture.tobytes() for picture in alone.values()}) == 9
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda key: camera.photograph(image, *key), [*alone] * 2))
    assert all(np.array_equal(picture, alone[key]) for key, picture in zip([*alone] * 2, again, strict=True))


@pytest.mark.parametrize("distance", camera.DISTANCES)
def test_the_steps_are_those_and_in_that_order(distance):
    """Of an image that is the same everywhere, blur and size change nothing: light, noise and the JPEG are left."""
    for index in range(5):
        how = camera.shot(index, distance)
        grey = round(255 * (90 / 255) ** how.gamma)
        lit = np.full((how.side, how.side, 3), grey, np.uint8)
        expected = jpeg.compressed(degrade.enlarged(degrade.noise(lit, how.noise, index, shot=True)), how.quality)
        assert np.array_equal(camera.photograph(np.full((112, 112, 3), 90, np.uint8), index, distance), expected)


@pytest.mark.parametrize(("distance", "kind"), [(1, "moved"), (1, "focus"), (2, "moved"), (3, "focus")])
def test_the_blur_is_in_the_picture(distance, kind, monkeypatch):
    index = next(i for i in range(50) if (camera.shot(i, distance).sigma is None) == (kind == "moved"))
    how = camera.shot(index, distance)._replace(gamma=1.0, noise=0.0, side=112, quality=100)
    monkeypatch.setattr(camera, "shot", lambda index, distance: how)
    image = photo(4, 4)
    blurred = degrade.blur(image, how.sigma) if kind == "focus" else degrade.motion(image, how.length, how.degrees)
    picture = camera.photograph(image, index, distance)
    assert np.abs(picture.astype(int) - jpeg.compressed(blurred, 100)).max() == 0
