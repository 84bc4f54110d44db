"""Pieces of a page. What they are given as text is escaped here; what they return is HTML."""

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from eval.figures import Chart, Series
from eval.svg import svg

POINTS = 9  # of a curve that its table shows


def text(value: object) -> str:
    """Any value as text of a page."""
    return escape(str(value))


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    numeric: Sequence[int] = (),
    hidden: bool = True,
) -> str:
    """A table whose first column names its rows; it scrolls where it is wider than the page.

    Args:
        numeric: columns that are set flush right.
        hidden: the caption is read out, but not shown: a heading above says the same.
    """

    def cell(column: int, value: object) -> str:
        style = ' class="n"' if column in numeric else ""
        return f'<th scope="row"{style}>{text(value)}</th>' if column == 0 else f"<td{style}>{text(value)}</td>"

    columns = "".join(f'<th scope="col"{" class=n" if i in numeric else ""}>{text(h)}</th>' for i, h in enumerate(head))
    body = "".join(f"<tr>{''.join(cell(i, value) for i, value in enumerate(row))}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table>'
        f"<caption{' class=unseen' if hidden else ''}>{text(caption)}</caption>"
        f"<thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def details(summary: str, content: str) -> str:
    """Long parts, closed at first; open in print."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def section(level: int, identity: str, heading: str, content: str) -> str:
    return f'<section id="{identity}"><h{level}>{text(heading)}</h{level}>{content}</section>' if content else ""


def notes(lines: Iterable[object]) -> str:
    return "".join(f'<p class="note"><strong>Note:</strong> {text(line)}</p>' for line in lines)


def figure(chart: Chart, identity: str, how_to_read: str) -> str:
    """A chart with its title, how to read it, and its numbers as a table."""
    rows = [
        (series.name, *_points(chart, series)) for series in chart.series if series.name and series.look is not None
    ]
    width = max(map(len, rows))
    rows = [(*row, *[""] * (width - len(row))) for row in rows]
    head = ("curve", *(f"point {number}" for number in range(1, width)))
    numbers = details("Numbers", table(f"{chart.title}: {chart.y.label} at {chart.x.label}", head, rows, hidden=False))
    caption = f"<figcaption><strong>{text(chart.title)}</strong><span>{text(how_to_read)}</span></figcaption>"
    return f'<figure class="card">{caption}{svg(chart, identity)}{numbers}</figure>'


def _points(chart: Chart, series: Series) -> list[str]:
    last = len(series.y) - (2 if series.shape == "bars" else 1)
    chosen = np.unique(np.linspace(0, last, POINTS).round().astype(int))
    return [f"{chart.y.format(float(series.y[i]))} at {chart.x.format(float(series.x[i]))}" for i in chosen]
