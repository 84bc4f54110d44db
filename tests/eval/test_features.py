import threading

import numpy as np
import pytest

from eval.features import CHUNK, checked, extract, unit
from tests import gloo
from tests.numbered import Numbered, number
from tests.ranks.groups import features_of_numbers


@pytest.mark.parametrize("count", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
def test_features_come_in_the_order_of_the_images(count):
    seen = []
    images = Numbered(count)
    h, z = extract(number, images, "none", seen.append)
    np.testing.assert_allclose(h[:, 0], np.arange(count) + 1, rtol=1e-5)
    np.testing.assert_allclose(z, np.hypot(np.arange(count) + 1, 1), rtol=1e-5)
    assert sum(seen) == count and h.dtype == z.dtype == np.float32
    assert threading.get_ident() not in images.threads


def test_an_image_that_cannot_be_read_ends_it():
    with pytest.raises(ValueError, match="image 300 cannot be used"):
        extract(number, Numbered(5 * CHUNK, fails=300), "none")


def test_no_images():
    with pytest.raises(ValueError, match="no images to embed"):
        extract(number, Numbered(0))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_must_be_numbers(value):
    h = np.ones((9, 4))
    h[[5, 7], 2] = value
    with pytest.raises(ValueError, match="features of 2 of 9 images hold NaN or infinity, the first is image 5"):
        checked(h)


def test_large_numbers_are_numbers():
    h = np.full((3, 4), 3e38, np.float32)
    h[:, 1::2] *= -1
    h[1] = 3e38  # the sum overflows, the feature does not
    assert checked(h, np.ones(3)).h is h


@pytest.mark.parametrize("wrong", [np.ones(4), np.ones((2, 3, 4)), np.ones((0, 4)), np.ones((4, 4), int)])
def test_features_of_another_shape(wrong):
    with pytest.raises(ValueError, match="expected .images, dimension. of floating point numbers"):
        checked(wrong)


def test_norms_are_those_of_the_features():
    assert checked(np.array([[3.0, 4.0], [0.0, 0.0]])).z.tolist() == [5, 0]


def test_unit():
    assert unit(np.array([[3.0, 4.0], [0.0, 0.0], [-2.0, 0.0]], np.float32)).tolist() == [[0.6, 0.8], [0, 0], [-1, 0]]


def test_ranks_share_the_images_and_their_troubles():
    whole = extract(number, Numbered(3 * CHUNK), "none").h[:, 0].tolist()
    assert gloo.run(2, features_of_numbers, 3 * CHUNK) == [whole, whole]
    assert gloo.run(2, features_of_numbers, 3 * CHUNK, 700) == ["image 700 cannot be used"] * 2  # rank 1's
