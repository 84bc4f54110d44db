"""Sentences about results, for readers who do not know the protocols."""

import re
from collections.abc import Sequence

from eval.compare import Difference
from eval.protocol import Result

LEVEL = 0.05  # p below which a difference is called more than chance
# the metric that stands for a target, the first that it has, and what it says of `{}` of 100
LEADS = (
    ("accuracy", "judges {} of 100 pairs rightly as the same person or not (guessing: 50)"),
    ("average", "names the right person first for {} of 100 probes, the mean over distances"),
    ("strict_tar@far=1e-4", "recognises {} of 100 true matches where 1 of 10,000 impostors gets through"),
    ("mean_cross", "judges {} of 100 pairs rightly where one of the two images has a low resolution (guessing: 50)"),
    ("rank1", "names the right person first for {} of 100 probes"),
    ("clean", "names the right person first for {} of 100 probes"),
)
MEANINGS = (
    (r"accuracy", "share of pairs judged rightly, each tenth at the threshold that is best on the nine others"),
    (r"tar@far", "share of true matches accepted where so many of the impostors are (1e-3: one in 1,000)"),
    (r"strict_tar@far", "the same over all pairs at once, never above that share of impostors"),
    (r"rank\d", "share of probes whose match is among the first so many of the gallery"),
    (r"(clean|d\d)$", "rank 1 of the probes as they are, and of those from distance 1 (far) to 3 (near)"),
    (r"average", "mean of the distances' rank 1"),
    (r"tpir@fpir", "share of probes found where so many of the others raise a false alarm"),
    (r"both@", "accuracy where both images of a pair are degraded so"),
    (r"cross@", "accuracy where one image of a pair is degraded so, and the other is as it was"),
    (r"mean_(both|cross)", "mean over the resolutions below the original's"),
    (r"map", "mean average precision: how near to the top all images of the person are"),
)


def rate(value: float) -> str:
    return f"{100 * value:.2f}"


def interval(result: Result, metric: str) -> str:
    """The 95 % interval in percent; empty where none is known."""
    ends = result.intervals.get(metric)
    return "" if ends is None else f"{rate(ends[0])} to {rate(ends[1])}"


def sentence(target: str, result: Result) -> str:
    """What the target's leading metric says, with its interval."""
    found = next((lead for lead in LEADS if lead[0] in result.metrics), None)
    metric = found[0] if found else next(iter(result.headline), None)
    if metric is None:
        return f"{target}: no headline"
    value = f"{100 * result.metrics[metric]:.1f}"
    said = found[1].format(value) if found else f"reaches {metric} of {value} %"
    known = f"; 95\N{NO-BREAK SPACE}% interval {interval(result, metric)}" if metric in result.intervals else ""
    count = next((f" ({result.metrics[kind]:,} {kind})" for kind in ("pairs", "probes") if kind in result.metrics), "")
    return f"On {target}{count} the model {said}{known}."


def meanings(metrics: Sequence[str]) -> list[tuple[str, str]]:
    """The kinds of metrics that are among these, and what they mean."""
    return [
        (", ".join(shown[:4]) + (" ..." if len(shown) > 4 else ""), said)
        for pattern, said in MEANINGS
        if (shown := [metric for metric in dict.fromkeys(metrics) if re.match(pattern, metric)])
    ]


def verdict(row: Difference) -> str:
    """Which of the two is better by more than chance."""
    if row.p is None:
        return "not known"
    if row.p >= LEVEL:
        return "may be chance"
    return "first better" if row.ours > row.theirs else "second better"


def comparison(rows: Sequence[Difference], ours: str, theirs: str) -> str:
    """How many differences are more than chance."""
    said = [verdict(row) for row in rows]
    counts = [said.count(word) for word in ("first better", "second better", "may be chance", "not known")]
    unknown = f" For {counts[3]} it is not known." if counts[3] else ""
    return (
        f"Of {len(rows)} headline metrics {ours} is better than {theirs} in {counts[0]} and worse in {counts[1]} by "
        f"more than chance (p < {LEVEL}); {counts[2]} may be chance.{unknown} Nothing is corrected for looking at many "
        f"metrics: of 20 that do not differ, one is expected below {LEVEL}."
    )
