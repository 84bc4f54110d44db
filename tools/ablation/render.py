"""Tables as text, Markdown, LaTeX (booktabs) and CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

from prettytable import PrettyTable

from configs.tables import PAPER, Column
from eval.confidence import DRAWS
from tools.ablation import results, significance
from tools.ablation.results import Reached
from tools.ablation.runs import Study
from tools.ablation.significance import Difference

LEGEND = (
    "Percent, mean ± standard deviation over seeds, the best mean of a column in bold where all rows have the same "
    "seeds; in brackets the paper's number, from its own training and test sets"
)
TESTS = (
    "percentage points, mean over the seeds that both rows have (n of them where they are not all), and two p-values: "
    "paired t-test over seeds / paired bootstrap over the people of the test set, or its pairs where nobody knows whom "
    "they show. Neither is corrected for the number of comparisons"
)
LEAST = 2 / (DRAWS + 1)  # that the bootstrap can tell
LATEX = {
    **{"±": r"$\pm$", "≤": r"$\leq$", "×": r"$\times$", "✓": r"\checkmark", "<": "$<$", ">": "$>$"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{letter: f"\\{letter}" for letter in "%&_#${}"},
}
CSV = (
    *("table", "row", "run", "column", "mean", "std", "seeds", "values", "paper"),
    *("against", "difference", "paired_seeds", "p_seeds", "p_people"),
)


class Cell(NamedTuple):
    """Some text, of which the first part may be bold."""

    text: str
    bold: bool = False
    paper: str = ""


class Grid(NamedTuple):
    """A table to show."""

    name: str
    caption: str
    headings: list[str]
    rows: list[list[Cell]]


def grid(study: Study, reached: Reached, name: str) -> Grid:
    """A table in the paper's form, ours beside the paper's numbers."""
    table = study.tables[name]
    runs = [study.runs[study.rows[name, row]] for row in table.rows]
    columns = []
    for column in study.columns:
        numbers = [reached.number(of_row, column) for of_row in runs]
        marked = results.best(numbers)
        papers = [_paper(row.paper, column) for row in table.rows.values()]
        columns.append(
            [Cell(shown(x), is_best, paper) for x, is_best, paper in zip(numbers, marked, papers, strict=True)]
        )
    rows = []
    for place, (row, of_row) in enumerate(zip(table.rows, runs, strict=True)):
        marks = [Cell(mark) for mark in table.rows[row].marks]
        there = f"{sum(map(reached.ended, of_row.values()))}/{len(of_row)}"
        rows.append([Cell(row), *marks, *(column[place] for column in columns), Cell(there)])
    headings = [table.heading, *table.marks, *(column.title for column in study.columns), "seeds"]
    return Grid(f"Table {name}", f"{table.caption}. {LEGEND}.", headings, rows)


def comparison(study: Study, reached: Reached, name: str, against: str) -> Grid:
    """A table's rows against the runs of one row, which may be another table's."""
    table, theirs = study.tables[name], study.runs[against]
    rows = []
    for row in table.rows:
        ours = study.rows[name, row]
        if ours != against:
            found = [significance.compare(reached, study.runs[ours], theirs, column) for column in study.columns]
            rows.append([Cell(row), *(Cell(difference(x, len(theirs))) for x in found)])
    headings = [table.heading, *(column.title for column in study.columns)]
    return Grid(f"Table {name} against {against}", f"Each row less {against}: {TESTS}.", headings, rows)


def ledger(study: Study, reached: Reached) -> Grid:
    """Hours and machine of each run."""
    rows = []
    for run in study.every():
        took, where, code = "-", "-", "-"
        if reached.ended(run):
            hours, where, code = results.hours(run), results.machine(run), results.code(run)
            took = "-" if hours is None else f"{hours:.2f}"
        rows.append([Cell(run.name), Cell(str(run.seed)), Cell(took), Cell(where), Cell(code)])
    caption = "Hours of steps and evaluations, without start-up and what stops took; machine and code it ended with."
    return Grid("Runs", caption, ["run", "seed", "hours", "machine", "code"], rows)


def shown(number: results.Number) -> str:
    """ "92.31 ± 0.20"; "-" without a run."""
    if number.mean is None:
        return "-"
    return f"{number.mean:.2f}" + ("" if number.std is None else f" ± {number.std:.2f}")


def difference(found: Difference | None, seeds: int) -> str:
    """ "-1.20 (0.031 / ≤ 0.002)", of `seeds`; of fewer, "-1.20 (n = 2: 0.031 / ≤ 0.002)"."""
    if found is None:
        return "-"
    few = "" if found.seeds == seeds else f"n = {found.seeds}: "
    return f"{found.points:+.2f} ({few}{_p(found.p_seeds)} / {_p(found.p_people, LEAST)})"


def as_text(grid: Grid, bold: Callable[[str], str]) -> str:
    """For the screen."""
    shown = PrettyTable(grid.headings, align="r")
    shown.align[grid.headings[0]] = "l"
    for row in grid.rows:
        shown.add_row([_joined(cell, bold) for cell in row])
    return f"{grid.name}. {grid.caption}\n{shown.get_string()}"


def as_markdown(grid: Grid) -> str:
    """A table of GitHub's Markdown."""
    lines = [grid.headings, ["---", *["---:"] * (len(grid.headings) - 1)]]
    lines += [[_joined(cell, lambda text: f"**{text}**") for cell in row] for row in grid.rows]
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"**{grid.name}.** {grid.caption}\n\n{body}\n"


def as_latex(grid: Grid) -> str:
    """A table environment; needs the packages booktabs and amssymb."""
    escape = lambda text: "".join(LATEX.get(letter, letter) for letter in text)  # noqa: E731
    lines = [" & ".join(map(escape, grid.headings)) + r" \\", r"\midrule"]
    for row in grid.rows:
        cells = [Cell(escape(cell.text), cell.bold, escape(cell.paper)) for cell in row]
        lines.append(" & ".join(_joined(cell, lambda text: rf"\textbf{{{text}}}") for cell in cells) + r" \\")
    label = grid.name.lower().replace(" ", "-")
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\caption{{{escape(grid.caption)}}}", rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(grid.headings) - 1)}}}", r"\toprule", *lines, r"\bottomrule",
        r"\end{tabular}", r"\end{table}", "",
    ])  # fmt: skip


def as_csv(study: Study, reached: Reached, against: str | None) -> str:
    """A line for each row and column, numbers in percent; `values` are the seeds'."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV)
    for name, table in study.tables.items():
        for row, content in table.rows.items():
            own = study.rows[name, row]
            for column in study.columns:
                number, theirs = reached.number(study.runs[own], column), study.runs.get(against, {})
                found = significance.compare(reached, study.runs[own], theirs, column)
                seeds, values = (" ".join(map(str, x)) for x in (number.by_seed, number.by_seed.values()))
                writer.writerow([name, row, own, column.title, number.mean, number.std, seeds, values,
                                 _paper(content.paper, column), against, *(found or [])])  # fmt: skip
    return text.getvalue()


def _joined(cell: Cell, bold: Callable[[str], str]) -> str:
    text = bold(cell.text) if cell.bold else cell.text
    return f"{text} ({cell.paper})" if cell.paper else text


def _paper(numbers: Sequence[float], column: Column) -> str:
    there = dict(zip(PAPER, numbers, strict=False))
    return f"{there[column.paper]:.2f}" if column.paper in there else ""


def _p(p: float | None, least: float = 0.0) -> str:
    if p is None:
        return "-"
    return "< 0.001" if p < 0.001 else f"≤ {p:.3f}" if p <= least else f"{p:.3f}"
