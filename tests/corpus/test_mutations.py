"""Files damaged at random: each is read rightly or refused clearly, without a crash, a hang or more than 1 GiB."""

import pytest

from tests.corpus import sandbox
from tests.corpus.families import FAMILIES, Bins, Images, Lists, Records
from tests.corpus.images import BASES


def check(family: str, seed: int, count: int, timeout: float):
    end, failed = sandbox.mutations(family, seed, count, timeout)
    assert not failed, "\n".join(failed)
    assert end["whole"] + end["refused"] == count and min(end["whole"], end["refused"]) > count // 50, end
    assert end["slowest"][0] < 5 and end["mib"] < 1024, end


@pytest.mark.parametrize("family", FAMILIES)
def test_some_mutations(family):
    check(family, 1, 2000, 60)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_hundred_thousand_mutations(family):
    check(family, 0, 100_000, 240)


@pytest.mark.parametrize("family", ["rec", "idx", "bin", "jpeg", "bmp"])
def test_intact_files_are_read(tmp_path, family):
    """The families find nothing wrong with what they start from."""
    reader = FAMILIES[family](tmp_path)
    assert isinstance(reader, (Records, Bins, Images)) and [reader(d, n) for n, d in enumerate(reader.bases)] == [
        ""
    ] * len(reader.bases)


def test_intact_lists_are_read(tmp_path):
    reader = Lists(tmp_path)
    assert [reader(data, 0) for data in reader.bases] == [""] * 4


def test_a_failure_is_seen_and_can_be_replayed(tmp_path):
    """Damage that a reader does not notice is noticed here: a family that never looks at what it read sees none."""
    reader = Records(tmp_path, "rec")
    reader.records["plain"][0] = b"another"
    with pytest.raises(AssertionError, match="key 0 was not touched"):
        reader(reader.bases[0], 0)
    results = sandbox.files("bmp", tmp_path, {"good": BASES["bmp"][0], "bad": b"BM"}, 60)
    assert results["good"]["refused"] == "" and "no JPEG, PNG or BMP" in results["bad"]["refused"]
