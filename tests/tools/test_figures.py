"""`python -m tools.figures`: figures show the recorded numbers, say what they are, and nothing covers anything."""

import json
import math

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from eval.protocol import Result
from eval.results import Record, write_results
from recognition.backbones import get_backbone
from recognition.data.augment import Augment
from recognition.data.loader import ViewBatches
from recognition.data.sources import open_source
from recognition.margins import make_margin
from recognition.models import save_model
from tests import faces
from tools.figures import __main__ as command
from tools.figures import difference, gst, page, similarity
from tools.inspect.sheet import GREEN, RED


@pytest.fixture
def figures(monkeypatch, tmp_path):
    """The figures that are made, in a folder where they may be written."""
    made, new_page = [], page.new_page
    monkeypatch.setattr(page, "new_page", lambda *words: made.append(new_page(*words)) or made[-1])
    monkeypatch.chdir(tmp_path)
    return made


def run(*words) -> None:
    command.main(list(map(str, words)))


def is_legible(figure) -> list[str]:
    """Title, panels, legend and caption lie inside the page and apart; returns the words of the legend."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    boxes = [axes.get_tightbbox(renderer) for axes in figure.axes]
    boxes += [part.get_window_extent(renderer) for part in (*figure.texts, *figure.legends)]
    assert figure._suptitle.get_text() and len(figure.texts) == 2 and len(figure.legends) <= 1
    for row, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[row + 1 :])
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def caption(figure) -> str:
    return figure.texts[1].get_text().replace("\n", " ")


# --- gst


def by_hand(f, s, theta, z_hat, classes, others):
    """|g| of Eq. 11-12 for f(theta, z_hat), without s, its slope by central differences of the cosine."""
    step = 1e-6
    target, negative = s * f(theta, z_hat), math.log(classes - 1) + s * math.cos(others)
    P = 1 / (1 + math.exp(negative - target))
    ahead, behind = (f(math.acos(math.cos(theta) + move), z_hat) for move in (step, -step))
    return abs((P - 1) * s * (ahead - behind) / (2 * step))


FUNCTIONS = {
    "arcface": lambda theta, z_hat: math.cos(theta + 0.5),
    "adaface": lambda theta, z_hat: math.cos(theta - 0.4 * z_hat) - (0.4 * z_hat + 0.4),
}
MARGINS = {
    "arcface": make_margin("combined", margin_list=(1.0, 0.5, 0.0)),
    "adaface": make_margin("adaface", 0.4),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_scaling_term_is_equation_12(name):
    angle, z_hat = np.radians([30, 55, 62, 90, 115]), np.array([-1, -0.3, 1])
    found = gst.scaling_term(MARGINS[name], angle, z_hat, 64, 1000, math.radians(80))
    expected = [[by_hand(FUNCTIONS[name], 64, t, z, 1000, math.radians(80)) for t in angle] for z in z_hat]
    assert found == pytest.approx(np.array(expected), rel=1e-5, abs=1e-12)


def test_gst_draws_both_margins_on_one_scale(figures, tmp_path):
    run("gst", "--scale", 32, "--classes", 100, "--others", 85, "--threshold", 0.3)
    is_legible(figures[0])
    panels, meshes = figures[0].axes[:2], [axes.collections[0] for axes in figures[0].axes[:2]]
    assert ["ArcFace" in panels[0].get_title(), "AdaFace" in panels[1].get_title()] == [True, True]
    angle, z_hat = gst._middle(np.linspace(0, math.radians(120), 241)), gst._middle(np.linspace(-1, 1, 101))
    for mesh, name in zip(meshes, MARGINS, strict=True):
        expected = gst.scaling_term(MARGINS[name], angle, z_hat, 32, 100, math.radians(85)) / 32
        assert np.array_equal(mesh.get_array(), expected)
        assert mesh.get_clim() == meshes[0].get_clim()
    arcface, adaface = (np.asarray(mesh.get_array()) for mesh in meshes)
    assert arcface == pytest.approx(np.broadcast_to(arcface[0], arcface.shape))  # it does not ask for the quality
    assert adaface[0, 140] > adaface[-1, 140]  # at 70 degrees low quality is pulled harder: the paper's point
    assert set(panels[1].lines[0].get_ydata()) == {2 * 0.3 - 1}
    stated = caption(figures[0])
    assert "99 other proxies, all at 85°" in stated and "b = 0.3" in stated and "s = 32" in stated
    assert [path.name for path in tmp_path.iterdir()] == ["gst.png"]


@pytest.mark.parametrize("suffix, head", [("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")])
def test_the_suffix_is_the_format(figures, tmp_path, suffix, head):
    run("gst", "--output", tmp_path / f"figure.{suffix}")
    assert (tmp_path / f"figure.{suffix}").read_bytes().startswith(head)


# --- difference


def write_log(folder, rows, pool=None):
    """A run's metrics.jsonl of (step, positive, negative), between lines of training and evaluation."""
    folder.mkdir()
    lines = [{"step": 1, "time": 0.0, "lr": 0.1}]
    for step, positive, negative in rows:
        lines.append({"step": step, "time": 0.0} | dict(zip(difference.COLUMNS, (positive, negative), strict=True)))
    lines.append({"step": 9, "time": 0.0, "val/lfw/accuracy": 0.9})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 10, "ti')
    if pool:
        (folder / "config.json").write_text(json.dumps({"pool": pool}))
    return folder


def test_difference_draws_what_the_runs_recorded(figures, tmp_path):
    ours = write_log(tmp_path / "a", [(2, 0.9, 1.3), (4, None, 1.2), (6, 0.7, 1.1)], "proxy")
    theirs = write_log(tmp_path / "b", [(2, 0.5, 0.6), (4, 0.4, 0.5)], "momentum")
    run("difference", ours, theirs)
    names = is_legible(figures[0])
    assert names == [f"{pool} queue: {kind} pairs" for pool in ("proxy", "momentum") for kind in difference.KINDS]
    (axes,) = figures[0].axes
    expected = [[[2, 0.9], [6, 0.7]], [[2, 1.3], [6, 1.1]], [[2, 0.5], [4, 0.4]], [[2, 0.6], [4, 0.5]]]
    assert [line.get_xydata().tolist() for line in axes.lines] == expected
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle() and axes.get_ylim()[0] == 0
    assert axes.get_xlabel() and axes.get_ylabel() and "Each point" not in caption(figures[0])


def test_long_runs_are_averaged(figures, tmp_path):
    values = np.random.default_rng(0).random((2, 250))
    run("difference", write_log(tmp_path / "a", zip(range(250), *values, strict=True)))
    line = figures[0].axes[0].lines[1]
    assert line.get_xdata().tolist() == [*(3 * np.arange(83) + 1), 249]
    assert line.get_ydata() == pytest.approx([*values[1, :249].reshape(83, 3).mean(1), values[1, 249]])
    assert "mean of up to 3 recorded steps" in caption(figures[0])


def test_names_of_runs(figures, tmp_path):
    runs = [write_log(tmp_path / name, [(1, 1.0, 1.0)], "proxy") for name in "ab"]
    run("difference", *runs)
    assert is_legible(figures[0])[::2] == ["proxy queue, a: positive pairs", "proxy queue, b: positive pairs"]
    run("difference", *runs, "--names", "slow", "fast")
    assert is_legible(figures[1])[::2] == ["slow: positive pairs", "fast: positive pairs"]
    with pytest.raises(ValueError, match="--names: 1 for 2 runs"):
        run("difference", *runs, "--names", "slow")
    with pytest.raises(ValueError, match="two runs are called 'slow'"):
        run("difference", *runs, "--names", "slow", "slow")


def test_runs_without_diagnostics(figures, tmp_path):
    run_folder = write_log(tmp_path / "a", [])
    with pytest.raises(ValueError, match="no line with diag/positive_difference and .*diagnose_every=100"):
        run("difference", run_folder)
    (run_folder / "metrics.jsonl").write_text("step 3\n")
    with pytest.raises(ValueError, match="line 1 is not one of metrics.jsonl"):
        run("difference", run_folder)
    with pytest.raises(ValueError, match="absent cannot be read .*expected the folder of a run"):
        run("difference", tmp_path / "absent")
    assert not list(tmp_path.glob("*.png"))


# --- similarity


def write_result(folder, targets, digest="data", version=1):
    """results.json of target -> {distance: (matched, unmatched)}."""
    folder.mkdir(exist_ok=True)
    records = {}
    for name, distances in targets.items():
        evidence = {
            f"{kind}/{d}": np.array(values, np.float32)
            for d, pair in distances.items()
            for kind, values in zip(similarity.KINDS, pair, strict=True)
        }
        records[name] = Record(Result({}, (), {}, evidence), version, digest, {})
    write_results(folder / "results.json", "model.pt", "digest", records)
    return folder


@pytest.fixture
def two_results(tmp_path):
    ours = {"d2": ([0.9, 0.7], [0.2, 0.2]), "d1": ([0.5, 0.3, 0.7], [0.1, 0.2, 0.3])}
    theirs = {"d1": ([0.3, 0.3, 0.3], [0.2, 0.2, 0.2]), "d2": ([0.1, 0.3], [0.3, 0.3]), "d3": ([1.0], [0.0])}
    return write_result(tmp_path / "ours", {"scface": ours}), write_result(tmp_path / "theirs", {"scface": theirs})


def test_similarity_draws_every_probe(figures, two_results, capsys):
    run("similarity", two_results[0], two_results[1] / "results.json")
    assert is_legible(figures[0]) == ["ours: matched", "ours: unmatched", "theirs: matched", "theirs: unmatched"]
    d1, d2 = figures[0].axes
    assert d1.get_title() == "d1: +200.0 %\ndifference 0.300 against 0.100"
    assert d2.get_title() == "d2: +0.700\ndifference 0.600 against -0.100"  # no per cent of a negative difference
    assert "n = 3" in d1.get_xlabel() and "n = 2" in d2.get_xlabel()
    edges = d1.patches[0].get_data().edges
    assert (edges[0], edges[-1]) == pytest.approx((0.1, 0.9))
    for patch, values in zip(d1.patches, ([0.5, 0.3, 0.7], [0.1, 0.2, 0.3], [0.3] * 3, [0.2] * 3), strict=True):
        share = np.histogram(np.array(values, np.float32), edges)[0] / 3
        assert patch.get_data().values.tolist() == share.tolist() and share.sum() == 1
        assert patch.get_data().edges.tolist() == d2.patches[0].get_data().edges.tolist() == edges.tolist()
    assert [line.get_xdata()[0] for line in d2.lines] == pytest.approx([0.8, 0.2, 0.2, 0.3])
    assert [patch.get_fill() for patch in d1.patches] == [True, False, True, False]
    assert "d1       difference of means 0.3000, baseline 0.1000: +200.0 %" in capsys.readouterr().out


def test_names_of_models(figures, two_results):
    long = "a model with a name that is a good deal longer than others"
    run("similarity", *two_results, "--names", "QGFace", long)
    assert is_legible(figures[0])[0] == "QGFace: matched" and long in figures[0]._suptitle.get_text().replace("\n", " ")
    with pytest.raises(ValueError, match="both models are called 'ours'"):
        run("similarity", two_results[0], two_results[0])


def test_which_target(figures, tmp_path):
    pair = ([0.5], [0.1])
    targets = {"scface": {"d1": pair}, "surveillance:own": {"d1": pair}, "lfw": {}}
    ours, theirs = write_result(tmp_path / "a", targets), write_result(tmp_path / "b", targets)
    with pytest.raises(ValueError, match="scface and surveillance:own are in both results; --target names one"):
        run("similarity", ours, theirs)
    run("similarity", ours, theirs, "--target", "surveillance:own")
    assert "surveillance:own" in figures[0]._suptitle.get_text()
    with pytest.raises(ValueError, match="do not both have similarities of lfw; evaluations of scface and"):
        run("similarity", ours, theirs, "--target", "lfw")


def test_results_that_cannot_be_compared(figures, tmp_path):
    pair = ([0.5, 0.6], [0.1, 0.2])
    ours = write_result(tmp_path / "ours", {"scface": {"d1": pair}})
    for distances, options, message in [
        ({"d1": pair}, {"digest": "other"}, "scface: the two results are of different data"),
        ({"d1": pair}, {"version": 2}, "of different versions of the protocol"),
        ({"d3": pair}, {}, "no distance in common"),
        ({}, {}, "do not both have similarities of a common target"),
        ({"d1": ([0.5], [0.1, 0.2])}, {}, "d1: 1 matched and 2 unmatched similarities"),
        ({"d1": ([0.5, np.nan], [0.1, 0.2])}, {}, "a similarity is not finite"),
    ]:
        theirs = write_result(tmp_path / "theirs", {"scface": distances}, **options)
        with pytest.raises(ValueError, match=message):
            run("similarity", ours, theirs)
    with pytest.raises(ValueError, match="absent cannot be read .*expected results.json of an evaluation"):
        run("similarity", ours, tmp_path / "absent")
    assert not list(tmp_path.glob("*.png"))


# --- pairs


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("records")
    faces.write_records(root, identities=6, photos=2)
    return root


@pytest.fixture
def trained(tmp_path, data):
    """Writes the folder of a run whose model is a network as it begins, with norm statistics as given."""

    def write(norms, **keys):
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        save_model(folder / "model.pt", get_backbone("tiny", 16).state_dict(), "tiny", 16, **norms)
        config = {"rec": str(data), "seed": 5, "views": ["original", "augmented"], "augment": "adaface",
                  "augment_options": {"crop_area": [0.5, 0.9]}, "quality_scale": 0.333, "quality_threshold": 0.5,
                  "network": "tiny", "embedding_size": 16}  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config | keys))
        return folder

    return write


def norms_by_hand(images):
    torch.manual_seed(0)
    backbone = get_backbone("tiny", 16).eval()
    with torch.no_grad():
        x = (images.flatten(0, 1).permute(0, 3, 1, 2).float() - 127.5) / 127.5
        return backbone(x).norm(dim=1).unflatten(0, (-1, 2))


def views(data, epoch):
    """Both views of one image of each identity, in the order of the run's seed."""
    source = open_source(data)
    first = {}
    for index in np.random.default_rng(5).permutation(12).tolist():
        first.setdefault(source[index][1], index)
    augment = Augment("adaface", crop_area=(0.5, 0.9))
    return ViewBatches(source, augment, ("original", "augmented"), 5)[epoch, np.array([*first.values()])].images


def test_pairs_are_those_of_the_run_and_framed_by_its_statistics(figures, data, trained, capsys):
    images = views(data, epoch=3)
    z = norms_by_hand(images)
    middle = float(z.amin(1).sort().values[2:4].mean())  # three pairs below, three above
    score = ((0.333 * (z - middle) / (0.1 + 0.001)).clamp(-1, 1) + 1) / 2
    run("pairs", trained({"norm_mean": middle, "norm_std": 0.1}), "--faces", 6, "--pairs", 2, "--epoch", 3)
    assert is_legible(figures[0]) == ["LQ pair", "HQ pair"]
    (axes,) = figures[0].axes
    is_lq = (score <= 0.5).any(1)
    order = [*is_lq.nonzero().flatten()[:2], *(~is_lq).nonzero().flatten()[:2]]
    assert [to_hex(patch.get_edgecolor()) for patch in axes.patches] == [RED, RED, GREEN, GREEN]
    for number, row in enumerate(order):
        frame = axes.patches[number].get_bbox()
        for view in range(2):
            drawn, text = axes.images[2 * number + view], axes.texts[2 * number + view]
            assert np.array_equal(drawn.get_array(), images[row, view].numpy())
            left, right, bottom, top = drawn.get_extent()
            assert frame.x0 <= left < right <= frame.x1 and (bottom, top) == (frame.y1, frame.y0)
            assert text.get_text() == f"|h| {z[row, view]:.1f}, {score[row, view]:.2f}"
            assert text.get_color() == (RED if score[row, view] <= 0.5 else GREEN)
    assert "3 of the 6 pairs" in caption(figures[0])
    assert "LQ       3 of 6 pairs" in capsys.readouterr().out


@pytest.mark.parametrize("threshold, colour", [(0.0, GREEN), (1.0, RED)])
def test_pairs_of_one_kind(figures, trained, threshold, colour):
    run("pairs", trained({"norm_mean": 20.0, "norm_std": 100.0}, quality_threshold=threshold), "--faces", 3)
    is_legible(figures[0])
    assert [to_hex(patch.get_edgecolor()) for patch in figures[0].axes[0].patches] == [colour] * 3


def test_pairs_by_a_threshold_that_moved(figures, trained):
    keys = {"quality_threshold": 1.0, "quality_lq_share": 0.1}  # all would be LQ where it started
    folder = trained({"norm_mean": 20.0, "norm_std": 100.0}, **keys)
    (folder / "metrics.jsonl").write_text(
        '{"step": 1, "time": 0.5, "threshold": 1.0}\n{"step": 2, "time": 0.6, "threshold": 0.0}\n'
        '{"step": 2, "time": 0.7, "val/lfw/accuracy": 0.5}\n'
    )
    run("pairs", folder, "--faces", 3)
    assert [to_hex(patch.get_edgecolor()) for patch in figures[0].axes[0].patches] == [GREEN] * 3
    assert "not above b = 0: 0 of the 3 pairs" in caption(figures[0])
    (folder / "metrics.jsonl").write_text('{"step": 1, "time": 0.5}\n')
    with pytest.raises(ValueError, match="its threshold moved, and metrics.jsonl does not say where to"):
        run("pairs", folder, "--faces", 3)


def test_runs_that_have_no_pairs_to_show(figures, trained, tmp_path, data):
    norms = {"norm_mean": 20.0, "norm_std": 100.0}
    for given, keys, message in [
        (norms, {"views": ["original"]}, r"views=\['original'\].*expected a run on pairs"),
        (norms, {"quality_threshold": None}, "quality_threshold=None; expected a run on pairs"),
        (norms, {"quality_lq_share": 0.1}, "metrics.jsonl cannot be read"),
        (norms, {"quality_source": "sharpness"}, "quality_source='sharpness': its pairs are not judged by a model"),
        (norms, {"rec": str(tmp_path / "gone")}, "gone does not exist"),
        ({}, {}, "does not say its feature norms' mean and deviation"),
    ]:
        with pytest.raises(ValueError, match=message):
            run("pairs", trained(given, **keys))
    run_folder = trained(norms, rec="gone")
    run("pairs", run_folder, "--data", data, "--output", tmp_path / "run" / "pairs.png")  # data that has moved
    (run_folder / "config.json").unlink()
    with pytest.raises(ValueError, match="config.json has no rec, seed, .*; expected the folder of a run"):
        run("pairs", run_folder)
    assert not list(tmp_path.glob("*.png"))


# --- mistakes


@pytest.mark.parametrize(
    "words, message",
    [
        (["gts"], "invalid choice: 'gts'"),
        (["gst", "--output", "gst.jpg"], "--output gst.jpg: expected a name that ends in .png, .svg, .pdf"),
        (["gst", "--output", "absent/gst.png"], "folder absent is not there; make it first"),
        (["gst", "--classes", "1"], "--classes 1: expected a number from 2"),
        (["gst", "--threshold", "nan"], "--threshold nan: expected a number from 0 to 1"),
        (["gst", "--arcface-margin", "-1"], "--arcface-margin -1.0: expected"),
        (["difference"], "the following arguments are required: RUN"),
        (["similarity", "a"], "the following arguments are required: baseline"),
        (["pairs", "absent"], "absent is not a folder; expected that of a run"),
        (["pairs", ".", "--pairs", "0"], "--pairs 0: expected at least 1"),
        (["pairs", ".", "--epoch", "-1"], "--epoch -1: expected at least 0"),
    ],
)
def test_mistakes(figures, tmp_path, words, message):
    with pytest.raises(ValueError, match=message):
        run(*words)
    assert not list(tmp_path.iterdir())
