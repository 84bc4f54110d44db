"""Charts are looked at by eye when they change; here: they show the numbers, and nothing lies outside."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from eval import plots, svg

NAMES = ["ours", "a model with a name that is a good deal longer than others", "third", "fourth", "fifth", "sixth"]
PIXELS = np.array([8, 12, 16, 20, 28, 112])
SPACE = "{http://www.w3.org/2000/svg}"
draw = np.random.default_rng(0)


def rising(points):
    return np.sort(draw.random(points))


CURVES = {
    "roc": lambda points: (np.logspace(-6, 0, points), rising(points)),
    "cmc": lambda points: draw.geometric(0.3, points),
    "resolution": lambda points: (PIXELS[:points], rising(min(points, 6))),
    "discard": lambda points: (np.linspace(0, 0.5, points), 0.1 * rising(points)[::-1]),
    "norms": lambda points: (PIXELS[:points], draw.normal(20, 3, (min(points, 6), 50))),
    "histograms": lambda points: draw.normal(1, 0.2, points),
}
EMPTY = {
    **dict.fromkeys(("roc", "resolution", "discard", "norms"), (np.array([]), np.array([]))),
    **dict.fromkeys(("cmc", "histograms"), np.array([])),
}


def plot(kind, curves, **options):
    words = ("cosine",) if kind == "histograms" else ()
    return getattr(plots, f"plot_{kind}")("faces, 60 pairs", *words, curves, **options)


def is_legible(chart):
    """Well-formed; words on title and axes; marks, words and curves inside. Returns the legend."""
    root = ET.fromstring(svg.standalone(chart))
    width, height = map(float, root.get("viewBox").split()[2:])
    texts = root.findall(f".//{SPACE}text")
    words = ["".join(text.itertext()) for text in texts]
    assert {chart.x.label, chart.y.label} <= set(words) and "faces, 60 pairs" in root.find(f"{SPACE}title").text
    for text in texts:
        x, length = float(text.get("x")), 7 * len("".join(text.itertext()))
        share = {"middle": 0.5, "end": 1.0}.get(text.get("text-anchor"), 0.0)
        assert 0 <= float(text.get("y")) <= height
        if text.get("text-anchor") == "end":
            assert x - length >= 16, "a mark of the vertical axis runs into the axis' words"
        if text.get("transform") is None:
            assert x - share * length >= -4 and x + (1 - share) * length <= width + 4, "".join(text.itertext())
    for tick in (*chart.x.ticks, *chart.y.ticks):
        assert np.isfinite(tick)
    for axis in (chart.x, chart.y):
        assert 1 <= len(axis.ticks) <= 12 and axis.low <= min(axis.ticks) and max(axis.ticks) <= axis.high
    for path in root.iter(f"{SPACE}path"):
        assert "nan" not in path.get("d") and "inf" not in path.get("d")
    return [series.name for series in chart.series if series.name]


@pytest.mark.parametrize("kind", CURVES)
def test_six_curves(kind):
    chart = plot(kind, {name: CURVES[kind](40) for name in NAMES})
    names = is_legible(chart)
    assert names[:6] == NAMES and len(set(names)) == len(names)
    drawn = svg.svg(chart, "a")
    looks = [re.search(rf'class="line s{row}"( stroke-dasharray="[\d ]+")?', drawn)[0] for row in range(6)]
    assert len({look.partition("stroke")[2] for look in looks}) == 6  # told apart without colours


def test_more_curves_than_colours_are_told_apart():
    chart = plot("resolution", {f"model {row}": CURVES["resolution"](6) for row in range(14)})
    drawn = svg.svg(chart, "a")
    lines = re.findall(r'class="line (s\d)"( stroke-dasharray="[\d ]+")? d="M10 ', drawn)  # of the legend
    marks = re.findall(r'class="mark (s\d)" d="M26 \d+(m[^"]+)"', drawn)
    assert len(lines) == len(set(lines)) == len(marks) == len(set(marks)) == 14


@pytest.mark.parametrize("kind", CURVES)
def test_one_point(kind):
    is_legible(plot(kind, {"ours": CURVES[kind](1)}))


CONSTANT = {
    "roc": (np.array([0.0, 0.1, 1.0]), np.ones(3)),
    "cmc": np.ones(7, np.int32),
    "resolution": (PIXELS, np.ones(6)),
    "discard": (np.linspace(0, 0.5, 6), np.zeros(6)),
    "norms": (PIXELS, np.full((6, 3), 20.0)),
    "histograms": np.full(6, 0.5),
}


@pytest.mark.parametrize("kind", CONSTANT)
def test_constant_curves(kind):
    chart = plot(kind, {"perfect": CONSTANT[kind]})
    is_legible(chart)
    if kind != "norms":
        assert all(re.fullmatch(r"-?[\d.]+ %", chart.y.format(tick)) for tick in chart.y.ticks)


def test_long_marks_leave_room_for_the_words_of_the_axis():
    chart = plot("roc", {"ours": (np.array([0.01, 1]), np.array([0.89, 1]))})
    assert "92.5 %" in [chart.y.format(tick) for tick in chart.y.ticks]
    is_legible(chart)


def test_numbers_reach_the_curves():
    far, tar = np.array([0, 1e-4, 1e-2, 1]), np.array([0.1, 0.5, 0.75, 1])
    roc = plot("roc", {"ours": (far, tar)})
    cmc = plot("cmc", {"ours": np.array([1, 1, 2, 5])}, largest=4)
    resolution = plot("resolution", {"ours": (PIXELS, PIXELS / 200)})
    assert roc.x.log and (roc.series[0].x.tolist(), roc.series[0].y.tolist()) == ([1e-4, 1e-2, 1], [0.5, 0.75, 1])
    assert [roc.x.format(tick) for tick in roc.x.ticks] == ["1e-4", "1e-3", "1e-2", "1e-1", "1"]
    assert (cmc.series[0].x.tolist(), cmc.series[0].y.tolist()) == ([1, 2, 3, 4], [0.5, 0.75, 0.75, 0.75])
    assert [roc.x.format(far) for far in (1.49e-2, 2e-3, 0.5, 1)] == ["1.5e-2", "2e-3", "5e-1", "1"]
    assert resolution.series[0].y.tolist() == (PIXELS / 200).tolist() and resolution.series[1].name == "chance"
    assert [resolution.x.format(tick) for tick in resolution.x.ticks] == [str(side) for side in PIXELS]
    for chart in (roc, cmc, resolution):
        assert chart.y.low < min(chart.series[0].y) and max(chart.series[0].y) <= 1 < chart.y.high


def test_points_are_where_the_axes_say():
    chart = plot("roc", {"ours": (np.array([1e-4, 1e-2, 1]), np.array([0, 0.5, 1]))})
    root = ET.fromstring(svg.svg(chart, "a"))
    line = next(path for path in root.iter(f"{SPACE}path") if path.get("class") == "line s0")
    points = np.array(re.findall(r"([\d.]+) ([\d.]+)", line.get("d")), float)
    ticks = {text.text: (float(text.get("x")), float(text.get("y"))) for text in root.iter(f"{SPACE}text")}
    assert points[:, 0] == pytest.approx([ticks[name][0] for name in ("1e-4", "1e-2", "1")], abs=0.1)
    assert points[[0, 2], 1] == pytest.approx([ticks[name][1] - 4 for name in ("0 %", "100 %")], abs=0.1)
    assert points[1, 1] == pytest.approx(points[[0, 2], 1].mean(), abs=0.1)


def test_error_versus_discard_is_a_step_function_beside_its_references():
    curve = np.array([0, 0.1, 0.2, 0.6]), np.array([0.2, 0.1, 0.05, 0.0])
    chart = plot("discard", {"norm": curve, "same start": curve, "constant": ([0], [0.3])})
    norm, _, constant, *references = chart.series
    assert norm.shape == "steps" and (chart.x.low, chart.x.high) == (0, 0.3)
    assert (norm.x.tolist(), norm.y.tolist()) == ([0, 0.1, 0.2, 0.3], [0.2, 0.1, 0.05, 0.05])
    assert (constant.x.tolist(), constant.y.tolist()) == ([0, 0.3], [0.3, 0.3])
    assert len(references) == 4  # two for each start
    assert np.interp([0, 0.1, 0.2, 0.3], references[1].x, references[1].y) == pytest.approx([0.2, 0.1, 0, 0])


def test_norms_with_their_spread():
    z = np.stack([np.arange(101.0), np.arange(101.0) + 10])
    (series,) = plot("norms", {"ours": (np.array([8, 112]), z)}).series
    assert series.y.tolist() == [50, 60] and [side.tolist() for side in series.band] == [[5, 15], [95, 105]]


def test_similarity():
    cosine = np.concatenate([draw.normal(0.6, 0.1, 30), draw.normal(0.1, 0.1, 31)])
    issame = np.arange(61) < 30
    chart = plots.plot_similarity("faces, 60 pairs", cosine, issame, 0.25)
    assert is_legible(chart) == ["30 matched pairs", "31 mismatched pairs", "threshold 0.250"]
    assert [series.y[:-1].sum() for series in chart.series[:2]] == pytest.approx([1, 1])
    assert is_legible(plots.plot_similarity("faces, 60 pairs", cosine[issame], issame[issame])) == ["30 matched pairs"]
    for threshold in (-0.5, 1.5):  # beyond all pairs
        x = plots.plot_similarity("faces, 60 pairs", cosine, issame, threshold).x
        assert x.low <= threshold <= x.high and x.low <= cosine.min() and cosine.max() <= x.high


def test_many_points_are_few_in_the_picture():
    x = np.linspace(1e-5, 1, 100_000)
    chart = plot("roc", {"ours": (x, np.where(x < 0.5, x, 1))})
    assert len(svg.svg(chart, "a")) < 40_000
    root = ET.fromstring(svg.svg(chart, "a"))
    line = next(path for path in root.iter(f"{SPACE}path") if path.get("class") == "line s0")
    y = np.array(re.findall(r"[\d.]+ ([\d.]+)", line.get("d")), float)
    whole = svg._places(chart, svg.TOP, svg.TOP + svg.HEIGHT)(chart.series[0].x, chart.series[0].y)[1]
    assert (y.min(), y.max()) == pytest.approx((whole.min(), whole.max()), abs=0.1)


def test_names_are_escaped():
    drawn = svg.svg(plot("cmc", {"<script>&": np.array([1, 2])}), "a")
    assert "<script>" not in drawn and "&lt;script&gt;&amp;" in drawn


@pytest.mark.parametrize("kind", CURVES)
def test_nothing_to_draw(kind):
    with pytest.raises(ValueError, match="nothing to plot: expected one curve or more"):
        plot(kind, {})
    with pytest.raises(ValueError, match="curve 'theirs' is empty: expected a point or more"):
        plot(kind, {"ours": CURVES[kind](5), "theirs": EMPTY[kind]})


@pytest.mark.parametrize("kind", CURVES)
def test_numbers_that_are_none(kind):
    given = CURVES[kind](5)
    broken = [np.array(array, float) for array in (given if isinstance(given, tuple) else (given,))]
    broken[-1].flat[-1] = np.nan
    with pytest.raises(ValueError, match="curve 'ours' holds NaN or infinity"):
        plot(kind, {"ours": tuple(broken) if isinstance(given, tuple) else broken[0]})


@pytest.mark.parametrize("kind", ["roc", "resolution", "discard", "norms"])
def test_lengths_that_differ(kind):
    x, *rest = CURVES[kind](5)
    with pytest.raises(ValueError, match=r"arrays of shapes .*: expected as many points in each"):
        plot(kind, {"ours": (x[:-1], *rest)})


def test_roc_without_a_point_on_its_axis():
    with pytest.raises(ValueError, match="curve 'ours' is empty: expected a point above FAR 0 or more"):
        plot("roc", {"ours": ([0, 0], [0.1, 0.2])})
