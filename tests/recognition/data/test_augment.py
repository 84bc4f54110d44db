import dataclasses
import pickle

import cv2
import numpy as np
import pytest

from recognition.data import augment
from recognition.data.augment import DRAWS, INTERPOLATIONS, PRESETS, Augment, Parameters
from utils.rng import uniforms


def face(seed: int = 0, height: int = 112, width: int = 112) -> np.ndarray:
    """Smooth colours that use the whole range, and no two columns alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def draw(index: int) -> list[float]:
    return uniforms(11, 0, np.array([index]), 2, DRAWS)[0].tolist()


def only(**parameters) -> Augment:
    """Nothing but what is asked for."""
    return Augment("none", **{"flip_probability": 0.0, **parameters})


def share_changed(make: Augment, image: np.ndarray, n: int = 1500) -> float:
    return np.mean([not np.array_equal(make(image, draw(i)), image) for i in range(n)])


@pytest.mark.parametrize("preset", PRESETS)
def test_a_view_is_a_function_of_image_and_stream_and_keeps_its_input(preset):
    image = face(1)
    before = image.copy()
    make = Augment(preset)
    again = pickle.loads(pickle.dumps(make))
    for i in range(60):
        view = make(image, draw(i))
        assert view.shape == image.shape and view.dtype == np.uint8
        np.testing.assert_array_equal(view, again(before, draw(i)))
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_keep_the_shape_of_images_that_are_not_square(preset):
    for i in range(40):
        assert Augment(preset)(face(2, 40, 64), draw(i)).shape == (40, 64, 3)


def test_the_original_view_is_flipped_half_of_the_time_and_nothing_else():
    image = face(3)
    flips = 0
    for i in range(2000):
        view = Augment("none")(image, draw(i))
        flipped = np.array_equal(view, image[:, ::-1])
        assert flipped or np.array_equal(view, image)
        flips += flipped
    assert abs(flips - 1000) < 5 * np.sqrt(2000 * 0.25)


def test_published_numbers_of_the_presets():
    adaface, qgface = PRESETS["adaface"], PRESETS["qgface"]
    assert (adaface.crop_area, adaface.crop_resize) == ((0.2, 1.0), False)
    assert (adaface.downsample_ratio, adaface.jpeg_quality) == ((0.2, 1.0), None)
    assert {adaface.jitter_brightness, adaface.jitter_contrast, adaface.jitter_saturation} == {0.5}
    assert adaface.crop_probability == adaface.jitter_probability == adaface.downsample_probability == 0.2
    assert adaface.rotation_probability == 0
    assert (qgface.crop_area, qgface.crop_aspect, qgface.crop_resize) == ((0.8, 1.0), (0.75, 4 / 3), True)
    assert (qgface.downsample_ratio, qgface.downsample_probability) == ((0.1, 0.5), 1)
    assert (qgface.jpeg_quality, qgface.rotation_degrees, qgface.rotation_probability) == (75, 45, 0.1)
    assert {qgface.jitter_brightness, qgface.jitter_contrast, qgface.jitter_saturation} == {0.2}
    assert qgface.crop_probability == qgface.jitter_probability == 0.2


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Parameters) if "_probability" in f.name])
@pytest.mark.parametrize("probability", [0.0, 0.2, 1.0])
def test_each_operation_happens_as_often_as_its_probability_says(name, probability):
    # the whole image as the crop would change nothing: leave that out of the count
    make = only(**{name: probability}, crop_area=(0.3, 0.5), crop_resize=False)
    assert abs(share_changed(make, face(4)) - probability) <= 5 * np.sqrt(probability * (1 - probability) / 1500)


def test_operations_are_drawn_independently():
    image = face(5)
    make = only(crop_probability=0.5, crop_area=(0.3, 0.5), crop_resize=False, flip_probability=0.5)
    both = 0
    for i in range(2000):
        view = make(image, draw(i))
        inside = view.any(axis=2)
        both += not inside.all() and np.array_equal(view[inside], image[:, ::-1][inside])
    assert abs(both - 500) < 5 * np.sqrt(2000 * 0.25 * 0.75)


def reference_crop(image: np.ndarray, top: int, left: int, h: int, w: int) -> np.ndarray:
    padded = np.zeros_like(image)
    for y in range(top, top + h):
        for x in range(left, left + w):
            padded[y, x] = image[y, x]
    return padded


def test_padded_crop_keeps_the_box_in_place():
    image = face(6)
    cropped = augment.crop(image, 10, 30, 50, 40, resize=False)
    np.testing.assert_array_equal(cropped, reference_crop(image, 10, 30, 50, 40))


def test_resized_crop_fills_the_image_with_the_box():
    image = np.zeros((112, 112, 3), np.uint8)
    image[10:60, 30:70] = (200, 100, 50)
    np.testing.assert_array_equal(augment.crop(image, 10, 30, 50, 40, resize=True), image[10:11, 30:31] + 0 * image)


def test_crops_have_the_area_aspect_and_place_they_should():
    boxes = np.array([augment.draw_crop(112, 112, (0.2, 1.0), (0.75, 4 / 3), draw(i)) for i in range(3000)])
    top, left, h, w = boxes.T
    assert top.min() >= 0 and left.min() >= 0 and (top + h).max() <= 112 and (left + w).max() <= 112
    area, aspect = h * w / 112**2, w / h
    assert 0.19 < area.min() < 0.22 and area.max() > 0.95
    assert 0.72 < aspect.min() < 0.77 and 1.3 < aspect.max() < 1.38
    assert abs(np.log(aspect).mean()) < 0.02  # log-uniform, not uniform: wide and tall alike
    small = area < 0.4  # always fits, so its area is uniform and its place free
    assert abs(area[small].mean() - 0.3) < 0.01
    assert abs(np.mean(top[small] / (112 - h[small])) - 0.5) < 0.05
    assert abs(np.mean(left[small] / (112 - w[small])) - 0.5) < 0.05


def test_a_crop_that_never_fits_is_the_whole_image():
    assert augment.draw_crop(112, 112, (1.0, 1.0), (2.0, 3.0), draw(0)) == (0, 0, 112, 112)


def reference_jitter(image: np.ndarray, factors, order) -> np.ndarray:
    """torchvision's definition in floating point, each step clipped, nothing rounded."""
    x = image.astype(np.float64)
    for step in order:
        grey = x @ np.array([0.299, 0.587, 0.114])
        other = [0.0, grey.mean(), grey[..., None]][step]
        x = np.clip(factors[step] * x + (1 - factors[step]) * other, 0, 255)
    return x


@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize("factor", [0.0, 0.5, 0.83, 1.0, 1.5, 2.5])
def test_each_colour_step_equals_its_definition_after_rounding(step, factor):
    image = face(7)
    factors = [1.0, 1.0, 1.0]
    factors[step] = factor
    error = np.abs(augment.jitter(image, factors, [step]) - reference_jitter(image, factors, [step]))
    # half a level from rounding the result, and as much from the rounded grey value it is blended with
    assert error.max() <= 0.51 + 0.5 * abs(1 - factor) * (step > 0)


def test_colour_steps_follow_the_given_order():
    image, factors = face(8), [1.5, 0.5, 1.5]
    results = set()
    for order in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]:
        result = augment.jitter(image, factors, order)
        assert np.abs(result - reference_jitter(image, factors, order)).max() < 3
        results.add(result.tobytes())
    assert len(results) == 6


def test_the_order_of_colour_steps_and_their_factors_are_drawn(monkeypatch):
    drawn = []
    monkeypatch.setattr(augment, "jitter", lambda image, *args: drawn.append(args) or image)
    make = only(jitter_probability=1.0, jitter_brightness=0.5, jitter_contrast=0.1, jitter_saturation=1.5)
    for i in range(1200):
        make(face(9), draw(i))
    orders, counts = np.unique([order for _, order in drawn], axis=0, return_counts=True)
    assert len(orders) == 6 and np.all(np.abs(counts - 200) < 5 * np.sqrt(1200 / 6 * 5 / 6))
    factors = np.array([factors for factors, _ in drawn])
    low, high = np.array([0.5, 0.9, 0.0]), np.array([1.5, 1.1, 2.5])
    assert np.all(factors >= low) and np.all(factors <= high)
    np.testing.assert_allclose(factors.min(axis=0), low, atol=0.02)
    np.testing.assert_allclose(factors.max(axis=0), high, atol=0.02)


@pytest.mark.parametrize("degrees", [90, -90, 180])
def test_rotation_turns_about_the_centre(degrees):
    image = face(10)
    turned = np.rot90(image, degrees // 90)
    assert np.abs(augment.rotate(image, degrees).astype(int) - turned)[1:-1, 1:-1].max() <= 1


def test_rotation_by_45_degrees_leaves_black_corners_and_the_centre_in_place():
    image = np.full((112, 112, 3), 200, np.uint8)
    turned = augment.rotate(image, 45.0)
    assert turned[0, 0].max() == turned[0, -1].max() == turned[-1, 0].max() == turned[-1, -1].max() == 0
    assert (turned[40:72, 40:72] == 200).all()


def test_rotation_angles_cover_both_directions(monkeypatch):
    drawn = []
    monkeypatch.setattr(augment, "rotate", lambda image, degrees: drawn.append(degrees) or image)
    for i in range(1000):
        only(rotation_probability=1.0)(face(0), draw(i))
    assert -45 <= min(drawn) < -43 and 43 < max(drawn) <= 45


def test_ratio_and_interpolations_of_the_low_resolution_are_drawn(monkeypatch):
    drawn = []
    monkeypatch.setattr(augment, "downsample", lambda image, *args: drawn.append(args) or image)
    for i in range(2500):
        Augment("qgface")(face(0), draw(i))
    ratios = np.array([ratio for ratio, *_ in drawn])
    assert 0.1 <= ratios.min() < 0.102 and 0.498 < ratios.max() <= 0.5 and abs(ratios.mean() - 0.3) < 0.01
    pairs = [(down, up) for _, down, up, *_ in drawn]
    counts = np.array([pairs.count((down, up)) for down in INTERPOLATIONS for up in INTERPOLATIONS])
    assert len(set(INTERPOLATIONS)) == 5 and np.all(np.abs(counts - 100) < 5 * np.sqrt(100))


@pytest.mark.parametrize("probability", [0.0, 0.4, 1.0])
def test_sharpness_is_the_ratio_of_the_low_resolution(monkeypatch, probability):
    used = []
    monkeypatch.setattr(augment, "downsample", lambda image, ratio, *rest: used.append(ratio))
    make = Augment("qgface", downsample_probability=probability)
    for i in range(60):
        used.clear()
        make(face(), draw(i))
        assert make.sharpness(draw(i)) == (used[0] if used else 1.0)
    assert all(make.sharpness(draw(i)) == 1 for i in range(60)) == (probability == 0)


def test_low_resolution_by_nearest_neighbours_is_blocks_of_pixels():
    image = face(11)
    view = augment.downsample(image, 0.25, cv2.INTER_NEAREST, cv2.INTER_NEAREST, None)
    np.testing.assert_array_equal(view, np.repeat(np.repeat(image[::4, ::4], 4, 0), 4, 1))


def test_low_resolution_by_areas_is_the_mean_of_each_block():
    image = face(12)
    view = augment.downsample(image, 0.5, cv2.INTER_AREA, cv2.INTER_NEAREST, None)
    means = image.reshape(56, 2, 56, 2, 3).mean(axis=(1, 3))
    assert np.abs(view[::2, ::2] - means).max() <= 0.51


def reference_enlarge(small: np.ndarray, side: int) -> np.ndarray:
    """Bilinear between pixel centres, edges repeated."""
    at = np.clip((np.arange(side) + 0.5) * len(small) / side - 0.5, 0, len(small) - 1)
    low = np.minimum(at.astype(int), len(small) - 2)
    weight = (at - low)[:, None, None]
    rows = (1 - weight) * small[low] + weight * small[low + 1]
    columns = rows.transpose(1, 0, 2)
    return ((1 - weight) * columns[low] + weight * columns[low + 1]).transpose(1, 0, 2)


def test_low_resolution_is_enlarged_by_its_own_interpolation():
    image = face(15)
    view = augment.downsample(image, 0.25, cv2.INTER_NEAREST, cv2.INTER_LINEAR, None)
    assert np.abs(view - reference_enlarge(image[::4, ::4].astype(float), 112)).max() < 1


def test_jpeg_artefacts_arise_at_the_low_resolution():
    image = face(13)
    view = augment.downsample(image, 0.25, cv2.INTER_NEAREST, cv2.INTER_NEAREST, 10)
    np.testing.assert_array_equal(view, np.repeat(np.repeat(view[::4, ::4], 4, 0), 4, 1))
    assert np.abs(view.astype(int) - augment.downsample(image, 0.25, 0, 0, None)).max() > 5


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 0, 255), (200, 120, 90)])
def test_jpeg_treats_the_channels_as_red_green_blue(colour):
    image = np.full((112, 112, 3), colour, np.uint8)
    view = augment.downsample(image, 0.5, cv2.INTER_AREA, cv2.INTER_LINEAR, 75)
    assert np.abs(view.astype(int) - colour).max() <= 4
    # Swapped channels would survive a flat colour. Brightness is coded finer than colour: a pattern in green
    # alone is mostly brightness, one in blue alone mostly colour. It loses more, and red lies between.
    loss = []
    for channel in range(3):
        image = np.full((112, 112, 3), 128, np.uint8)
        image[::4, :, channel], image[1::4, :, channel] = 255, 255
        blurred = augment.downsample(image, 1.0, cv2.INTER_NEAREST, cv2.INTER_NEAREST, 75)
        loss.append(np.abs(blurred.astype(int) - image)[..., channel].mean())
    assert loss[1] < loss[0] < loss[2]


def test_the_camera_may_come_first():
    """Blocks of one low-resolution pixel, turned by 45 degrees: they are no blocks any more."""
    image, fixed = face(15), {"downsample_probability": 1.0, "downsample_ratio": (0.25, 0.25)}
    draws = draw(3)
    draws[5], draws[11:13] = 1.0, [0.0, 0.0]  # a turn by 45 degrees; nearest neighbours both ways
    last, first = (
        only(rotation_probability=1.0, downsample_first=flag, **fixed)(image, draws) for flag in (False, True)
    )
    low = augment.downsample(image, 0.25, cv2.INTER_NEAREST, cv2.INTER_NEAREST, None)
    np.testing.assert_array_equal(first, augment.rotate(low, 45.0))
    np.testing.assert_array_equal(last[::4, ::4].repeat(4, 0).repeat(4, 1), last)


@pytest.mark.parametrize("preset", ["adaface", "qgface"])
def test_bgr_is_the_view_of_swapped_channels_swapped_back(preset):
    image, differ = face(16), 0
    for i in range(40):
        view = Augment(preset, colour_order="bgr")(image, draw(i))
        np.testing.assert_array_equal(view[..., ::-1], Augment(preset)(image[..., ::-1].copy(), draw(i)))
        differ += not np.array_equal(view, Augment(preset)(image, draw(i)))
    assert differ > 0


@pytest.mark.parametrize("side", [1, 2, 5])
def test_tiny_images_do_not_fail(side):
    for i in range(50):
        assert Augment("qgface")(face(14, side, side), draw(i)).shape == (side, side, 3)


@pytest.mark.parametrize(
    ("preset", "message"),
    [("qgfase", "did you mean 'qgface'"), ("zzz", "expected one of none, adaface, qgface")],
)
def test_unknown_preset_names_the_known_ones(preset, message):
    with pytest.raises(ValueError, match=message):
        Augment(preset)


def test_unknown_parameter_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'crop_probability'"):
        Augment("qgface", crop_probabilty=0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip_probability": 1.1},
        {"crop_probability": -0.1},
        {"jitter_probability": "often"},
        {"rotation_probability": True},
        {"downsample_probability": float("nan")},
        {"crop_area": (1.0, 0.2)},
        {"crop_area": (0.0, 1.0)},
        {"crop_area": (0.5, 1.5)},
        {"crop_area": 0.5},
        {"crop_aspect": (0.0, 1.0)},
        {"crop_aspect": (1.0, float("inf"))},
        {"crop_resize": 1},
        {"downsample_first": 1},
        {"colour_order": "gbr"},
        {"downsample_ratio": (0.1, 0.2, 0.3)},
        {"downsample_ratio": ("0.1", "0.2")},
        {"rotation_degrees": 181},
        {"jitter_contrast": -1},
        {"jpeg_quality": 0},
        {"jpeg_quality": 101},
        {"jpeg_quality": 75.5},
        {"jpeg_quality": True},
    ],
)
def test_a_parameter_out_of_range_is_named_with_its_value(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError) as error:
        Augment("qgface", **wrong)
    assert f"{name}={value!r}: expected" in str(error.value) and "\n" not in str(error.value)


def test_parameters_may_come_as_lists():
    Augment("qgface", crop_area=[0.5, 0.5], downsample_ratio=[0.1, 0.2])(face(0), draw(0))
