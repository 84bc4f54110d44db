import numpy as np
import pytest
import torch

from eval.bins import BinError, PairBin
from eval.cross_resolution import OTHERS, RESOLUTIONS, CrossResolution, by_resolution
from eval.degrade import grade
from eval.features import Features, checked
from eval.protocol import evaluate
from eval.verification import Verification
from tests.faces import photo
from utils import jpeg

GRADES = ("8px", "28px", "jpeg10", "noise20")


def pair_set(issame, people=4):
    """Pair i: a photo of person i mod `people` and one of the same person or of the next."""
    photos = {(k, n): jpeg.encode(photo(k, n)) for k in range(people) for n in (0, 1)}
    jpegs = []
    for i, same in enumerate(issame):
        jpegs += [photos[i % people, 0], photos[(i + (not same)) % people, 1]]
    return PairBin("faces", jpegs, np.array(issame))


LFW_LIKE = ([True] * 4 + [False] * 4) * 10  # in each fold the matched pairs stand first


@pytest.fixture(scope="module")
def faces():
    return pair_set(LFW_LIKE)


def who(pair_bin, people=4):
    """The person in each image."""
    return np.ravel([(i % people, (i + (not same)) % people) for i, same in enumerate(pair_bin.issame)])


def test_images_come_grade_after_grade_in_any_cut():
    pair_bin = pair_set([True, False] * 5)
    images = CrossResolution(pair_bin, grades=GRADES).images
    names = ("112px", *GRADES)
    expected = np.array([grade(name)(jpeg.decode(data), i) for name in names for i, data in enumerate(pair_bin.jpegs)])
    assert len(images) == len(expected) == 100
    assert np.array_equal(images.read(0, 100), expected)
    for start, end in ((0, 1), (18, 23), (79, 81), (99, 100), (5, 5)):
        assert np.array_equal(images.read(start, end), expected[start:end])


def test_an_image_is_the_same_whatever_else_is_chosen(faces):
    few = CrossResolution(faces, grades=["noise20"], pairs=20).images
    everything = CrossResolution(faces, grades=["8px", "noise20"]).images
    kept = [i for fold in range(10) for pair in (8 * fold, 8 * fold + 4) for i in (2 * pair, 2 * pair + 1)]
    assert len(few) == 2 * len(kept)
    assert np.array_equal(few.read(40, 80), [everything.read(320 + i, 320 + i + 1)[0] for i in kept])


@pytest.mark.parametrize("issame", [LFW_LIKE, [True, False] * 40, [True, True, True, False] * 20 + [True, False]])
@pytest.mark.parametrize("pairs", [20, 40])
def test_capped_folds_stay_folds_with_the_share_of_matched_pairs_that_they_have(issame, pairs):
    pair_bin = pair_set(issame)
    target = CrossResolution(pair_bin, grades=["8px"], pairs=pairs)
    assert len(target.issame) == pairs
    for whole, fold in zip(np.array_split(pair_bin.issame, 10), np.array_split(target.issame, 10), strict=True):
        assert abs(fold.sum() - whole.mean() * len(fold)) <= 0.5


def test_all_pairs_or_as_many_as_there_are(faces):
    whole, capped = CrossResolution(faces, grades=["8px"]), CrossResolution(faces, grades=["8px"], pairs=80)
    assert np.array_equal(whole.issame, capped.issame) and whole.images.digest() == capped.images.digest()


@pytest.mark.parametrize("pairs", [0, -10, 5, 15, 90])
def test_caps_that_folds_cannot_give(faces, pairs):
    with pytest.raises(ValueError, match=f"pairs={pairs}: expected a multiple of 10 from 10 to 80"):
        CrossResolution(faces, pairs=pairs)


def test_digest_tells_everything_that_pixels_depend_on(faces):
    def digest(pair_bin=faces, **options):
        return CrossResolution(pair_bin, **{"grades": GRADES, **options}).images.digest()

    other = PairBin("faces", faces.jpegs[:-1] + faces.jpegs[:1], faces.issame)
    others = [digest(other), digest(grades=GRADES[:3]), digest(grades=GRADES[::-1]), digest(pairs=40)]
    assert digest() == digest() and len({digest(), *others}) == 5


def loop_accuracy(dist, issame):
    """Ten contiguous folds, each at the first best of 400 thresholds on the others: accuracy and what is right."""
    folds, right = np.array_split(np.arange(len(dist)), 10), np.zeros(len(dist), bool)
    for held_out in folds:
        rest = np.setdiff1d(np.arange(len(dist)), held_out)
        counts = [np.sum((dist[rest] < t) == issame[rest]) for t in np.arange(0, 4, 0.01)]
        right[held_out] = (dist[held_out] < np.arange(0, 4, 0.01)[np.argmax(counts)]) == issame[held_out]
    return np.mean([right[fold].mean() for fold in folds]), right


def test_numbers_of_random_features_by_loops(faces):
    draw = np.random.default_rng(0)
    target = CrossResolution(faces, grades=GRADES)
    features = checked(draw.normal(size=(800, 4)).astype(np.float32))
    result = target.score(features)
    u = features.h.astype(float) / np.linalg.norm(features.h.astype(float), axis=1)[:, None]
    for g, name in enumerate(("112px", *GRADES)):
        for kind, first_grade in (("both", g), ("cross", 0)):
            if (kind, g) == ("cross", 0):
                continue
            dist = np.array([((u[first_grade * 160 + 2 * i] - u[g * 160 + 2 * i + 1]) ** 2).sum() for i in range(80)])
            accuracy, right = loop_accuracy(dist, faces.issame)
            assert result.metrics[f"{kind}@{name}"] == pytest.approx(accuracy, abs=1e-12)
            assert np.array_equal(result.evidence[f"right/{kind}@{name}"], right)
            evidence = result.evidence[f"dist/{kind}@{name}"]
            assert evidence.dtype == np.float32 and np.allclose(evidence, dist, rtol=1e-6)
        z = features.z[g * 160 : (g + 1) * 160]
        assert result.metrics[f"norm@{name}"] == pytest.approx(z.mean(), rel=1e-6)
        assert np.array_equal(result.evidence[f"z/{name}"], z)
    metrics = result.metrics
    assert metrics["mean_both"] == pytest.approx((metrics["both@8px"] + metrics["both@28px"]) / 2)
    assert metrics["mean_cross"] == pytest.approx((metrics["cross@8px"] + metrics["cross@28px"]) / 2)
    assert result.headline == (
        *("both@112px", "both@8px", "both@28px", "mean_both"),
        *("cross@8px", "cross@28px", "mean_cross"),
    )
    shares = np.mean([result.evidence[f"right/cross@{name}"] for name in ("8px", "28px")], axis=0)
    draws = [draw.choice(shares, 80).mean() for _ in range(2000)]
    assert result.intervals["mean_cross"] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.02)
    assert np.std(result.evidence["replicates/mean_cross"]) == pytest.approx(np.std(draws), rel=0.1)
    for name in result.headline:
        low, high = result.intervals[name]
        assert low < metrics[name] < high
    assert np.array_equal(result.evidence["issame"], faces.issame) and "cross@112px" not in metrics


def test_the_norm_as_quality_by_loops(faces):
    """Discarded are all pairs whose worse image has a norm below each that there is, those of equal norm at once."""
    draw = np.random.default_rng(1)
    features = checked(draw.normal(size=(800, 4)).astype(np.float32))
    result = CrossResolution(faces, grades=GRADES).score(features)
    genuine, impostor, quality = [], [], []
    for g in range(1, 1 + len(GRADES)):
        for i, same in enumerate(faces.issame):
            score = -result.evidence[f"dist/cross@{('112px', *GRADES)[g]}"][i]
            (genuine if same else impostor).append(score)
            if same:
                quality.append(min(features.z[2 * i], features.z[g * 160 + 2 * i + 1]))
    threshold = sorted(impostor, reverse=True)[int(0.01 * len(impostor))]
    wrong, quality = np.array(genuine) <= threshold, np.array(quality)
    discarded = [np.mean(quality < lowest) for lowest in sorted(set(quality))]
    fnmr = [np.mean(wrong[quality >= lowest]) for lowest in sorted(set(quality))]
    assert np.allclose(result.evidence["discarded"], discarded) and np.allclose(result.evidence["fnmr"], fnmr)
    assert 0 < result.metrics["pauc"] < 2


def by_person(faces, h_of_grade):
    """Features that tell people, made worse at each grade by `h_of_grade(one_hot, grade index)`."""
    one_hot = np.eye(4, dtype=np.float32)[who(faces)]
    return checked(np.concatenate([h_of_grade(one_hot, g) for g in range(1 + len(GRADES))]).astype(np.float32))


def test_perfect_model(faces):
    metrics = CrossResolution(faces, grades=GRADES).score(by_person(faces, lambda h, g: h)).metrics
    assert {value for name, value in metrics.items() if name.split("@")[0] in ("both", "cross")} == {1.0}
    assert metrics["mean_both"] == metrics["mean_cross"] == 1.0 and metrics["pairs"] == 80


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_collapsed_model(faces, value):
    """Constant features and features of zeros tell nobody from anybody."""
    metrics = CrossResolution(faces, grades=GRADES).score(by_person(faces, lambda h, g: h * 0 + value)).metrics
    assert {value for name, value in metrics.items() if name.split("@")[0] in ("both", "cross")} == {0.5}


def test_model_that_turns_degraded_faces_round(faces):
    """Degraded faces agree with each other, and none with its original."""
    metrics = CrossResolution(faces, grades=GRADES).score(by_person(faces, lambda h, g: -h if g else h)).metrics
    assert all(metrics[f"both@{name}"] == 1.0 and metrics[f"cross@{name}"] == 0.5 for name in GRADES)


def test_model_that_fails_on_first_images_only(faces):
    """One degraded image is the second one: what happens to the first one there does not count."""

    def h_of_grade(h, g):
        h = h.copy()
        h[0::2] = 1.0 if g else h[0::2]
        return h

    metrics = CrossResolution(faces, grades=GRADES).score(by_person(faces, h_of_grade)).metrics
    assert all(metrics[f"both@{name}"] == 0.5 and metrics[f"cross@{name}"] == 1.0 for name in GRADES)


def test_note_where_the_norm_does_not_rise(faces):
    target = CrossResolution(faces, grades=GRADES)
    rising = {"112px": 20, "8px": 10, "28px": 15, "jpeg10": 1, "noise20": 30}
    h = by_person(faces, lambda h, g: h).h

    def notes(norms):
        return target.score(Features(h, np.repeat(list(norms.values()), 160).astype(np.float32))).notes

    assert notes(rising) == ()  # other grades have no order
    (note,) = notes(rising | {"28px": 9})
    assert "28 px" in note and "\n" not in note


def test_other_grades_only(faces):
    target = CrossResolution(faces, grades=["jpeg10"])
    result = target.score(checked(np.random.default_rng(0).normal(size=(320, 4))))
    assert result.headline == ("both@112px",) and "mean_both" not in result.metrics and not result.notes
    assert by_resolution(result.metrics)[0].tolist() == [112]


def test_whole_protocol_agrees_with_verification_on_the_original(faces):
    """Through real grades: features of pixels, of which each resolution leaves less."""

    def pixels(images):
        h = torch.as_tensor(images)[:, 4::8, 4::8].float().flatten(1) - 128
        z = h.norm(dim=1)
        return h / z[:, None], z

    target = CrossResolution(faces, name="cross_resolution:faces", pairs=40)
    assert target.grades == ("112px", *RESOLUTIONS, *OTHERS) and target.name == "cross_resolution:faces"
    result = evaluate(pixels, target)
    jpegs = [data for k in range(80) if k % 8 in (0, 1, 4, 5) for data in faces.jpegs[2 * k : 2 * k + 2]]
    whole = evaluate(pixels, Verification(PairBin("kept", jpegs, target.issame)))
    assert result.metrics["both@112px"] == whole.metrics["accuracy"]
    assert result.metrics["xnorm"] == pytest.approx(whole.metrics["xnorm"])
    norms = [result.metrics[f"norm@{name}"] for name in (*RESOLUTIONS, "112px")]
    assert norms == sorted(norms) and not result.notes


def test_by_resolution():
    metrics = {
        "both@112px": 0.9,
        "both@8px": 0.6,
        "cross@8px": 0.5,
        "both@28px": 0.8,
        "cross@28px": 0.7,
        "both@jpeg5": 0,
    }
    sides, both, cross = by_resolution({**metrics, "mean_both": 0.7, "norm@8px": 3.0})
    assert sides.tolist() == [8, 28, 112] and both.tolist() == [0.6, 0.8, 0.9] and cross.tolist() == [0.5, 0.7, 0.9]


def test_features_that_are_not_numbers(faces):
    features = by_person(faces, lambda h, g: h)
    features.h[400] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        CrossResolution(faces, grades=GRADES).score(features)


def test_sets_and_options_that_are_refused(faces):
    with pytest.raises(BinError, match=r"faces\.bin has 9 pairs: expected at least one for each of 10 folds"):
        CrossResolution(PairBin("faces", faces.jpegs[:18], faces.issame[:9]))
    cut = [*faces.jpegs[:17], faces.jpegs[17][:60], *faces.jpegs[18:]]
    with pytest.raises(BinError, match=r"faces\.bin: image 17 of 160"):
        CrossResolution(PairBin("faces", cut, faces.issame))
    with pytest.raises(ValueError, match="grade '7lines': expected 4px to 112px"):
        CrossResolution(faces, grades=["8px", "7lines"])
    for grades in (["8px", "8px"], ["8px", "112px"]):
        with pytest.raises(ValueError, match="expected each one once, and 112px not among them"):
            CrossResolution(faces, grades=grades)


def test_image_that_cannot_be_decoded_is_named_as_it_is_in_the_file(faces):
    damaged = bytearray(faces.jpegs[8])  # image 8: the first of pair 4, kept as the first mismatched one
    damaged[len(damaged) // 2 : -2] = b"\xff\xd0" * ((len(damaged) - 2 - len(damaged) // 2) // 2)
    pair_bin = PairBin("faces", [*faces.jpegs[:8], bytes(damaged), *faces.jpegs[9:]], faces.issame)
    images = CrossResolution(pair_bin, grades=["8px"], pairs=20).images
    images.read(0, 2)
    with pytest.raises(BinError, match=r"faces\.bin: image 8 of 160"):
        images.read(40, 44)
