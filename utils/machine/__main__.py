"""Check this machine for training, from Python and packages to GPUs and disk, and say how to mend what is wrong.

    ./run.sh doctor --output /shared/run1

Also `qgface doctor` and `python -m utils.machine`. Nothing is installed or changed. A line for each check: ok, warning
(works, with a loss) or problem (training will fail). Exit code 0, or 1 where there is a problem. A data set is checked
by `python -m tools.doctor DIR`.
"""

import argparse
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from utils import project
from utils.machine import OK, PROBLEM, WARNING, Finding, gpu, resources, software
from utils.parser import Parser


def main(words: list[str]) -> int:
    """Print every finding; 1 where one is a problem."""
    try:
        options = _options(words)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = []
    for finding in findings(options.output or project.home() / "work_dirs", options.workers):
        print(finding, flush=True)
        found.append(finding.level)
    problems, warnings = found.count(PROBLEM), found.count(WARNING)
    print(f"problems: {problems}, warnings: {warnings}, ok: {found.count(OK)}")
    return int(problems > 0)


def findings(output: Path, workers: int) -> Iterator[Finding]:
    """Every check's `Finding`, one after the other.

    Args:
        output: folder that runs go to; need not be there yet.
        workers: loader processes for each GPU, `num_workers` of the config.
    """
    yield software.python()
    yield software.packages()
    yield software.names()
    yield software.encoding()
    torch = gpu.ask_torch()
    driver = gpu.ask_driver()
    yield from gpu.findings(torch, driver)
    processes = max(len(torch.get("gpus", ())), 1)
    yield resources.cores(processes, workers)
    yield resources.memory()
    yield resources.shared_memory(processes)
    yield resources.open_files()
    yield resources.port()
    yield from resources.folder(output)


def _options(words: list[str]) -> argparse.Namespace:
    parser = Parser(project.shown("doctor"), __doc__)
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where runs are to go; default: work_dirs")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="num_workers of the config; default: 2")
    options = parser.parse_args(words)
    if options.workers < 0:
        raise ValueError(f"--workers {options.workers}: expected 0 or more")
    return options


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it, as it ends any command
    sys.exit(main(sys.argv[1:]))
