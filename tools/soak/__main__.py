"""Kill a training at random moments for a while, let it go on each time, and compare it with one that was left alone.

    python -m tools.soak --minutes 20
    python -m tools.soak --kills 6 --ranks 1 2

A small data set is drawn, and an uninterrupted run made for each number of ranks that is needed. Then the launcher or
one of the processes below it is killed, or all of them are, or the launcher is asked to stop: while it starts, trains,
saves, evaluates and ends. Now and then the newest checkpoint is damaged too. The same command goes on, on another
number of ranks, until the run has ended; then the next run begins. Every second run keeps its number of ranks, has a
network with BatchNorm, and must be the same as the uninterrupted one to the last bit.

key=value words are keys of the config, as for train.py. report.json in --output has every kill. Exit code 1 where a
run differed, or a process or a file was left behind; the runs are kept then, in --output.
"""

import contextlib
import json
import random
import shutil
import sys
import time
from pathlib import Path

from recognition.data.synthetic import write_demo
from tools.soak import report
from tools.soak.compare import differences, faults, largest_distance
from tools.soak.processes import ROOT
from tools.soak.run import Soak, interrupted, reference
from utils import config, project
from utils.cli import Parser, user_errors
from utils.files import replacing, writable_folder

DATA = {"seed": 1, "identities": 24, "photos": 10, "test_identities": 8, "pairs": 40}
SHOWN = 10  # of a run's faults; report.json has all
CONFIG = str(ROOT / "configs" / "demo.py")
WORDS = [
    *("val_targets=['demo']", "embedding_size=32", "total_batch_size=12", "lr=0.002", "num_epoch=4", "overwrite=False"),
    *("scale=16.0", "contrast_scale=16.0", "quality_mean=4.0", "quality_std=1.0", "num_workers=1"),
    *("frequent=1", "save_every=5", "keep_checkpoints=3", "verbose=20"),
]
FIXED = ["network=mini", "quality_threshold=0.5"]
# BatchNorm normalises over a rank's part of a batch, and rounding may move a sample across the threshold: without both,
# runs on different numbers of ranks are the same but for rounding
VARIED = ["network=tiny", "quality_threshold=None"]


def main(words: list[str]) -> int:
    """Run the soak; 1 where something was wrong."""
    options = make_parser().parse_args(words)
    minutes, kills = options.minutes, options.kills
    if min(options.ranks) < 1 or (minutes or 1) <= 0 or (kills or 1) <= 0:
        raise ValueError(f"--ranks {options.ranks}, --minutes {minutes}, --kills {kills}: expected numbers above 0")
    config.load(CONFIG, [*WORDS, *options.words], ROOT / "configs")  # raises for a mistake in a word
    if minutes is None and kills is None:
        minutes = 20.0
    seed = random.randrange(2**31) if options.seed is None else options.seed
    output = options.output or project.home() / "work_dirs" / "soak"
    if (output / "runs").exists():
        raise ValueError(f"{output / 'runs'} holds runs of an earlier soak: remove it, or choose another --output")
    made = not output.exists()
    writable_folder(output)
    began = time.monotonic()
    facts = {"seed": seed, "ranks": options.ranks, "words": options.words}
    print(f"seed {seed}, ranks {options.ranks}, output {report.shown(output)}", flush=True)

    def more(done: int) -> bool:
        return (kills is None or done < kills) and (minutes is None or time.monotonic() - began < 60 * minutes)

    soak = Soak(output / "runs", options.ranks, random.Random(seed), more, lambda line: print(line, flush=True))
    kept = False
    try:
        runs = every_run(soak, options.words)
        facts["minutes"] = round((time.monotonic() - began) / 60, 2)
        kept = bool(report.wrong(soak.kills, runs))
        conclude(soak, runs, facts, output)
    except Exception:
        kept = True  # what it says is about these files
        raise
    finally:
        soak.close()
        if not kept:
            shutil.rmtree(soak.folder)
        with contextlib.suppress(OSError):
            if made:
                output.rmdir()  # where nothing is in it
    return int(kept)


def make_parser() -> Parser:
    """The options."""
    parser = Parser("python -m tools.soak", __doc__)
    parser.add_argument("words", nargs="*", metavar="key=value", help="of the config, for all runs")
    parser.add_argument("--minutes", type=float, help="no kill after this time; default: 20, with --kills no limit")
    parser.add_argument("--kills", type=int, help="no more kills than so many; default: as many as fit")
    parser.add_argument("--seed", type=int, help="of kinds, moments and rank counts; default: another each time")
    parser.add_argument(
        "--ranks", type=int, nargs="+", default=[1, 2, 3, 4], help="numbers to choose from; default: 1 2 3 4"
    )
    parser.add_argument("--output", type=Path, help="folder of report.json; default: work_dirs/soak")
    return parser


def every_run(soak: Soak, words: list[str]) -> list[report.Comparison]:
    """Run after run until there are to be no more kills; each is compared when it has ended."""
    data = soak.folder / "data"
    write_demo(data, **DATA)
    references, runs = {}, []
    while not runs or (soak.more() and not runs[-1].faults):
        fixed = soak.ranks[len(runs) // 2 % len(soak.ranks)] if len(runs) % 2 == 0 else None
        own = [CONFIG, f"rec={data}", *WORDS, *(FIXED if fixed else VARIED), *words]
        key = (fixed or min(soak.ranks), bool(fixed))
        whole = soak.folder / f"uninterrupted_{key[0]}_{'fixed' if fixed else 'varied'}"
        if key not in references:
            references[key] = reference(soak, own, key[0], whole)
        runs.append(one_run(soak, len(runs) + 1, own, fixed, references[key], whole))
    return runs


def one_run(soak: Soak, number: int, words: list[str], fixed: int | None, plan, whole: Path) -> report.Comparison:
    """A run that is killed until it has ended, compared."""
    before = len(soak.kills)
    folder, wrong = interrupted(soak, number, words, fixed, plan)
    done = report.Comparison(number, fixed, len(soak.kills) - before, bool(fixed), 0.0, wrong)
    done.faults += wrong or faults(folder, plan.last_step, plan.verbose)
    if not done.faults:
        done.distance = largest_distance(folder, whole)
        done.faults += differences(folder, whole, done.exact)
    done.faults += soak.unused_memory() + soak.temporary_files()
    how = f"on {fixed}, compared to the last bit" if fixed else "on changing numbers of ranks"
    soak.say(f"run {number} has ended after {done.kills} kills {how}: {len(done.faults) or 'nothing'} wrong")
    for fault in done.faults[:SHOWN]:
        soak.say(f"  WRONG: {fault}")
    return done


def conclude(soak: Soak, runs: list[report.Comparison], facts: dict, output: Path) -> None:
    """Tables and verdicts on screen, report.json."""
    print(report.tables(soak.kills))
    print("\n".join(report.verdicts(soak.kills, runs)))
    wrong = report.wrong(soak.kills, runs)
    print(
        f"{len(wrong)} things were WRONG; {report.shown(soak.folder)} is kept" if wrong else "nothing was left behind"
    )
    with replacing(output / "report.json") as beside:
        beside.write_text(json.dumps(report.as_json(facts, soak.kills, runs), indent=1) + "\n")
    print(f"report {report.shown(output / 'report.json')}")


if __name__ == "__main__":
    with user_errors():
        sys.exit(main(sys.argv[1:]))
