"""Charts as SVG: crisp, a few KB each, in colours that follow the reader's light or dark setting.

`svg` draws a chart for a page whose style holds `STYLE`, `standalone` as a file. Curves differ in colour, dashes and
marker: colours alone are not told apart by everyone. 12 px letters on 380 px stay legible where a phone shrinks them to
four fifths.
"""

import math
from collections.abc import Callable
from html import escape

import numpy as np

from eval.figures import Axis, Chart, Curve, Series

WIDTH, LEFT, RIGHT, TOP, HEIGHT, ROW = 380, 70, 20, 12, 210, 19  # pixels; HEIGHT is the plot's, ROW a legend entry's
LOOKS = 6  # colours, each with its dashes and marker
MANY = 30  # points from which on a curve needs no markers
LONGEST = 44  # letters of a legend entry
DASHES = ("", "7 4", "2 3", "9 3 2 3", "12 4", "4 2 1 2")
MARKERS = (
    "m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z",
    "m-3-3h6v6h-6z",
    "m0-4.5l4.5 4.5l-4.5 4.5l-4.5-4.5z",
    "m0-4l4 7h-8z",
    "m0 4l4-7h-8z",
    "m-4.5-1.5h3v-3h3v3h3v3h-3v3h-3v-3h-3z",
)
# at least 4.5 : 1 on the paper, in both schemes
_LIGHT = "--ink:#1c2126;--paper:#fff;--grid:#e3e6ea;--soft:#59636e;" + "".join(
    f"--c{i}:{c};" for i, c in enumerate(("#0b62a8", "#b3400e", "#0d6d63", "#7a2bc0", "#7d5a00", "#b0124a"))
)
_DARK = "--ink:#e8ebee;--paper:#15181c;--grid:#343a42;--soft:#a3adb8;" + "".join(
    f"--c{i}:{c};" for i, c in enumerate(("#6cb6ff", "#ff9d66", "#3fd0b8", "#cfa0ff", "#e8c042", "#ff8aa9"))
)
STYLE = f"""
:root{{color-scheme:light dark;{_LIGHT}}}
@media screen and (prefers-color-scheme:dark){{:root{{{_DARK}}}}}
.chart text{{font:12px system-ui,"Segoe UI",Roboto,"Liberation Sans",sans-serif;fill:var(--ink)}}
.chart .head{{font-weight:bold}}
.chart .grid{{stroke:var(--grid);fill:none}}
.chart .frame{{stroke:var(--soft);fill:none}}
.chart .line{{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}}
.chart .mark{{fill:var(--c);stroke:none}}
.chart .area{{fill:var(--c);fill-opacity:.16;stroke:none}}
.chart .ref{{--c:var(--soft)}}
.chart .ref.line{{stroke-width:1.2}}
{"".join(f".s{i}{{--c:var(--c{i})}}" for i in range(LOOKS))}
""".strip()


def svg(chart: Chart, name: str, titled: bool = False) -> str:
    """The chart as an element of a page.

    Args:
        name: unique on the page, letters, digits and dashes.
        titled: show the title, which a page has in its own words.
    """
    parts, top = [], TOP + (ROW if titled else 0)
    bottom = top + HEIGHT
    named = [series for series in chart.series if series.name]
    height = bottom + 44 + ROW * len(named)
    place = _places(chart, top, bottom)
    if titled:
        parts.append(f'<text x="{WIDTH / 2}" y="18" text-anchor="middle" class="head">{_short(chart.title)}</text>')
    parts += _axes(chart, place, top, bottom)
    parts.append(f'<clipPath id="{name}-in"><rect x="{LEFT}" y="{top - 5}" width="{WIDTH - LEFT - RIGHT}" '
                 f'height="{HEIGHT + 10}"/></clipPath><g clip-path="url(#{name}-in)">')  # fmt: skip
    for series in sorted(chart.series, key=lambda series: series.look is not None):  # references below
        parts += _curve(series, place)
    parts.append("</g>")
    for row, series in enumerate(named):
        parts += _legend(series, bottom + 50 + ROW * row)
    words = f'<title id="{name}-t">{escape(chart.title)}</title><desc id="{name}-d">{escape(describe(chart))}</desc>'
    return (
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-labelledby="{name}-t {name}-d">{words}{"".join(parts)}</svg>'
    )


def standalone(chart: Chart) -> str:
    """The chart as the text of a file."""
    style = f'<style>{STYLE}</style><rect width="100%" height="100%" fill="var(--paper)"/>'
    return svg(chart, "chart", titled=True).replace("</desc>", f"</desc>{style}", 1) + "\n"


def describe(chart: Chart) -> str:
    """In words, for whoever does not see it: where each curve begins and ends."""
    parts = [f"{chart.y.label} over {chart.x.label}."]
    for series in chart.series:
        if not series.name or series.look is None:
            continue
        at = int(series.y.argmax()) if series.shape == "bars" else 0
        last = len(series.y) - 1
        text = f"{series.name}: {'highest, ' if series.shape == 'bars' else ''}{_point(chart, series, at)}"
        parts.append(f"{text}, {_point(chart, series, last)}." if series.shape != "bars" and last else f"{text}.")
    return " ".join(parts)


def _point(chart: Chart, series: Series, at: int) -> str:
    return f"{chart.y.format(float(series.y[at]))} at {chart.x.format(float(series.x[at]))}"


def _places(chart: Chart, top: float, bottom: float) -> Callable[[np.ndarray, np.ndarray], Curve]:
    def along(axis: Axis, values: np.ndarray) -> np.ndarray:
        values, low, high = np.asarray(values, float), axis.low, axis.high
        if axis.log:
            values, low, high = np.log(values), math.log(low), math.log(high)
        return (values - low) / (high - low)

    def place(x: np.ndarray, y: np.ndarray) -> Curve:
        return LEFT + along(chart.x, x) * (WIDTH - LEFT - RIGHT), bottom - along(chart.y, y) * (bottom - top)

    return place


def _axes(chart: Chart, place: Callable, top: float, bottom: float) -> list[str]:
    parts, right = [], WIDTH - RIGHT
    for tick in chart.x.ticks:
        x = place(np.array([tick]), np.array([chart.y.low]))[0][0]
        parts.append(f'<path class="grid" d="M{x:.1f} {top}V{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{escape(chart.x.format(tick))}</text>')
    for tick in chart.y.ticks:
        y = place(np.array([chart.x.low]), np.array([tick]))[1][0]
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{escape(chart.y.format(tick))}</text>')
    parts.append(f'<path class="frame" d="M{LEFT} {top}V{bottom}H{right}"/>')
    middle = (top + bottom) / 2
    parts.append(
        f'<text x="{(LEFT + right) / 2}" y="{bottom + 34}" text-anchor="middle">{escape(chart.x.label)}</text>'
    )
    parts.append(f'<text transform="rotate(-90 13 {middle})" x="13" y="{middle}" text-anchor="middle">'
                 f'{escape(chart.y.label)}</text>')  # fmt: skip
    return parts


def _curve(series: Series, place: Callable) -> list[str]:
    look, parts = _look(series), []
    if series.band is not None:
        x, low = place(series.x, series.band[0])
        _, high = place(series.x, series.band[1])
        outline = np.concatenate([x, x[::-1]]), np.concatenate([low, high[::-1]])
        parts.append(f'<path class="area {look}" d="{_path(*outline)}z"/>')
    x, y = place(series.x, series.y)
    dashes = _dashes(series)
    if series.shape != "line":
        x, y = np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]
    if series.shape == "bars":
        base = place(series.x[:1], np.zeros(1))[1]
        x, y = np.concatenate([x[:1], x, x[-1:]]), np.concatenate([base, y, base])
        parts.append(f'<path class="area {look}" d="{_path(x, y)}z"/>')
    parts.append(f'<path class="line {look}"{dashes} d="{_path(*_thinned(x, y))}"/>')
    if series.shape == "line" and series.look is not None and len(series.x) < MANY:
        marks = "".join(f"M{a:.1f} {b:.1f}{MARKERS[_variant(series.look)]}" for a, b in zip(x, y, strict=True))
        parts.append(f'<path class="mark {look}" d="{marks}"/>')
    return parts


def _legend(series: Series, y: float) -> list[str]:
    look = _look(series)
    parts = [f'<path class="line {look}"{_dashes(series)} d="M{LEFT - 60} {y}h32"/>']
    if series.shape == "line" and series.look is not None and len(series.x) < MANY:
        parts.append(f'<path class="mark {look}" d="M{LEFT - 44} {y}{MARKERS[_variant(series.look)]}"/>')
    return [*parts, f'<text x="{LEFT - 20}" y="{y + 4}">{_short(series.name)}</text>']


def _look(series: Series) -> str:
    return "ref" if series.look is None else f"s{series.look % LOOKS}"


def _variant(look: int) -> int:
    """Of dashes and markers: from the seventh curve on colours come again, with others than before."""
    return (look + look // LOOKS) % LOOKS


def _dashes(series: Series) -> str:
    dashes = "4 3" if series.look is None else DASHES[_variant(series.look)]
    return f' stroke-dasharray="{dashes}"' if dashes else ""


def _short(text: str) -> str:
    return escape(text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}…{text[-LONGEST // 2 :]}")


def _thinned(x: np.ndarray, y: np.ndarray) -> Curve:
    """Of the points in one column of half a pixel the first, the last, the lowest and the highest."""
    if len(x) <= 4 * WIDTH:
        return x, y
    column = np.floor(2 * x).astype(int)
    starts = np.flatnonzero(np.diff(column, prepend=column[0] - 1))
    kept = set()
    for start, end in zip(starts, [*starts[1:], len(x)], strict=True):
        kept |= {start, end - 1, start + int(y[start:end].argmin()), start + int(y[start:end].argmax())}
    order = sorted(kept)
    return x[order], y[order]


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """Points that are the same to a tenth of a pixel are one."""
    points = np.round(np.stack([x, y], axis=1), 1)
    points = points[np.append(True, (np.diff(points, axis=0) != 0).any(axis=1))]
    return "M" + "L".join(f"{a:g} {b:g}" for a, b in points)
