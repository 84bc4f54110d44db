"""Both channel orders of a set, against plain loops."""

import numpy as np
import pytest

from eval.color import check_color, separation, verdict


class Faces:
    """2n images; how often each was read is counted."""

    def __init__(self, pixels: np.ndarray):
        self.pixels, self.reads = pixels, []

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, start: int, end: int) -> np.ndarray:
        self.reads.append(end - start)  # from several threads
        return self.pixels[start:end]


def people(pairs: int = 400, noise: float = 12.0) -> tuple[Faces, np.ndarray]:
    """Flat faces: a person is a red level, blue is noise that has nothing to do with the person."""
    random = np.random.default_rng(3)
    issame = np.arange(pairs) % 2 == 0
    red = random.integers(60, 196, (pairs, 2))
    red[issame, 1] = red[issame, 0]
    red = red + random.normal(0, noise, red.shape)
    blue = random.integers(60, 196, (pairs, 2))
    colour = np.stack([red, np.full_like(red, 128), blue], axis=-1).reshape(-1, 1, 1, 3)
    return Faces(np.broadcast_to(colour.clip(0, 255).astype(np.uint8), (2 * pairs, 112, 112, 3))), issame


def red_on_a_circle(channels: str):
    """A model that looks at its first channel alone: an angle from 0 to 90 degrees."""

    def embed(images):
        first = images[:, 0, 0, 0 if channels == "rgb" else 2].astype(np.float64)
        angle = first / 255 * np.pi / 2
        return np.stack([np.cos(angle), np.sin(angle)], axis=1), np.ones(len(images))

    return embed


def plain_accuracies(dist, issame, folds):
    """Each fold at the threshold that is best on the others."""
    parts, thresholds, accuracies = np.array_split(np.arange(len(dist)), folds), np.arange(0, 4, 0.01), []
    for part in parts:
        others = [i for i in range(len(dist)) if i not in set(part.tolist())]
        right = [sum((dist[i] < t) == issame[i] for i in others) for t in thresholds]
        best = thresholds[int(np.argmax(right))]
        accuracies.append(np.mean([(dist[i] < best) == issame[i] for i in part]))
    return np.array(accuracies)


def plain_separation(dist, issame):
    same = [d for d, is_same in zip(dist, issame, strict=True) if is_same]
    different = [d for d, is_same in zip(dist, issame, strict=True) if not is_same]

    def variance(values):
        return sum((v - sum(values) / len(values)) ** 2 for v in values) / len(values)

    gap = abs(sum(same) / len(same) - sum(different) / len(different))
    return gap / ((variance(same) + variance(different)) / 2) ** 0.5


def test_against_plain_loops():
    images, issame = people(pairs=60)
    result = check_color(images, issame, red_on_a_circle, folds=5)
    dist = {}
    for channels in ("rgb", "bgr"):
        u = red_on_a_circle(channels)(images.pixels)[0]
        dist[channels] = [float(((u[2 * i] - u[2 * i + 1]) ** 2).sum()) for i in range(60)]
        accuracies = plain_accuracies(dist[channels], issame, 5)
        assert result[channels]["accuracy"] == pytest.approx(accuracies.mean(), abs=1e-12)
        assert result[channels]["separation"] == pytest.approx(plain_separation(dist[channels], issame), rel=1e-9)
    by_fold = plain_accuracies(dist["rgb"], issame, 5) - plain_accuracies(dist["bgr"], issame, 5)
    assert result["difference"]["accuracy"] == pytest.approx(by_fold.mean(), abs=1e-12)
    error = (sum((d - by_fold.mean()) ** 2 for d in by_fold) / 4 / 5) ** 0.5
    assert result["standard_error"]["accuracy"] == pytest.approx(error, rel=1e-9)
    left = []
    for fold in range(5):
        kept = [i for i in range(60) if i // 12 != fold]
        d = {c: plain_separation([dist[c][i] for i in kept], [issame[i] for i in kept]) for c in dist}
        left.append(d["rgb"] - d["bgr"])
    error = (4 / 5 * sum((d - sum(left) / 5) ** 2 for d in left)) ** 0.5
    assert result["standard_error"]["separation"] == pytest.approx(error, rel=1e-9)


def test_the_order_that_separates_better_is_named():
    images, issame = people()
    result = check_color(images, issame, red_on_a_circle)
    assert result["better"] == "rgb" and result["rgb"]["accuracy"] > 0.75 > 0.6 > result["bgr"]["accuracy"]
    assert sum(images.reads) == len(images)  # once for both orders
    swapped = check_color(images, issame, lambda channels: red_on_a_circle({"rgb": "bgr", "bgr": "rgb"}[channels]))
    assert swapped["better"] == "bgr" and swapped["rgb"] == result["bgr"]
    assert "rgb separates better, as used" in verdict(result, "rgb")
    assert verdict(result, "bgr").endswith("rgb separates better, but bgr is used; --channels rgb changes that")


def test_where_accuracy_is_perfect_in_both_orders_the_separation_decides():
    images, issame = people(pairs=100)

    def embed_of(channels):
        spread = 0.02 if channels == "bgr" else 0.2
        dist = np.where(issame, 0.1, 2.0) + np.random.default_rng(0).normal(0, spread, len(issame)).clip(-0.09, 0.5)
        cosine = 1 - dist / 2
        u = np.stack([np.ones_like(cosine), np.zeros_like(cosine), cosine, np.sqrt(1 - cosine**2)], axis=1)
        return lambda pixels: (u.reshape(-1, 2), None)

    result = check_color(images, issame, embed_of)
    assert result["rgb"]["accuracy"] == result["bgr"]["accuracy"] == 1
    assert result["better"] == "bgr"


def test_a_model_that_sees_no_colour_and_one_that_collapsed():
    images, issame = people()
    grey = check_color(images, issame, lambda channels: red_on_a_circle("rgb"))
    assert grey["better"] == "neither" and grey["difference"] == {"accuracy": 0, "separation": 0}
    constant = check_color(images, issame, lambda channels: lambda pixels: (np.ones((len(pixels), 4)) / 2, None))
    assert constant["better"] == "neither" and constant["rgb"] == {"accuracy": 0.5, "separation": 0}
    assert "does not tell the orders apart" in verdict(constant, "rgb")


def test_separation_by_hand():
    dist, issame = np.array([0.0, 2.0, 3.0, 5.0]), np.array([True, True, False, False])
    assert separation(dist, issame) == 3  # means 1 and 4, variances 1 and 1
    assert np.isfinite(separation(np.array([0.0, 0, 4, 4]), issame))


def test_bad_sets():
    images, issame = people(pairs=20)
    with pytest.raises(ValueError, match="40 images for 19 pairs"):
        check_color(images, issame[:19], red_on_a_circle)
    for flags in (np.ones(20, bool), np.zeros(20, bool)):
        with pytest.raises(ValueError, match="expected .* matched and mismatched pairs"):
            check_color(images, flags, red_on_a_circle)
    with pytest.raises(ValueError, match="not finite"):
        check_color(images, issame, lambda channels: lambda pixels: (np.full((len(pixels), 2), np.nan), None))
    with pytest.raises(ValueError, match="20 pairs cannot be cut into 21 folds"):
        check_color(images, issame, red_on_a_circle, folds=21)
