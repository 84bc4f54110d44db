"""Measure a step of ours against a named baseline, in one process.

    python -m tools.bench head --quick
    python -m tools.bench backbone small r34 --threads 1 --json rows.json

Times are the medians of steps that run in turn; docs/results.md has those of the full sizes.
"""

import sys

import torch

from recognition.backbones import get_backbone, names
from tools.bench import backbone, checkpoint, diagnostics, evaluation, exported, head, loader, queue
from tools.bench.measure import keep_freed_memory, report
from utils.cli import Parser, user_errors

BENCHES = {
    "head": head.rows,
    "queue": queue.rows,
    "loader": loader.rows,
    "checkpoint": checkpoint.rows,
    "diagnostics": diagnostics.rows,
    "eval": evaluation.rows,
    "backbone": backbone.rows,
    "export": exported.rows,
}
OF_NETWORKS = ("backbone", "export")


def main(words: list[str]) -> None:
    parser = Parser("python -m tools.bench", __doc__)
    parser.add_argument("name", choices=BENCHES, metavar=f"{{{','.join(BENCHES)}}}", help="what is measured")
    parser.add_argument("network", nargs="*", help=f"of {' and '.join(OF_NETWORKS)}; default: some")
    parser.add_argument("--quick", action="store_true", help="small sizes and few runs: does it work at all")
    parser.add_argument("--json", metavar="FILE", help="write the rows there too")
    parser.add_argument("--threads", type=int, help="of PyTorch; default: every core")
    parser.add_argument("--keep-memory", action="store_true", help="the C library keeps freed memory, as under run.sh")
    options = parser.parse_args(words)
    if options.network and options.name not in OF_NETWORKS:
        raise ValueError(f"{' '.join(options.network)}: {options.name} takes no networks, as {OF_NETWORKS} do")
    for network in options.network:
        if network not in names():
            get_backbone(network)  # says what is near
    if options.threads is not None:
        if options.threads < 1:
            raise ValueError(f"--threads {options.threads}: expected at least 1")
        torch.set_num_threads(options.threads)
    if options.keep_memory:
        keep_freed_memory()
    of = (tuple(options.network),) if options.name in OF_NETWORKS else ()
    rows = BENCHES[options.name](options.quick, *of)
    if options.quick:  # the targets are for the full sizes
        rows = [row._replace(target=None) for row in rows]
    report(rows, options.json)


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
