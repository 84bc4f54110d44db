import pytest

from eval.targets import open_targets
from tests import faces


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Two folders with sets; the current one is the second."""
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for folder, name in ((root, "lfw"), (root, "agedb_30"), (elsewhere, "own"), (elsewhere, "lfw")):
        folder.mkdir(exist_ok=True)
        faces.write_pairs(folder / f"{name}.bin")
    monkeypatch.chdir(elsewhere)
    return root, elsewhere


def test_bins_by_name_and_by_path(places):
    root, elsewhere = places
    opened = open_targets(root, ["agedb_30", "cfp_fp", "lfw.bin", str(elsewhere / "own.bin"), "absent.bin"])
    assert list(opened.targets) == ["agedb_30", "lfw", "own"] and not opened.wrong
    assert opened.skipped == {"cfp_fp": f"no cfp_fp.bin in {root}", "absent.bin": f"no absent.bin in {root}"}
    assert list(open_targets(root, ["own.bin"]).targets) == ["own"]
    assert list(open_targets(root, ["own"]).skipped) == ["own"]  # a name is looked for in the folder only


def test_everything_that_is_there(places, tmp_path):
    assert list(open_targets(places[0]).targets) == ["agedb_30", "lfw"]
    assert open_targets(tmp_path / "nowhere") == ({}, {}, {})


def test_a_mistyped_name_is_told_the_nearest(places):
    root, _ = places
    skipped = open_targets(root, ["lwf", "LFW", "agedb", "tinyfaces", "IJBB", "own"]).skipped
    hints = {name: why.rpartition("; did you mean ")[2] for name, why in skipped.items() if "did you mean" in why}
    assert hints == {"lwf": "lfw?", "LFW": "lfw?", "agedb": "agedb_30?", "tinyfaces": "tinyface?", "IJBB": "ijbb?"}


def test_a_name_twice_is_one_target(places):
    assert list(open_targets(places[0], ["lfw", "lfw"]).targets) == ["lfw"]


def test_two_of_one_name(places):
    root, elsewhere = places
    with pytest.raises(ValueError, match="two targets are named 'lfw'"):
        open_targets(root, ["lfw", str(elsewhere / "lfw.bin")])


def test_wrong_data_does_not_keep_others_from_opening(places):
    root, _ = places
    (root / "cut.bin").write_bytes((root / "lfw.bin").read_bytes()[:-500])
    opened = open_targets(root)
    assert list(opened.targets) == ["agedb_30", "lfw"]
    assert list(opened.wrong) == ["cut"] and "cut.bin is no verification set" in opened.wrong["cut"]
