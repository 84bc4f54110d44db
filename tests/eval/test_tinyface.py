import cv2
import numpy as np
import pytest
from scipy.io import savemat

from eval.features import checked
from eval.tinyface import find_tinyface, open_tinyface
from tests.faces import photo

PROBES = [("1_1.jpg", 1), ("1_2.jpg", 1), ("30_1.jpg", 30)]
MATCHES = [("30_9.jpg", 30), ("1_8.jpg", 1), ("1_9.jpg", 1)]
DISTRACTORS = ["x.jpg", "y.jpg"]


def write(path, size=(112, 112)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.resize(photo(len(path.stem), 0), size))


def write_list(path, kind, entries):
    names = np.empty((len(entries), 1), object)
    names[:, 0] = [name for name, _ in entries]
    ids = np.array([[identity] for _, identity in entries], np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {f"{kind}_set": names, f"{kind}_ids": ids}, do_compression=True)


def write_lists(folder, probes=PROBES, matches=MATCHES):
    write_list(folder / "probe_img_ID_pairs.mat", "probe", probes)
    write_list(folder / "gallery_match_img_ID_pairs.mat", "gallery", matches)


def write_images(folder, size=(112, 112), extension=".jpg", distractors=DISTRACTORS):
    for below, names in (
        ("Probe", [name for name, _ in PROBES]),
        ("Gallery_Match", [name for name, _ in MATCHES]),
        ("Gallery_Distractor", distractors),
    ):
        for name in names:
            write(folder / below / name.replace(".jpg", extension), size)


@pytest.fixture
def owners(tmp_path):
    """The archive as its owners distribute it."""
    folder = tmp_path / "tinyface"
    write_lists(folder / "Testing_Set")
    write_images(folder / "Testing_Set", (16, 20))
    write(folder / "Training_Set/5/5_1.jpg")
    return folder


def scored(target, h):
    return target.score(checked(np.asarray(h, np.float32)))


def test_the_owners_folder(owners):
    target = open_tinyface(owners)
    expected = [f"Probe/{name}" for name, _ in PROBES] + [f"Gallery_Match/{name}" for name, _ in MATCHES]
    assert target.images.names == expected + ["Gallery_Distractor/x.jpg", "Gallery_Distractor/y.jpg"]
    assert target.identity.tolist() == [1, 1, 30, 30, 1, 1, -1, -1] and target.probes == 3
    assert target.images.read(0, 8).shape == (8, 112, 112, 3)
    whole, unaligned = target.notes
    assert "3 probes of 3728, 3 gallery images of 4443, 2 distractors of 153428" in whole
    assert unaligned.startswith("8 of 8 images are not square")


@pytest.mark.parametrize("layout", ["beside", "inside", "alone", "identification"])
def test_aligned_crops(owners, layout):
    """AdaFace's: `aligned_pad_0.1_pad_high` beside `tinyface`, as PNG; or in it; or with the lists inside."""
    root = owners.parent
    aligned = (owners if layout == "inside" else root) / "aligned_pad_0.1_pad_high"
    write_images(aligned, extension=".png", distractors=["grid/x.jpg", "y.jpg"])
    if layout == "alone":
        write_lists(aligned)
        root = aligned
    if layout == "identification":
        root = owners
        write_images(owners / "aligned")
        (owners / "Face_Identification_Evaluation").mkdir()
        for name in ("probe_img_ID_pairs.mat", "gallery_match_img_ID_pairs.mat"):
            (owners / "Testing_Set" / name).rename(owners / "Face_Identification_Evaluation" / name)
    folder = find_tinyface(root)
    assert folder == root
    target = open_tinyface(folder)
    assert target.images.root == (owners / "aligned" if layout == "identification" else aligned)
    assert len(target.images) == 8 and len(target.notes) == 1


def test_find(owners):
    root = owners.parent
    assert find_tinyface(owners) == owners and find_tinyface(owners / "Testing_Set") == owners / "Testing_Set"
    assert find_tinyface(root) == root and len(open_tinyface(root).images) == 8
    assert find_tinyface(root / "absent") is None and find_tinyface(owners / "Training_Set") is None
    owners.rename(root / "TinyFace")
    assert find_tinyface(root) == root / "TinyFace" and len(open_tinyface(root / "TinyFace").images) == 8
    write_images(root / "aligned", extension=".png")  # beside it, as beside `tinyface`
    assert open_tinyface(root / "TinyFace").images.root == root / "aligned"


def test_metrics_by_hand(owners):
    target = open_tinyface(owners)
    # probes 1_1, 1_2, 30_1; gallery 30_9, 1_8, 1_9, x, y
    h = [[1, 0], [0, 1], [1, 0], [-1, 0], [1, 0.1], [1, 3], [1, 0.5], [1, 1]]
    result = scored(target, h)
    # cosines of 1_1: 1_8 first, then x, y, 1_9; of 1_2: 1_9 first, y, x, 1_8; of 30_1: its mate last of five
    assert result.evidence["rank"].tolist() == [1, 1, 5] and result.evidence["identity"].tolist() == [1, 1, 30]
    assert result.metrics["rank1"] == pytest.approx(2 / 3) and result.metrics["rank5"] == 1 == result.metrics["rank20"]
    two = (1 + (1 / 3 + 2 / 4) / 2) / 2
    assert result.metrics["map"] == pytest.approx((two + two + (0 + 1 / 5) / 2) / 3)
    assert result.headline == ("rank1", "rank5", "rank20", "map") and result.notes == target.notes
    assert np.unique(result.evidence["replicates/rank1"]).tolist() == pytest.approx([0, 2 / 3, 1])
    assert result.intervals["rank1"] == (0, 1)  # of two identities one is found
    drawn = [0.1, (two + two + 0.1) / 3, two]  # twice the identity of one probe; both; twice that of two probes
    assert np.unique(result.evidence["replicates/map"].round(12)) == pytest.approx(drawn)


def test_distractors_are_nobody(owners):
    target = open_tinyface(owners)
    perfect = scored(target, np.eye(40)[target.identity + 1])
    assert perfect.metrics == dict(rank1=1, rank5=1, rank20=1, map=1, probes=3, xnorm=1)
    assert perfect.intervals == dict.fromkeys(perfect.headline, (1, 1))
    assert scored(target, np.ones((8, 4))).metrics["rank1"] == 0


def test_without_distractors(owners):
    for name in DISTRACTORS:
        (owners / "Testing_Set/Gallery_Distractor" / name).unlink()
    target = open_tinyface(owners)
    assert len(target.images) == 6 and "without distractors the search is much easier" in target.notes[0]


def refused(folder, *words):
    with pytest.raises(ValueError) as error:
        open_tinyface(folder)
    assert all(word in str(error.value) for word in words), error.value


def test_lists_that_name_other_images(owners):
    lists = owners / "Testing_Set"
    write_lists(lists, probes=[*PROBES, ("30_2.jpg", 30)])
    refused(owners, "probe_img_ID_pairs.mat: entry 4 names '30_2.jpg', which is not in", "Probe")
    write_lists(lists, matches=[("../Probe/1_1.jpg", 1), *MATCHES])
    refused(owners, "gallery_match_img_ID_pairs.mat: entry 1 names '../Probe/1_1.jpg'")
    write_lists(lists, matches=[*MATCHES, MATCHES[1]])
    refused(owners, "entry 4 names '1_8.jpg', as entry 2 does")
    write_lists(lists, matches=MATCHES[1:])
    refused(owners, "probe_img_ID_pairs.mat: entry 3, Probe/30_1.jpg: identity 30 is not in gallery_match")


def test_two_copies_of_images(owners):
    write(owners / "Testing_Set/Probe/1_1.png")
    refused(owners, "1_1.jpg", "1_1.png", "keep one")
    write_images(owners / "aligned_a")
    write_images(owners / "aligned_b")
    refused(owners, "aligned_a", "aligned_b", "keep one")


def test_missing_lists(owners):
    (owners / "Testing_Set/gallery_match_img_ID_pairs.mat").unlink()
    refused(owners, "gallery_match_img_ID_pairs.mat is no list of TinyFace", "No such file")
    (owners / "Testing_Set/probe_img_ID_pairs.mat").unlink()
    refused(owners, "has no probe_img_ID_pairs.mat; expected it there")


def test_lists_of_another_content(owners):
    path = owners / "Testing_Set/probe_img_ID_pairs.mat"
    write_list(path, "gallery", PROBES)
    refused(owners, str(path), "probe_set")
    savemat(path, {"probe_set": np.array(["1_1.jpg"], object), "probe_ids": np.array([1, 2])})
    refused(owners, "1 names and 2 identities")
    savemat(path, {"probe_set": np.array(["1_1.jpg"], object), "probe_ids": np.array([-1.5])})
    refused(owners, "no whole numbers")


def test_damaged_lists(owners):
    path = owners / "Testing_Set/probe_img_ID_pairs.mat"
    whole = path.read_bytes()
    for data in (b"", b"text", whole[:100], whole[:-10], whole[:128] + bytes(200), b"\x89HDF\r\n\x1a\n" + bytes(600)):
        path.write_bytes(data)
        refused(owners, f"{path} is no list of TinyFace")
    draw, outcomes = np.random.default_rng(0), set()
    for _ in range(150):
        data = bytearray(whole)
        data[draw.integers(len(data))] = draw.integers(256)
        path.write_bytes(data)
        try:
            outcomes.add(len(open_tinyface(owners).images))
        except ValueError as error:
            outcomes.add("refused")
            assert str(path) in str(error) and "\n" not in str(error)
    assert outcomes == {8, "refused"}
