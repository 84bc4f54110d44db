"""Evaluate IJB-B or IJB-C 1:N, mixed media probes, with the flags of eval.ijb_11.

    python -m eval.ijb_1n --model-prefix model.pt --image-path IJBB --network r50 --target IJBB

The first column are the numbers of InsightFace's ijb_1n.py, which searches both galleries at once; the second is the
average over the galleries, each searched on its own, as IJB's papers define it (docs/evaluation.md).
"""

import sys

from prettytable import PrettyTable

from eval.ijb.identification import NAMES, identify
from eval.ijb.meta import MetaError
from eval.ijb_11 import image_features, open_target, parser_of
from utils.cli import user_errors


def main(words: list[str]) -> None:
    """Lists, features, table."""
    options = parser_of("python -m eval.ijb_1n", __doc__).parse_args(words)
    target = open_target(options)
    if target.search is None:
        raise MetaError(target.folder / "meta", None, f"has no {target.name}_1N_gallery_... and ..._1N_probe_mixed.csv")
    templates = target.templates(image_features(options, target))
    for note in templates.notes:
        print(f"note: {note}")
    metrics, _ = identify(templates.u, target.search)
    table = PrettyTable([f"{options.job}-{options.target}", "both galleries at once", "average of the galleries"])
    for name in NAMES:
        cells = (metrics.get(key) for key in (name, f"galleries_{name}"))
        table.add_row([name, *("-" if cell is None else f"{100 * cell:.2f}" for cell in cells)])
    print(table)


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
