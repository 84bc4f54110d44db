"""Make one HTML page of results: numbers, charts, hardest images, training; of two also their differences.

    python -m eval.report work_dirs/demo
    python -m eval.report work_dirs/qgface work_dirs/baseline --output comparison.html

Each is a results.json or the folder of a run. The page holds all that it shows and needs no network; docs/report.md
says how its charts are read.
"""

import sys
from pathlib import Path

from eval.report.page import default_output, write_report
from eval.report.source import results_file
from utils.cli import Parser, user_errors


def main(words: list[str]) -> None:
    """Write the page and say where it is."""
    parser = Parser("python -m eval.report", __doc__)
    add = parser.add_argument
    add("results", type=Path, metavar="RESULTS", help="results.json, or the folder of a run")
    add("other", type=Path, nargs="?", metavar="RESULTS2", help="of another model, to compare with")
    add("--output", type=Path, metavar="FILE.html", help="default: report.html beside RESULTS, or comparison.html")
    add(
        "--no-faces", action="store_true", help="leave the faces out, which test sets' licences may not let you pass on"
    )
    options = parser.parse_args(words)
    output = options.output or default_output(results_file(options.results), options.other is not None)
    if output.suffix != ".html":
        raise ValueError(f"--output {output}: expected a file name that ends in .html")
    print(f"report   {write_report(options.results, options.other, output, not options.no_faces)}")


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
