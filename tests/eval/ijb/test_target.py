"""IJB as a target: found, opened, scored with everything a result holds."""

import shutil

import numpy as np
import pytest

from eval.features import Features, extract
from eval.ijb.identification import NAMES
from eval.ijb.target import FARS, IJB, find_ijb
from tests.ijb import GALLERY, PROBES, layout, write_ijb


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "IJBB"
    write_ijb(folder)
    return folder


def features(noise=0.0, seed=0):
    """(48, 8): the subject's direction and noise."""
    generator = np.random.default_rng(seed)
    h = 9 * np.eye(8)[[who for *_, who in layout()]] + noise * generator.normal(size=(len(layout()), 8))
    return Features(h.astype(np.float32), np.linalg.norm(h, axis=1).astype(np.float32))


WHOLE = "not the whole IJBB: 48 images of 227,630, 16 templates of 12,115, 60 pairs of 8,010,270"


def test_result_of_perfect_features(folder):
    target = IJB(folder, "IJBB")
    result = target.score(features())
    assert (target.name, target.version, len(target.images)) == ("ijbb", 1, 48)
    assert (result.metrics.pop("pairs"), result.metrics.pop("xnorm")) == (60, 9)
    assert set(result.metrics.values()) == {1.0}
    names = [*(f"tar@far={far}" for far in FARS), "strict_tar@far=1e-4", *NAMES]
    assert list(result.headline) == names and set(names) < set(result.metrics)
    assert NAMES == ("rank1", "rank5", "rank10", "tpir@fpir=0.01", "tpir@fpir=0.1")
    assert result.evidence["rank"].tolist() == [1] * PROBES
    assert result.evidence["identity"].tolist() == [(row * 5) % 6 for row in range(GALLERY, GALLERY + PROBES)]
    assert result.evidence["tar"][0] == 1 and result.evidence["far"][-1] == 1
    assert [note.split(";")[0] for note in result.notes] == [WHOLE]
    rates = {f"strict_tar@far=1e-{k}" for k in (3, 4, 5, 6)}
    assert set(result.intervals) == {"rank1", "rank5", "rank10"} | rates
    assert set(result.intervals.values()) == {(1.0, 1.0)}


def test_intervals_hold_the_numbers(folder):
    result = IJB(folder, "IJBB", with_images=False).score(features(5))
    assert 0 < result.metrics["rank1"] < 1
    for name, (low, high) in result.intervals.items():
        assert low <= result.metrics[name] <= high
    replicated = {name for name in result.evidence if name.startswith("replicates/")}
    assert replicated == {f"replicates/{name}" for name in result.intervals}
    assert all(len(result.evidence[name]) == 1000 for name in replicated)


def test_labels_that_contradict_the_subjects_have_no_interval(tmp_path):
    write_ijb(tmp_path)
    path = tmp_path / "meta" / "ijbb_template_pair_label.txt"
    text = path.read_text()
    end = text.index("\n")
    path.write_text(f"{text[: end - 1]}{1 - int(text[end - 1])}{text[end:]}")
    result = IJB(tmp_path, "IJBB", with_images=False).score(features())
    assert set(result.intervals) == {"rank1", "rank5", "rank10"}


LISTS = ("face_tid_mid.txt", "name_5pts_score.txt", "template_pair_label.txt", "1N_gallery_S1.csv",
         "1N_gallery_S2.csv", "1N_probe_mixed.csv")  # fmt: skip


def test_digest_is_of_the_lists_wherever_they_are(folder, tmp_path):
    digest = IJB(folder, "IJBB").digest()
    assert len(digest) == 64 and digest == IJB(folder, "IJBB", with_images=False).digest()
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)  # with dates of its own
    assert IJB(copy, "IJBB").digest() == digest
    found = {digest}
    for name in LISTS:  # the last character but the line's end: of a media, a score, a label, a further field
        path = copy / "meta" / f"ijbb_{name}"
        text = path.read_text()
        path.write_text(text[:-2] + ("1\n" if text[-2] == "0" else "0\n"))
        assert path.read_text() != text
        found.add(IJB(copy, "IJBB", with_images=False).digest())
        path.write_text(text)
    assert len(found) == 1 + len(LISTS) and IJB(copy, "IJBB", with_images=False).digest() == digest
    for path in (copy / "meta").glob("*_1N_*"):
        path.unlink()
    assert IJB(copy, "IJBB", with_images=False).digest() not in found


def test_weights_are_what_the_flags_say(folder):
    target = IJB(folder, "IJBB", use_norm_score=False, use_detector_score=False, with_images=False)
    h = features(4).h
    u = h / np.linalg.norm(h, axis=1, keepdims=True)
    rows, media = (np.array([entry[k] for entry in layout()]) for k in (1, 2))
    for row in range(GALLERY + PROBES):
        pooled = sum(u[(rows == row) & (media == one)].mean(axis=0) for one in set(media[rows == row]))
        assert np.allclose(target.templates(h).u[row], pooled / np.linalg.norm(pooled), atol=1e-6)
    assert target.images is None
    weighted = IJB(folder, "IJBB", with_images=False).templates(h).u
    assert np.abs(weighted - target.templates(h).u).max() > 1e-3


def test_features_of_the_images(folder):
    """Mean colours in a coarse grid tell the drawn subjects apart: reading, order and alignment fit together."""
    target = IJB(folder, "IJBB")

    def embed(images):
        import torch

        x = images[:, 35:95, 35:75].float()
        h = x.reshape(len(x), 3, 20, 2, 20, 3).mean(dim=(2, 4)).flatten(1) - 127.5
        return h / h.norm(dim=1, keepdim=True), torch.ones(len(h))

    metrics = target.score(extract(embed, target.images, "none")).metrics
    assert metrics["rank1"] == 1 and metrics["tar@far=1e-1"] == 1


def test_collapsed_features(folder):
    h = np.ones((48, 8), np.float32)
    result = IJB(folder, "IJBB", use_detector_score=False).score(Features(h, np.ones(48, np.float32)))
    wrong = {name for name, value in result.metrics.items() if value} - {"pairs", "xnorm"}
    assert wrong == {"rank10", "galleries_rank5", "galleries_rank10"}  # the galleries hold 6 and 3 templates
    assert "all templates are the same" in result.notes[1]


@pytest.mark.parametrize("weight", [True, False])
def test_a_collapsed_embedding_of_uneven_templates(folder, weight):
    """Weights and sums leave templates that differ in their last digits: no rate may be made of that."""
    h = np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32).repeat(48, axis=0)
    result = IJB(folder, "IJBB", use_detector_score=weight).score(Features(h, np.ones(48, np.float32)))
    assert all(result.metrics[f"strict_tar@far={far}"] == 0 for far in FARS)
    assert result.metrics["rank1"] == result.metrics["rank5"] == 0
    assert result.metrics["tpir@fpir=0.1"] == result.metrics["galleries_tpir@fpir=0.1"] == 0


def test_templates_that_cancel_are_told_of(folder):
    h = features().h
    h[[row in (2, 5) for _, row, *_ in layout()]] = 0
    result = IJB(folder, "IJBB").score(Features(h, np.ones(48, np.float32)))
    assert result.notes[1:] == ("2 of 16 templates are zero, the first is 9: they score 0",)


def test_no_lists_of_1n_is_a_note(tmp_path):
    write_ijb(tmp_path)
    for path in (tmp_path / "meta").glob("*_1N_*"):
        path.unlink()
    result = IJB(tmp_path, "IJBB").score(features())
    assert "rank1" not in result.metrics and "no 1:N" in result.notes[1]


def test_other_features(folder):
    with pytest.raises(ValueError, match="features of 47 images, but ijbb has 48"):
        IJB(folder, "IJBB", with_images=False).templates(features().h[1:])


def test_find(folder, tmp_path):
    assert find_ijb(folder.parent, "ijbb") == folder
    assert find_ijb(folder, "ijbb") == folder
    assert find_ijb(folder.parent, "ijbc") is None
    write_ijb(tmp_path / "ijbc", "IJBC")
    assert find_ijb(tmp_path, "ijbc") == tmp_path / "ijbc"
    with pytest.raises(ValueError, match="'ijba': expected ijbb or ijbc"):
        find_ijb(tmp_path, "ijba")
