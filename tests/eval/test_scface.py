import cv2
import numpy as np
import pytest

from eval.features import checked
from eval.scface import find_scface, open_scface
from tests.faces import photo
from utils.align import TEMPLATE

IDENTITIES = (1, 2, 7)


def write(path, identity=0, size=(112, 112)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.resize(photo(identity, 0), size))


def owners(root, identities=IDENTITIES):
    """The folders as the owners distribute them: three copies of mugshots, two of surveillance pictures."""
    for i in identities:
        write(root / f"mugshot_frontal_cropped_all/{i:03d}_frontal.JPG", i, (30, 40))
        write(root / f"mugshot_frontal_original_all/{i:03d}_frontal.jpg", 50)
        write(root / f"mugshot_rotation_all/{i:03d}_frontal.jpg", 50)
        write(root / f"mugshot_rotation_all/{i:03d}_L1.jpg", 50)
        write(root / f"surveillance_cameras_IR_cam8/{i:03d}_cam8.jpg", 50)
        write(root / f"surveillance_cameras_all/{i:03d}_cam8.jpg", 50)
        for camera in range(1, 8):
            for d in (1, 2, 3):
                name = f"{i:03d}_cam{camera}_{d}.jpg"
                write(root / f"surveillance_cameras_distance_{d}/cam_{camera}/{name}", i, (15 * d, 20 * d))
                write(root / f"surveillance_cameras_all/{name}", 50)
    return root


def aligned(root, identities=IDENTITIES, mugshot="{:03d}_frontal.png", probe="{:03d}_cam{}_{}.png"):
    """Aligned crops of the same names, as AdaFace takes them."""
    for i in identities:
        write(root / mugshot.format(i), i)
        for camera in range(1, 6):
            for d in (1, 2, 3):
                write(root / probe.format(i, camera, d), i)
    return root


def scored(target, h):
    return target.score(checked(np.asarray(h, np.float32)))


def one_hot(target):
    return np.eye(200)[target.identity]


def test_the_owners_folders(tmp_path):
    target = open_scface(owners(tmp_path))
    names = target.images.names
    assert names[:3] == [f"mugshot_frontal_cropped_all/{i:03d}_frontal.JPG" for i in IDENTITIES]
    assert names[3] == "surveillance_cameras_distance_1/cam_1/001_cam1_1.jpg" and len(names) == 3 + 45
    assert target.identity.tolist() == [1, 2, 7] + [i for _ in range(3) for i in IDENTITIES for _ in range(5)]
    assert target.distance.tolist() == [0] * 3 + [1] * 15 + [2] * 15 + [3] * 15
    assert target.images.read(0, 48).shape == (48, 112, 112, 3)
    incomplete, unaligned, left_out = target.notes
    assert "3 mugshots of 130, 15 probes at d1, 15 probes at d2, 15 probes at d3 of 650" in incomplete
    assert unaligned.startswith("48 of 48 images are not square")
    assert left_out.startswith("left out: 42 pictures of cameras 6 to 8") and "and 54 of other views" in left_out


def test_only_the_folder_of_all_cameras(tmp_path):
    for i in IDENTITIES:
        write(tmp_path / f"mugshot_frontal_original_all/{i:03d}_frontal.jpg", i)
        for camera in range(1, 6):
            write(tmp_path / f"surveillance_cameras_all/{i:03d}_cam{camera}_3.jpg", i)
    target = open_scface(tmp_path)
    result = scored(target, one_hot(target))
    assert result.headline == ("d3",) and "d1" not in result.metrics and "average" not in result.metrics


@pytest.mark.parametrize(
    ("mugshot", "probe"),
    [
        ("{:03d}_frontal.png", "{:03d}_cam{}_{}.png"),
        ("aligned/{:03d}_frontal.png", "aligned/{:03d}_cam{}_{}.png"),
        ("gallery/{:03d}_Frontal.PNG", "d{2}/{0:03d}_CAM{1}_{2}.bmp"),
        ("mugshot_frontal_cropped_all/{:03d}_frontal.png", "surveillance_cameras_distance_{2}/{0:03d}_cam{1}_{2}.png"),
    ],
)
def test_aligned_crops(tmp_path, mugshot, probe):
    target = open_scface(aligned(tmp_path, mugshot=mugshot, probe=probe))
    assert len(target.images) == 48 and target.images.names[0] == mugshot.format(1)
    result = scored(target, one_hot(target))
    assert result.headline == ("d1", "d2", "d3")
    assert (result.metrics.pop("probes"), result.metrics.pop("xnorm")) == (45, 1.0)
    assert set(result.metrics.values()) == {1.0}
    assert len(result.notes) == 1  # aligned, nothing left out, but not whole


def test_a_whole_set_has_no_warning(tmp_path):
    names = [f"{i:03d}_cam{camera}_{d}.png" for i in range(1, 131) for camera in range(1, 6) for d in (1, 2, 3)]
    write(tmp_path / "001_frontal.png")
    for name in names + [f"{i:03d}_frontal.png" for i in range(2, 131)]:
        (tmp_path / name).write_bytes((tmp_path / "001_frontal.png").read_bytes())
    target = open_scface(tmp_path)
    assert target.notes == () and len(target.images) == 130 + 1950


def test_metrics_by_hand(tmp_path):
    target = open_scface(aligned(tmp_path))
    h = one_hot(target)
    h[np.flatnonzero(target.distance == 1)[:4]] = np.eye(200)[199]  # ties with all mugshots: rank 3
    h[np.flatnonzero(target.distance == 2)] *= -1  # the mate last
    result = scored(target, h)
    assert result.metrics["d1"] == 11 / 15 and result.metrics["d2"] == 0 and result.metrics["d3"] == 1
    assert result.metrics["average"] == pytest.approx((11 / 15 + 0 + 1) / 3)
    assert result.metrics["d2_rank5"] == result.metrics["d1_rank10"] == 1
    assert result.evidence["rank"].tolist() == [3] * 4 + [1] * 11 + [3] * 15 + [1] * 15
    assert result.evidence["identity"].tolist() == target.identity[3:].tolist()
    assert result.evidence["distance"].tolist() == [1] * 15 + [2] * 15 + [3] * 15
    assert result.evidence["matched/d1"].tolist() == [0] * 4 + [1] * 11
    assert result.evidence["matched/d2"].tolist() == [-1] * 15
    assert result.evidence["unmatched/d2"].tolist() == result.evidence["unmatched/d3"].tolist() == [0] * 15
    assert set(np.unique(result.evidence["replicates/d2"])) == {0} and len(result.evidence["replicates/d1"]) == 1000
    assert result.intervals["d2"] == (0, 0) and result.intervals["d3"] == result.intervals["d2_rank5"] == (1, 1)
    low, high = result.intervals["d1"]  # 1/5, 1 and 1 of the three identities
    assert low == pytest.approx(1 / 5) and high == 1


def test_a_collapsed_model_scores_nothing(tmp_path):
    target = open_scface(aligned(tmp_path))
    result = scored(target, np.ones((48, 8)))
    assert [result.metrics[name] for name in result.headline] == [0, 0, 0]


def test_landmarks_align_what_is_not_aligned(tmp_path):
    owners(tmp_path)
    plain = open_scface(tmp_path)
    numbers = " ".join(map(str, (TEMPLATE * 0.25).ravel()))
    (tmp_path / "landmarks.txt").write_text("\n".join(f"{name} {numbers}" for name in plain.images.names[:3]))
    target = open_scface(tmp_path)
    assert target.notes[1].startswith("45 of 48 images are not square")
    assert not np.array_equal(target.images.read(0, 1), plain.images.read(0, 1))


def test_missing_probes_are_named(tmp_path):
    aligned(tmp_path)
    (tmp_path / "002_cam3_2.png").unlink()
    (note,) = open_scface(tmp_path).notes
    assert "14 probes at d2" in note and "missing: 002_cam3_2;" in note


def test_find(tmp_path):
    assert find_scface(tmp_path) is None and find_scface(tmp_path / "absent") is None
    (tmp_path / "other").mkdir()
    assert find_scface(tmp_path) is None
    owners(tmp_path / "SCface_database", (1,))
    assert find_scface(tmp_path) == tmp_path / "SCface_database"
    assert find_scface(tmp_path / "SCface_database") == tmp_path / "SCface_database"
    aligned(tmp_path / "flat", (1,))
    assert find_scface(tmp_path / "flat") == tmp_path / "flat"


def test_a_probe_without_mugshot(tmp_path):
    aligned(tmp_path)
    (tmp_path / "002_frontal.png").unlink()
    with pytest.raises(ValueError, match=r"002_cam1_1\.png: identity 2 has no mugshot; expected 002_frontal\.jpg"):
        open_scface(tmp_path)


@pytest.mark.parametrize("name", ["2_frontal.jpg", "copy/002_FRONTAL.png", "copy/002_cam1_3.png"])
def test_two_files_of_one_picture(tmp_path, name):
    aligned(tmp_path)
    write(tmp_path / name)
    other = "002_cam1_3.png" if "cam" in name else "002_frontal.png"
    with pytest.raises(ValueError, match="are the same picture of SCface") as error:
        open_scface(tmp_path)
    assert all(f"{tmp_path / path} " in str(error.value) for path in (name, other))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "0 frontal mugshots and 0 probes"),
        (["001_cam1_1.jpg"], "0 frontal mugshots and 1 probes"),
        (["001_frontal.jpg", "001_cam6_1.jpg", "001_cam1_4.jpg"], "1 frontal mugshots and 0 probes"),
    ],
)
def test_nothing_to_search(tmp_path, names, words):
    for name in names:
        write(tmp_path / name)
    with pytest.raises(ValueError, match=words):
        open_scface(tmp_path)


def test_a_damaged_image_is_found_at_opening(tmp_path):
    aligned(tmp_path)
    path = tmp_path / "007_cam5_3.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"007_cam5_3\.png cannot be used"):
        open_scface(tmp_path)


def test_features_of_other_images(tmp_path):
    target = open_scface(aligned(tmp_path))
    with pytest.raises(ValueError, match="features of 47 images, but scface has 48"):
        scored(target, np.ones((47, 8)))
    h = np.ones((48, 8))
    h[5, 0] = np.nan
    with pytest.raises(ValueError, match="hold NaN or infinity"):
        scored(target, h)
