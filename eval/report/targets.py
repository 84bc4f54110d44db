"""The sections of one target: its table, charts, hardest images, what was measured."""

from collections.abc import Mapping, Sequence

import numpy as np

from eval.drawing import charts
from eval.faces import Face
from eval.protocol import Result
from eval.report.html import details, figure, notes, section, table, text
from eval.report.words import interval, rate
from eval.results import Record

HOW = {
    "roc": "Higher is better. Left: hardly any impostor is accepted.",
    "cmc": "Higher is better. Rank 1: the match is the first of the gallery.",
    "accuracy": "Higher is better; the further a curve holds to the left, the less it needs.",
    "norm": "Where it rises with the resolution, the norm tells quality.",
    "discard": "The faster it falls, the better the norm foretells errors.",
    "similarity": "The less the two overlap, the better. To the right of the threshold a pair is judged as one person.",
}
PROBES = "The less the two overlap, the better: a probe is found where its own image is the more similar."
DAMAGED = (ValueError, LookupError, TypeError, AttributeError, FloatingPointError)  # what foreign arrays lead to
GROUPS = {
    "matched": "One person, judged least alike",
    "mismatched": "Two persons, judged most alike",
}


def target_section(
    identity: str, name: str, records: Mapping[str, Record], faces: Mapping[int, Face], missing: Sequence[str]
) -> str:
    """All about a target.

    Args:
        identity: of the section, unique on the page.
        records: name of the model -> its record, this model's first.
        faces: thumbnails by the image's index; empty: none were kept.
        missing: lines on what could not be read.
    """
    model, record = next(iter(records.items()))
    whose = f" of {model}" if len(records) > 1 else ""
    drawn, wrong = _charts(identity, name, {model: other.result for model, other in records.items()})
    parts = [
        notes([*record.result.notes, *missing, *wrong]),
        _headline(name, {model: other.result for model, other in records.items()}),
        f'<div class="charts">{"".join(drawn)}</div>' if drawn else "",
        _faces(identity, record.result.evidence, faces, whose),
        _all_numbers(name, record),
    ]
    return section(2, identity, name, "".join(parts))


def _headline(name: str, results: Mapping[str, Result]) -> str:
    first = next(iter(results.values()))
    if len(results) == 1:
        single = [(metric, rate(first.metrics[metric]), interval(first, metric)) for metric in first.headline]
        return table(f"Headline metrics of {name}", ("metric", "%", "95 % interval"), single, (1, 2))
    head = ("metric", *(word for model in results for word in (f"{model} %", "95 % interval")))
    rows: list[tuple[str, ...]] = []
    for metric in first.headline:
        cells = [(rate(r.metrics[metric]), interval(r, metric)) if metric in r.metrics else ("", "")
                 for r in results.values()]  # fmt: skip
        rows.append((metric, *(word for pair in cells for word in pair)))
    return table(f"Headline metrics of {name}", head, rows, range(1, 1 + 2 * len(results)))


def _charts(identity: str, name: str, results: Mapping[str, Result]) -> tuple[list[str], list[str]]:
    """Figures, and a line for each that could not be drawn."""
    drawn: list[str] = []
    wrong: list[str] = []
    if not next(iter(results.values())).evidence:
        return drawn, wrong
    if len(results) == 1:
        results = {name: next(iter(results.values()))}
    try:
        kinds = list(charts(name, results))
    except DAMAGED as error:
        return drawn, [f"charts are left out, their evidence is not what it should be: {error}"]
    for row, (kind, make) in enumerate(kinds):
        try:
            drawn.append(figure(make(), f"{identity}-chart-{row}", HOW.get(kind, PROBES)))
        except DAMAGED as error:
            wrong.append(f"chart {kind} is left out, its evidence is not what it should be: {error}")
    return drawn, wrong


def _faces(identity: str, evidence: Mapping[str, np.ndarray], faces: Mapping[int, Face], whose: str) -> str:
    groups = [key for key in evidence if key.startswith("hard/") and not key.endswith("/cosine")]
    if not faces or not (groups or "sheet/low" in evidence):
        return ""
    try:
        parts = [_group(key.removeprefix("hard/"), evidence[key], evidence[f"{key}/cosine"], faces) for key in groups]
        hardest = section(3, f"{identity}-hardest", f"Hardest images{whose}", "".join(parts))
        return hardest + _sheets(identity, evidence, faces, whose)
    except DAMAGED as error:
        return notes([f"faces are left out, they do not belong to the evidence: {error}"])


def _group(group: str, images: np.ndarray, cosines: np.ndarray, faces: Mapping[int, Face]) -> str:
    pair = images.shape[1] == 2
    roles = ("first image", "second image") if pair else ("probe", "own gallery image", "most similar other")
    where = {"probes": "", "clean": " as they are"}.get(group, f" at {group}")
    title = GROUPS.get(group, f"Probes{where} whose match came last: probe, own gallery image, most similar other one")
    items = []
    for row, cosine in zip(images.tolist(), cosines, strict=True):
        pictures = "".join(_image(faces[index], role) for index, role in zip(row, roles, strict=True))
        said = f"cosine {cosine[0]:.3f}" if pair else f"own {cosine[0]:.3f}, other {cosine[1]:.3f}"
        items.append(f"<li><div>{pictures}</div><span>{said}</span></li>")
    return f'<p class="group">{text(title)}</p><ul class="faces">{"".join(items)}</ul>'


def _sheets(identity: str, evidence: Mapping[str, np.ndarray], faces: Mapping[int, Face], whose: str) -> str:
    parts = []
    for side, title in (("low", "Lowest norms: what the model takes for low quality"), ("high", "Highest norms")):
        items = [
            f"<li>{_image(faces[index], f'norm {z:.2f}')}<span>{z:.2f}</span></li>"
            for index, z in zip(evidence[f"sheet/{side}"].tolist(), evidence[f"sheet/{side}/z"], strict=True)
        ]
        parts.append(f'<p class="group">{text(title)}</p><ul class="faces sheet">{"".join(items)}</ul>')
    return section(3, f"{identity}-norms", f"Low and high quality{whose}", "".join(parts))


def _image(face: Face, role: str) -> str:
    alt = text(f"{role}: image {face.name}")
    return f'<img src="data:image/jpeg;base64,{text(face.data)}" alt="{alt}" title="{alt}" width="80" height="80">'


def _all_numbers(name: str, record: Record) -> str:
    facts = [("protocol version", record.version), ("SHA-256 of the data", record.data_digest)]
    facts += [(f"option {option}", value) for option, value in record.options.items()]
    rows = [(metric, f"{value:.6g}") for metric, value in record.result.metrics.items()]
    measured = table(f"All metrics of {name}; rates are fractions", ("metric", "value"), rows, (1,), hidden=False)
    how = table(f"How {name} was measured", ("what", "value"), facts, hidden=False)
    return details("All metrics, and how they were measured", f'{measured}<div class="config">{how}</div>')
