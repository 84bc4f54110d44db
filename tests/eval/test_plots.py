"""Plots are looked at by eye when they change; here: they show the numbers, and nothing covers anything."""

import re
import struct
import warnings

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from eval import plots

NAMES = ["ours", "a model with a name that is a good deal longer than others", "third", "fourth", "fifth", "sixth"]
PIXELS = np.array([8, 12, 16, 20, 28, 112])
draw = np.random.default_rng(0)


def rising(points):
    return np.sort(draw.random(points))


CURVES = {
    "roc": lambda points: (np.logspace(-6, 0, points), rising(points)),
    "cmc": lambda points: draw.geometric(0.3, points),
    "resolution": lambda points: (PIXELS[:points], rising(min(points, 6)), rising(min(points, 6))),
    "discard": lambda points: (np.linspace(0, 0.5, points), 0.1 * rising(points)[::-1]),
    "norms": lambda points: (PIXELS[:points], draw.normal(20, 3, (min(points, 6), 50))),
}
EMPTY = {
    **dict.fromkeys(("roc", "discard", "norms"), (np.array([]), np.array([]))),
    "cmc": np.array([]),
    "resolution": (np.array([]),) * 3,
}


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved, and an error for each warning."""
    saved = []

    def keep(figure, path):
        saved.append(figure)
        save(figure, path)

    save = plots.save
    monkeypatch.setattr(plots, "save", keep)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # of the libraries that matplotlib uses
        yield saved


def plot(kind, path, curves, **options):
    getattr(plots, f"plot_{kind}")(path, "faces, 60 pairs", curves, **options)


def is_legible(figure, path):
    """PNG of the size that was promised; words on title and axes; all of it inside, legend and panels apart."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", data[16:24]) == (1200, 750)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    renderer = FigureCanvasAgg(figure).get_renderer()
    assert "faces, 60 pairs" in figure._suptitle.get_text().replace("\n", " ") and figure.axes[0].get_ylabel()
    (legend,) = figure.legends
    boxes = [axes.get_tightbbox(renderer) for axes in figure.axes]
    boxes += [legend.get_window_extent(renderer), figure._suptitle.get_window_extent(renderer)]
    for row, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= 1200 and box.y1 <= 750
        assert box.width > 0 and not any(box.overlaps(other) for other in boxes[row + 1 :])
    for axes in figure.axes:
        assert axes.get_xlabel() and axes.get_window_extent(renderer).height > 750 / 3
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("kind", CURVES)
def test_six_curves(kind, tmp_path, figures):
    plot(kind, tmp_path / "plot.png", {name: CURVES[kind](40) for name in NAMES})
    names = is_legible(figures[0], tmp_path / "plot.png")
    assert names[:6] == NAMES and len(set(names)) == len(names)


@pytest.mark.parametrize("kind", CURVES)
def test_one_point(kind, tmp_path, figures):
    plot(kind, tmp_path / "plot.png", {"ours": CURVES[kind](1)})
    is_legible(figures[0], tmp_path / "plot.png")


def ticks(axis):
    return [label.get_text() for label in axis.get_ticklabels() if label.get_text()]


CONSTANT = {
    "roc": (np.array([0.0, 0.1, 1.0]), np.ones(3)),
    "cmc": np.ones(7, np.int32),
    "resolution": (PIXELS, np.ones(6), np.full(6, 0.5)),
    "discard": (np.linspace(0, 0.5, 6), np.zeros(6)),
    "norms": (PIXELS, np.full((6, 3), 20.0)),
}


@pytest.mark.parametrize("kind", CONSTANT)
def test_constant_curves(kind, tmp_path, figures):
    plot(kind, tmp_path / "plot.png", {"perfect": CONSTANT[kind]})
    is_legible(figures[0], tmp_path / "plot.png")
    if kind != "norms":
        assert all(re.fullmatch(r"-?[\d.]+ %", tick) for tick in ticks(figures[0].axes[0].yaxis))


def test_numbers_reach_the_lines(tmp_path, figures):
    far, tar = np.array([0, 1e-4, 1e-2, 1]), np.array([0.1, 0.5, 0.75, 1])
    plot("roc", tmp_path / "plot.png", {"ours": (far, tar)})
    plot("cmc", tmp_path / "plot.png", {"ours": np.array([1, 1, 2, 5])}, largest=4)
    plot("resolution", tmp_path / "plot.png", {"ours": (PIXELS, PIXELS / 200, PIXELS / 300)})
    roc, cmc, resolution = (figure.axes for figure in figures)
    assert roc[0].get_xscale() == "log" and roc[0].lines[0].get_xydata().tolist() == [[1e-4, 0.5], [1e-2, 0.75], [1, 1]]
    assert cmc[0].lines[0].get_xydata().tolist() == [[1, 0.5], [2, 0.75], [3, 0.75], [4, 0.75]]
    for axes, rates in zip(resolution, (PIXELS / 200, PIXELS / 300), strict=True):
        assert axes.lines[0].get_ydata().tolist() == rates.tolist()
        assert ticks(axes.xaxis) == [str(side) for side in PIXELS]
    for axes in (*roc, *cmc, *resolution):
        (low, high), y = axes.get_ylim(), axes.lines[0].get_ydata()
        assert low < min(y) and max(y) <= 1 < high


def test_error_versus_discard_is_a_step_function_beside_its_references(tmp_path, figures):
    curve = np.array([0, 0.1, 0.2, 0.6]), np.array([0.2, 0.1, 0.05, 0.0])
    plot("discard", tmp_path / "plot.png", {"norm": curve, "same start": curve, "constant": ([0], [0.3])})
    axes = figures[0].axes[0]
    norm, _, constant, *references = axes.lines
    assert norm.get_drawstyle() == "steps-post" and axes.get_xlim() == (0, 0.3)
    assert norm.get_xydata().tolist() == [[0, 0.2], [0.1, 0.1], [0.2, 0.05], [0.3, 0.05]]
    assert constant.get_xydata().tolist() == [[0, 0.3], [0.3, 0.3]]
    assert len(references) == 4  # two for each start
    best = np.interp([0, 0.1, 0.2, 0.3], *references[1].get_xydata().T)
    assert best == pytest.approx([0.2, 0.1, 0, 0])


def test_norms_with_their_spread(tmp_path, figures):
    z = np.stack([np.arange(101.0), np.arange(101.0) + 10])
    plot("norms", tmp_path / "plot.png", {"ours": (np.array([8, 112]), z)})
    axes = figures[0].axes[0]
    assert axes.lines[0].get_ydata().tolist() == [50, 60]
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(5) and band.max() == pytest.approx(105)


def test_distances(tmp_path, figures):
    dist = np.concatenate([draw.normal(1, 0.2, 30), draw.normal(2, 0.2, 31)])
    issame = np.arange(61) < 30
    plots.plot_distances(tmp_path / "plot.png", "faces, 60 pairs", dist, issame, 1.5)
    assert is_legible(figures[0], tmp_path / "plot.png") == [
        "30 matched pairs",
        "31 mismatched pairs",
        "threshold 1.500",
    ]
    shares = [patch.get_data().values.sum() for patch in figures[0].axes[0].patches]
    assert shares == pytest.approx([1.0] * 4)
    plots.plot_distances(tmp_path / "plot.png", "faces, 60 pairs", dist[issame], issame[issame])
    assert is_legible(figures[1], tmp_path / "plot.png") == ["30 matched pairs"]


def test_long_titles_are_broken(tmp_path, figures):
    title = "faces, 60 pairs, " + "of which there is a good deal to say " * 4
    plots.plot_cmc(tmp_path / "plot.png", title, {"ours": CURVES["cmc"](50)})
    is_legible(figures[0], tmp_path / "plot.png")


@pytest.mark.parametrize("kind", CURVES)
def test_nothing_to_draw(kind, tmp_path):
    with pytest.raises(ValueError, match="nothing to plot: expected one curve or more"):
        plot(kind, tmp_path / "plot.png", {})
    with pytest.raises(ValueError, match="curve 'theirs' is empty: expected a point or more"):
        plot(kind, tmp_path / "plot.png", {"ours": CURVES[kind](5), "theirs": EMPTY[kind]})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", CURVES)
def test_numbers_that_are_none(kind, tmp_path):
    given = CURVES[kind](5)
    broken = [np.array(array, float) for array in (given if isinstance(given, tuple) else (given,))]
    broken[-1].flat[-1] = np.nan
    with pytest.raises(ValueError, match="curve 'ours' holds NaN or infinity"):
        plot(kind, tmp_path / "plot.png", {"ours": tuple(broken) if isinstance(given, tuple) else broken[0]})


@pytest.mark.parametrize("kind", ["roc", "resolution", "discard", "norms"])
def test_lengths_that_differ(kind, tmp_path):
    x, *rest = CURVES[kind](5)
    with pytest.raises(ValueError, match=r"arrays of shapes .*: expected as many points in each"):
        plot(kind, tmp_path / "plot.png", {"ours": (x[:-1], *rest)})


def test_roc_without_a_point_on_its_axis(tmp_path):
    with pytest.raises(ValueError, match="curve 'ours' is empty: expected a point above FAR 0 or more"):
        plot("roc", tmp_path / "plot.png", {"ours": ([0, 0], [0.1, 0.2])})


def test_matplotlib_is_left_as_it_was(tmp_path):
    before = dict(matplotlib.rcParams)
    plot("roc", tmp_path / "plot.png", {"ours": CURVES["roc"](5)})
    assert dict(matplotlib.rcParams) == before and plt.get_fignums() == []
