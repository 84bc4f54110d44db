"""The page: one file without scripts, fonts or pictures from elsewhere."""

from collections.abc import Sequence
from pathlib import Path

from eval.compare import Difference, compare, shown_p
from eval.report import training
from eval.report.html import details, figure, notes, section, table, text
from eval.report.source import Source, open_source
from eval.report.style import STYLE
from eval.report.targets import target_section
from eval.report.words import comparison, interval, meanings, rate, sentence, verdict
from utils.files import replacing, writable_folder

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # the page asks nobody for anything
FACES = (
    "This page shows faces of the test sets: pass it on only where their licences allow it; --no-faces leaves them out."
)


def write_report(results: Path, other: Path | None = None, output: Path | None = None, faces: bool = True) -> Path:
    """Write the page, whole or not at all; returns its path.

    Args:
        results: results.json or a run folder.
        other: of another model, to compare with.
        output: default: `report.html` beside results.json, `comparison.html` where there is another.
        faces: show thumbnails of test images, where they were kept.

    Raises:
        ValueError: it is no results.json, or the folder cannot be written.
        OSError: the page cannot be written.
    """
    ours = open_source(results, faces)
    theirs = None if other is None else open_source(other, faces)
    output = output or default_output(ours.path, theirs is not None)
    writable_folder(output.parent)
    with replacing(output) as beside:
        beside.write_text(page(ours, theirs), encoding="utf-8", errors="backslashreplace")  # names may be no UTF-8
    return output


def default_output(path: Path, compared: bool = False) -> Path:
    """`report.html` beside results.json, `NAME_report.html` beside NAME_results.json."""
    kind = "comparison" if compared else "report"
    stem = path.stem.removesuffix("results")
    return path.with_name(f"{stem}{'' if stem.endswith('_') or not stem else '_'}{kind}.html")


def page(ours: Source, theirs: Source | None = None) -> str:
    """The whole HTML."""
    sources = [ours] if theirs is None else [ours, theirs]
    names = _names(sources)
    targets = {name: f"target-{row}" for row, name in enumerate(ours.records)}
    title = f"{'Comparison' if theirs else 'Evaluation'} of {' and '.join(names)}"
    parts = {
        "summary": ("Summary", _summary(ours)),
        "differences": ("Differences", _differences(ours, theirs, names) if theirs else ""),
        **{identity: (name, _target(name, identity, sources, names)) for name, identity in targets.items()},
        "training": ("Training", _training(ours)),
        "config": ("Config", _config(sources, names)),
        "environment": ("Environment", _environment(sources, names)),
    }
    parts = {identity: part for identity, part in parts.items() if part[1]}
    links = "".join(f'<li><a href="#{identity}">{text(name)}</a></li>' for identity, (name, _) in parts.items())
    main = "".join(
        content if identity in targets.values() else section(2, identity, name, content)
        for identity, (name, content) in parts.items()
    )
    shown = f"<p>{FACES}</p>" if "<img " in main else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head>\n<body>"
        f'<a class="skip" href="#main">Skip to the content</a><header><h1>{text(title)}</h1>'
        f'<p class="soft">{text(_subtitle(ours))}</p></header>'
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n<main id="main">{main}</main>\n'
        f"<footer>{shown}<p>Made by python -m eval.report. Intervals are 95 % bootstrap intervals of the test images; "
        f"training again with another seed moves the numbers too.</p></footer></body></html>\n"
    )


def _names(sources: Sequence[Source]) -> list[str]:
    """Of the models; told apart where they are the same."""
    labels = [source.label or "a model" for source in sources]
    return labels if len(set(labels)) == len(labels) else [f"{n}: {label}" for n, label in enumerate(labels, 1)]


def _subtitle(source: Source) -> str:
    return f"model {source.content['model_digest'][:12]}, results of {source.date}"


def _summary(source: Source) -> str:
    if not source.records:
        return "<p>No target was evaluated.</p>"
    said = "".join(f"<li>{text(sentence(name, record.result))}</li>" for name, record in source.records.items())
    rows = []
    for name, record in source.records.items():
        result = record.result
        rows += [(name, metric, rate(result.metrics[metric]), interval(result, metric)) for metric in result.headline]
    headline = table("Headline metrics", ("target", "metric", "%", "95 % interval"), rows, (2, 3))
    words = meanings([metric for _, metric, *_ in rows])
    glossary = details(
        "What the metrics mean", f'<div class="words">{table("Metrics", ("metric", "meaning"), words)}</div>'
    )
    headline = headline if len(rows) <= 12 else details(f"All {len(rows)} headline metrics", headline)
    return f'<ul class="lead">{said}</ul>{headline}{glossary}'


def _differences(ours: Source, theirs: Source, names: list[str]) -> str:
    rows, incomparable = compare(ours.records, theirs.records)
    lines = [*incomparable, *(f"{name}, {why}" for name, whys in theirs.notes.items() for why in whys)]
    if not rows:
        return notes([*lines, "the two results have no target in common"])
    headline = [row for row in rows if row.metric in ours.records[row.target].result.headline]
    further = [row for row in rows if row not in headline]
    said = f"<p>{text(comparison(headline, *names))}</p>{notes(lines)}"
    said += _difference_table("Differences of headline metrics", headline, names)
    more = _difference_table("Differences of further metrics", further, names)
    return said + (details("Further metrics", more) if further else "")


def _difference_table(caption: str, rows: Sequence[Difference], names: Sequence[str]) -> str:
    """What counts first: a phone shows three columns."""
    head = ("metric", "points", "verdict", "p", "test", f"{names[0]} %", f"{names[1]} %")
    shown = []
    for row in rows:
        points = f"{100 * (row.ours - row.theirs):+.2f}"
        what = f"{row.metric} of {row.target}"
        shown.append((what, points, verdict(row), shown_p(row.p), row.test, rate(row.ours), rate(row.theirs)))
    return table(caption, head, shown, (1, 3, 5, 6))


def _target(name: str, identity: str, sources: Sequence[Source], names: Sequence[str]) -> str:
    of = {label: source.records[name] for label, source in zip(names, sources, strict=True) if name in source.records}
    return target_section(identity, name, of, sources[0].faces[name], sources[0].notes.get(name, []))


def _training(source: Source) -> str:
    if source.run is None:
        return ""
    drawn = [figure(chart, f"training-{n}", how) for n, (chart, how) in enumerate(training.charts(source.run))]
    return f'<div class="charts">{"".join(drawn)}</div>' if drawn else ""


def _config(sources: Sequence[Source], names: Sequence[str]) -> str:
    configs = [source.run.config if source.run else {} for source in sources]
    keys = sorted(set().union(*configs))
    if not keys:
        return ""
    rows = [(key, *(config.get(key, "") for config in configs)) for key in keys]
    whole = details(f"All {len(rows)} keys", table("Config", ("key", *names), rows))
    if len(sources) == 1:
        return f'<div class="config">{whole}</div>'
    other = [row for row in rows if row[1] != row[2]]
    differing = table("Keys that differ", ("key", *names), other, hidden=False) if other else "<p>No key differs.</p>"
    return f'<div class="config">{differing}{whole}</div>'


def _environment(sources: Sequence[Source], names: Sequence[str]) -> str:
    columns = []
    for source in sources:
        known = source.content.get("environment")
        facts = {"model": source.content.get("model", ""), "SHA-256 of the model": source.content["model_digest"]}
        facts |= {f"evaluation: {what}": value for what, value in (known if isinstance(known, dict) else {}).items()}
        columns.append(
            facts | {f"training: {what}": value for what, value in (source.run.facts if source.run else {}).items()}
        )
    rows = [
        (what, *(column.get(what, "") for column in columns)) for what in dict.fromkeys(k for c in columns for k in c)
    ]
    return f'<div class="config">{table("Environment", ("what", *names), rows)}</div>'
