"""Damaged files of one family through its reader, in a process that gets 1 GiB beyond what its imports take.

    python -m tests.corpus.run jpeg --first 1234 --count 1 --keep .     # replays a mutation, and leaves its file there
    python -m tests.corpus.run jpeg --files FOLDER                      # reads the files in a folder instead

Prints a line of JSON for each failure (or each file) and one at the end. The number of the mutation that is being read
is in the file `number` of --folder, for when the process does not live to tell.
"""

import argparse
import json
import mmap
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.corpus.families import FAMILIES, generator
from tests.corpus.mutate import mutated

ROOM = 1 << 30  # bytes


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is told by its signal
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM,) * 2)


def peak() -> int:
    """Of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m tests.corpus.run", description=__doc__)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="for the damaged files; a tmpfs is fastest")
    parser.add_argument("--files", type=Path)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        family = FAMILIES[options.family](Path(scratch))
        limit_memory()
        if options.files:
            read_files(family, options.files)
        else:
            print(json.dumps(mutations(family, options)), flush=True)


def read_files(family, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        start, before = time.perf_counter(), peak()
        try:
            outcome = {"refused": family(path.read_bytes(), 1)}
        except BaseException as error:  # the point is to see what comes
            outcome = {"raised": f"{type(error).__name__}: {error}"}
        spent = {"seconds": time.perf_counter() - start, "mib": peak() - before}
        print(json.dumps({"file": path.name, **outcome, **spent}), flush=True)


def mutations(family, options: argparse.Namespace) -> dict:
    """What became of them: counts of whole and refused, the slowest one, the growth of memory in MiB."""
    outcomes, slowest, before = {"whole": 0, "refused": 0, "raised": 0}, (0.0, 0), peak()
    with (options.folder or Path(tempfile.gettempdir())).joinpath("number").open("w+b") as file:
        file.write(bytes(8))
        file.flush()
        current = mmap.mmap(file.fileno(), 8)
        for number in range(options.first, options.first + options.count):
            current[:] = number.to_bytes(8, "little")
            draw = generator(options.family, options.seed, number)
            base = draw.randrange(len(family.bases))
            kind, data = mutated(draw, family.bases[base], draw.choice(family.bases), family.is_text)
            if options.keep:
                (options.keep / f"{options.family}_{options.seed}_{number}").write_bytes(data)
            start = time.perf_counter()
            try:
                outcomes["refused" if family(data, base) else "whole"] += 1
            except BaseException as error:
                outcomes["raised"] += 1
                if outcomes["raised"] <= 5:
                    replay = {"seed": options.seed, "number": number, "kind": kind, "base": base}
                    where = traceback.format_exception(error)[-3:]
                    print(json.dumps({"raised": f"{type(error).__name__}: {error}", **replay, "where": where}))
            slowest = max(slowest, (time.perf_counter() - start, number))
    return {**outcomes, "slowest": slowest, "mib": peak() - before}


if __name__ == "__main__":
    main(sys.argv[1:])
