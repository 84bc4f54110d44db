import numpy as np
import pytest

from eval.cache import cached
from eval.features import Features

KEY = {"model": "0123", "data": "4567", "fusion": "sum"}


class Made:
    """Counts how often features are made."""

    def __init__(self):
        self.times = 0

    def __call__(self):
        self.times += 1
        h = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
        return Features(h, np.linalg.norm(h, axis=1))


def same(a, b):
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


def test_features_are_made_once(tmp_path):
    make = Made()
    first, hit = cached(tmp_path / "cache", "lfw", KEY, make)
    again, hit_again = cached(tmp_path / "cache", "lfw", dict(reversed(KEY.items())), make)
    assert (hit, hit_again, make.times) == (False, True, 1) and same(first, again)


@pytest.mark.parametrize("part", KEY)
def test_what_they_depend_on_makes_others(tmp_path, part):
    make = Made()
    cached(tmp_path, "lfw", KEY, make)
    assert not cached(tmp_path, "lfw", KEY | {part: "other"}, make)[1]
    assert make.times == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "nan", "fields"])
def test_damaged_files_are_made_again(tmp_path, damage):
    make = Made()
    first, _ = cached(tmp_path, "lfw", KEY, make)
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    if damage == "nan":
        np.savez(file, h=np.full((50, 8), np.nan, np.float32), z=first.z)
    elif damage == "fields":
        np.savez(file, h=first.h)
    else:
        file.write_bytes({"cut": data[:-100], "flipped": data, "empty": b""}[damage])
    again, hit = cached(tmp_path, "lfw", KEY, make)
    assert not hit and same(first, again)
    assert cached(tmp_path, "lfw", KEY, make)[1] and make.times == 2


def test_a_colon_is_no_part_of_a_file_name(tmp_path):
    cached(tmp_path, "cross_resolution:lfw", KEY, Made())
    assert [file.name.split("-")[0] for file in tmp_path.iterdir()] == ["cross_resolution_lfw"]
