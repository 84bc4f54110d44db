import json

import numpy as np
import pytest

from eval import camera
from eval.__main__ import main
from eval.features import checked
from eval.results import read_evidence
from eval.surveillance import LEVELS, Surveillance
from eval.targets import open_targets
from recognition.data.sources import open_source
from tests import faces
from utils import jpeg

PEOPLE, PHOTOS = 5, 4
PROBES = PEOPLE * (PHOTOS - 1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of targets: `people` as records, `folders` as a folder for each person."""
    root = tmp_path_factory.mktemp("targets")
    faces.write_records(root / "people", PEOPLE, PHOTOS)
    for name, photos in (("anna", 3), ("ben", 1), ("cara", 2)):
        (root / "folders" / name).mkdir(parents=True)
        for number in range(photos):
            data = jpeg.encode(faces.photo(len(name), number))
            (root / "folders" / name / f"{number}.jpg").write_bytes(data)
    return root


@pytest.fixture(scope="module")
def target(root):
    return Surveillance(open_source(root / "people"), "surveillance:people")


def one_hot(target):
    return np.eye(PEOPLE + 1)[target.identity]


def scored(target, h):
    return target.score(checked(np.asarray(h, np.float32)))


def test_gallery_and_probes(target):
    assert target.images.names[: PEOPLE + 1] == [f"{PHOTOS * i}@gallery" for i in range(PEOPLE)] + ["1@clean"]
    assert target.images.names[-1] == f"{PEOPLE * PHOTOS - 1}@d3"
    assert target.level.tolist() == [-1] * PEOPLE + [level for level in (0, 1, 2, 3) for _ in range(PROBES)]
    assert target.identity.tolist() == [*range(PEOPLE), *[i for i in range(PEOPLE) for _ in range(PHOTOS - 1)] * 4]


def test_images_are_those_of_the_set_and_of_the_camera(root, target):
    source = open_source(root / "people")
    images = target.images.read(0, len(target.images))
    for at in (0, PEOPLE - 1, PEOPLE, PEOPLE + PROBES, PEOPLE + 2 * PROBES + 4, len(images) - 1):
        index = int(target.images.names[at].partition("@")[0])
        face = jpeg.decode(source[index][0])
        level = target.level[at]
        assert np.array_equal(images[at], camera.photograph(face, index, level) if level > 0 else face)
        assert np.array_equal(images[at], target.images.read(at, at + 1)[0])


def test_a_folder_of_people(root):
    target = Surveillance(open_source(root / "folders"), "surveillance:folders")
    names = [name for name in target.images.names if not name.endswith(("d1", "d2", "d3"))]
    # the first image of ben, who has no other, is in the gallery all the same
    assert names == ["0@gallery", "3@gallery", "4@gallery", "1@clean", "2@clean", "5@clean"]
    assert target.identity[:6].tolist() == [0, 1, 2, 0, 0, 2]


def test_metrics_by_hand(target):
    h = one_hot(target)
    first, second = (np.flatnonzero(target.level == level) for level in (1, 2))
    h[first[:3]] = np.eye(PEOPLE + 1)[PEOPLE]  # all probes of the first person tie with everybody: the worst rank
    h[second] = np.roll(h[second], 1, axis=1)  # who comes next in the gallery; the last one is like nobody
    result = scored(target, h)
    assert result.headline == ("clean", "d1", "d2", "d3")
    assert [result.metrics[name] for name in result.headline] == [1, 4 / 5, 0, 1]
    assert result.metrics["average"] == pytest.approx((4 / 5 + 0 + 1) / 3)
    assert result.metrics["d1_rank5"] == 1 and result.metrics["probes"] == 4 * PROBES
    assert result.evidence["distance"].tolist() == [level for level in LEVELS.values() for _ in range(PROBES)]
    assert result.evidence["matched/d1"].tolist() == [0] * 3 + [1] * 12
    assert result.evidence["unmatched/d1"].tolist() == [0] * 15
    assert result.evidence["unmatched/d2"].tolist() == [1] * 12 + [0] * 3
    assert result.intervals["d3"] == (1, 1) and result.intervals["d2"] == (0, 0)
    assert result.intervals["d1"][0] < 4 / 5 and len(result.evidence["replicates/average"]) == 1000


def test_a_collapsed_model_scores_nothing(target):
    result = scored(target, np.ones((len(target.images), 8)))
    assert [result.metrics[name] for name in result.headline] == [0, 0, 0, 0]


def test_features_of_other_images(target):
    with pytest.raises(ValueError, match="features of 7 images, but surveillance:people has 65"):
        scored(target, np.ones((7, 8)))


def test_the_digest_is_that_of_what_is_measured(root, tmp_path, target, monkeypatch):
    def digest(folder):
        return Surveillance(open_source(folder), "surveillance:other").digest()

    faces.write_records(tmp_path / "copy", PEOPLE, PHOTOS)
    faces.write_records(tmp_path / "other", PEOPLE - 1, PHOTOS)
    assert digest(tmp_path / "copy") == target.digest() != digest(tmp_path / "other")
    monkeypatch.setattr(camera, "VERSION", camera.VERSION + 1)
    assert digest(root / "people") != target.digest()


def test_a_damaged_face_is_found_at_opening(tmp_path):
    for name in ("anna", "ben"):
        (tmp_path / "people" / name).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "people" / name / f"{number}.jpg").write_bytes(jpeg.encode(faces.photo(len(name), number)))
    path = tmp_path / "people" / "ben" / "1.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    opened = open_targets(tmp_path, ["surveillance:people"], open_faces=open_source)
    assert not opened.targets and f"{path} cannot be used" in opened.wrong["surveillance:people"]


@pytest.mark.parametrize(("people", "photos"), [(1, 4), (3, 1)])
def test_nothing_to_search(tmp_path, people, photos):
    faces.write_records(tmp_path, people, photos)
    with pytest.raises(
        ValueError, match=f"s: {people * photos} images of {people} identities; expected two identities"
    ):
        Surveillance(open_source(tmp_path), "s")


def test_by_name(root):
    names = [
        "surveillance:people",
        "surveillance:people/train.rec",
        "surveillance:absent",
        "surveillance:Poeple",
        "surveillance",
        "surveilance",
    ]
    opened = open_targets(root, names, open_faces=open_source)
    assert list(opened.targets) == ["surveillance:people", "surveillance:train"]
    assert opened.targets["surveillance:train"].digest() == opened.targets["surveillance:people"].digest()
    assert opened.skipped["surveillance:absent"] == f"no absent or absent.rec in {root}"
    assert opened.skipped["surveillance:Poeple"].endswith("; did you mean people?")
    assert opened.skipped["surveilance"].endswith("did you mean surveillance?")
    assert "expected surveillance:NAME" in opened.wrong["surveillance"]
    assert list(open_targets(root / "people", ["surveillance:train"], open_faces=open_source).targets)
    assert open_targets(root, open_faces=open_source) == ({}, {}, {})  # it has to be named


def test_as_a_command(root, target, tmp_path, capsys):
    h = one_hot(target) + np.random.default_rng(0).normal(0, 0.4, (len(target.images), PEOPLE + 1))
    np.save(tmp_path / "h.npy", h.astype(np.float32))
    main(["--features", str(tmp_path / "h.npy"), "--data", str(root), "--target", "surveillance:people"])
    shown = capsys.readouterr().out
    assert "surveillance:people" in shown and "clean" in shown
    results = json.loads((tmp_path / "h_results.json").read_text())
    expected = scored(target, h)
    assert results["targets"]["surveillance:people"] == expected.metrics
    evidence = read_evidence(tmp_path / "h_results.json", "surveillance:people")
    assert all(np.array_equal(evidence[name], array) for name, array in expected.evidence.items())
    assert (tmp_path / "h_results" / "surveillance_people_cmc.svg").is_file()
