import base64

import numpy as np
import pytest

from eval.faces import faces_file, read_faces, write_faces
from eval.hardest import PAIRS, PROBES, hardest_pairs, hardest_probes, sheets
from utils import jpeg

draw = np.random.default_rng(0)


def test_the_hardest_pairs_of_each_kind():
    dist, issame = draw.random(100) * 4, draw.random(100) < 0.5
    found = hardest_pairs(dist, issame, np.arange(100), np.arange(100) + 100)
    for kind, kept, sign in (("matched", issame, -1), ("mismatched", ~issame, 1)):
        images, cosine = found[f"hard/{kind}"], found[f"hard/{kind}/cosine"][:, 0]
        expected = sorted(np.flatnonzero(kept), key=lambda i: sign * dist[i])[:PAIRS]
        assert images.tolist() == [[i, i + 100] for i in expected] and images.dtype == np.int32
        assert cosine == pytest.approx(1 - dist[expected] / 2)
    assert list(hardest_pairs(dist, np.ones(100, bool), np.arange(100), np.arange(100))) == [
        "hard/matched",
        "hard/matched/cosine",
    ]


def test_the_hardest_probes_with_whom_they_were_taken_for():
    identity = np.array([0, 1, 2, 3, 4, 0, 0, 1, 2, 3, 4])
    h = draw.normal(size=(11, 8)).astype(np.float32)
    gallery, probes, rank = np.arange(5), np.arange(5, 11), np.array([1, 5, 2, 4, 3, 1])
    found = hardest_probes("d1", h, probes, gallery, identity, rank)
    images, cosines = found["hard/d1"], found["hard/d1/cosine"]
    assert images[:, 0].tolist() == [6, 8, 9, 7] and len(images) == PROBES
    u = h / np.linalg.norm(h, axis=1, keepdims=True)
    for (probe, own, other), cosine in zip(images, cosines, strict=True):
        scores = u[gallery] @ u[probe]
        assert own == identity[probe] and cosine == pytest.approx(scores[[own, other]], abs=1e-6)
        assert other == max((row for row in gallery if row != own), key=lambda row: scores[row])
    assert hardest_probes("d1", h, probes[:1], gallery[:1], identity, rank[:1]) == {}


def test_sheets_show_an_image_that_is_there_twice_once():
    z = np.array([3, 1, 2, 1, 9, 9, 8], np.float32)
    found = sheets(z[:, None])
    assert found["sheet/low"].tolist() == [1, 2] and found["sheet/high"].tolist() == [4, 6]
    assert found["sheet/high/z"].tolist() == [9, 8]


class Images:
    names = ["a", "<b>", "c\udcff", "d"]

    def read(self, start, end):
        return np.full((end - start, 112, 112, 3), 50 * start, np.uint8)


EVIDENCE = {"hard/matched": np.array([[1, 2]], np.int32), "hard/matched/cosine": np.zeros((1, 1), np.float32)}


def test_thumbnails_are_those_that_the_evidence_names(tmp_path):
    path = tmp_path / "results.json"
    (tmp_path / "results").mkdir()
    write_faces(path, "surveillance:x", Images(), EVIDENCE)
    found = read_faces(path, "surveillance:x")
    assert {index: face.name for index, face in found.items()} == {1: "<b>", 2: "c\udcff"}
    for index, face in found.items():
        assert np.abs(jpeg.decode(base64.b64decode(face.data)).astype(int) - 50 * index).max() <= 2
    write_faces(path, "surveillance:x", None, EVIDENCE)  # no faces this time: the earlier ones go
    assert read_faces(path, "surveillance:x") == {} and not list((tmp_path / "results").iterdir())


@pytest.mark.parametrize("text", ["", "[1]", '{"1": 2}', '{"x": ["a", "/9j/"]}', '{"1": ["a", "<script>"]}'])
def test_thumbnails_of_another_program(tmp_path, text):
    path = tmp_path / "results.json"
    (tmp_path / "results").mkdir()
    faces_file(path, "lfw").write_text(text)
    with pytest.raises(ValueError, match="lfw_faces.json cannot be read .*; evaluate that model again"):
        read_faces(path, "lfw")
