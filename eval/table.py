"""Results as one table on screen."""

from collections.abc import Mapping

from prettytable import PrettyTable

from eval.protocol import Result


def results_table(results: Mapping[str, Result]) -> str:
    """A row for each headline metric of each target, rates in percent."""
    table = PrettyTable(["target", "metric", "%", "95 % interval", "XNorm", "pairs or probes"])
    table.align = "r"
    table.align["target"] = table.align["metric"] = "l"
    for name, result in results.items():
        metrics = result.metrics
        xnorm = f"{metrics['xnorm']:.2f}" if "xnorm" in metrics else ""
        count = metrics.get("pairs", metrics.get("probes", ""))
        for row, metric in enumerate(result.headline):
            ends = result.intervals.get(metric)
            interval = f"{100 * ends[0]:.2f} - {100 * ends[1]:.2f}" if ends else ""
            first = (name, xnorm, f"{count:,}" if count else "") if row == 0 else ("", "", "")
            table.add_row([first[0], metric, f"{100 * metrics[metric]:.2f}", interval, *first[1:]])
    return table.get_string()
