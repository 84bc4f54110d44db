"""Train and evaluate every row of the paper's tables, and print them in the paper's form, ours beside its numbers.

    python -m tools.ablation tables=I,II,III data=FOLDER [seeds=0,1,2] [rows=D,E] [against=E] [key=value ...]

tables=I,II   of configs/tables.py; default: the paper's I, II and III
data=FOLDER   holds the recipe's training faces, under the name that they have in the recipe, and the targets; without
              it rec=... and val_dir=..., as for train.py
seeds=0,1,2   each row is trained with each of them; default: 0,1,2
rows=D,E      of these tables, only these rows
recipe=CONFIG a config of setting E; default: vgg2_r34_qgface, the paper's
against=E     p-values of each row against this one
key=value     keys of the config, for all rows; a row's own keys go above them

A row and a seed is a run, in a folder of its own; rows of the same config share it. Ctrl-C stops all runs, which save;
the same command goes on, starts what is not finished, and prints the tables. A run that fails is named, and the others
go on; the exit code is 1 then.
"""

import contextlib
import os
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import torch
from easydict import EasyDict

import train
from tools import plan
from tools.ablation import estimate, jobs, render, results, runs, slurm, words
from tools.ablation.runs import ROOT, Study
from utils import config, parallel, project
from utils.cli import Parser, user_errors
from utils.files import replacing, writable_folder
from utils.version import machine

OWN = ("tables", "data", "seeds", "rows", "recipe", "against")
RECIPE = "vgg2_r34_qgface"


def main(arguments: list[str], environment: Mapping[str, str] = os.environ) -> int:
    """Train what is missing and print the tables; 1 where a run failed."""
    options = parse(arguments)
    own, rest = plan.split(options.words, OWN)
    recipe = config.find(own.get("recipe", RECIPE), ROOT / "configs")
    output = (options.output or project.home() / "work_dirs" / "ablation" / recipe.stem).resolve()
    rest = [*words.data_words(own["data"], recipe, rest), *rest] if "data" in own else rest
    folder = (options.runs or output / "runs").resolve()
    study = runs.make_study(str(recipe), words.names(own), words.seeds(own), rest, folder)
    study = study.only(own["rows"].split(",")) if "rows" in own else study
    against = study.find(own["against"], "against") if "against" in own else None

    cfg = study.every()[0].cfg
    device = torch.device("cuda", 0) if options.slurm else parallel.choose_device(cfg.device)
    ranks = options.gpus_per_run or 1
    side_by_side = [] if options.report or options.slurm else places(device, options, environment)
    _, targets, facts = train.open_data(EasyDict(cfg), parallel.World(0, 1, 0, torch.device("cpu")))
    for run in study.every():
        runs.check(run, facts, ranks)
    for by_seed in study.runs.values() if not options.report else ():
        runs.check_method(next(iter(by_seed.values())), facts["images"], ranks)
    todo = [run for run in study.every() if not run.ended]

    if options.dry_run:
        print(prospect(study, facts, ranks, side_by_side, device))
        return 0
    writable_folder(output)
    if options.slurm:
        return print_array(todo, recipe, options, output)
    failed, why = ([], None) if options.report else jobs.run_all(todo, recipe, side_by_side, environment, say)
    show(study, against, output, {name: target.digest() for name, target in targets.items()})
    if why:
        say(f"stopped by {why}; the same command goes on")
    for run in failed:
        print(f"error: {run} failed", file=sys.stderr)
    return int(bool(failed))


def parse(arguments: list[str]) -> Namespace:
    """Options and words."""
    parser = Parser("python -m tools.ablation", __doc__)
    add = parser.add_argument
    add("words", nargs="*", metavar="key=value", help="as above")
    add("--dry-run", action="store_true", help="print the rows, and their hours and disk from measured steps; no more")
    add("--report", action="store_true", help="start nothing: the tables of what is finished")
    add("--slurm", action="store_true", help="start nothing: print a Slurm array of what is not finished")
    add("--jobs", type=int, metavar="N", help="runs at a time; default: as many as there are GPUs for, one on a CPU")
    add("--gpus-per-run", type=int, metavar="G", help="default: 1")
    add("--output", type=Path, help="folder of the tables; default: work_dirs/ablation/RECIPE")
    add("--runs", type=Path, help="folder of the runs, which several outputs may share; default: OUTPUT/runs")
    options = parser.parse_intermixed_args(arguments)
    for name, value in (("--jobs", options.jobs), ("--gpus-per-run", options.gpus_per_run)):
        if value is not None and value < 1:
            raise ValueError(f"{name} {value}: expected 1 or more")
    if options.dry_run + options.report + options.slurm > 1:
        raise ValueError("--dry-run, --report, --slurm: expected one of them")
    return options


def places(device: torch.device, options: Namespace, environment: Mapping[str, str]) -> list[dict[str, str]]:
    """The environment of each of the runs that go on at a time."""
    given, gpus = environment.get("CUDA_VISIBLE_DEVICES"), []
    if device.type != "cpu":
        numbers = map(str, range(torch.get_device_module(device).device_count()))
        gpus = given.split(",") if given else [*numbers]
    return jobs.places(gpus, options.gpus_per_run, options.jobs, environment.get("OMP_NUM_THREADS"))


def prospect(study: Study, facts: Mapping, ranks: int, side_by_side: list[dict], device: torch.device) -> str:
    """What `--dry-run` prints."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(int(side_by_side[0]["OMP_NUM_THREADS"]))
    try:
        found = estimate.estimates(study, facts["identities"], facts["images"], ranks, device)
        where = f"{machine(device, 1)}, load {os.getloadavg()[0]:.1f}"  # a busy machine makes all of it longer
        return estimate.report(study, found, ranks, len(side_by_side), where)
    finally:
        torch.set_num_threads(before)


def print_array(todo: list[runs.Run], recipe: Path, options: Namespace, output: Path) -> int:
    """Write and print the Slurm array, and the command that submits it."""
    if not todo:
        print("every run is finished")
        return 0
    todo[0].folder.parent.mkdir(parents=True, exist_ok=True)
    path = output / "array.sbatch"
    gpus = options.gpus_per_run or 1
    text = slurm.script(todo, recipe, gpus, gpus * (1 + max(run.cfg.num_workers for run in todo)), options.jobs)
    with replacing(path) as beside:
        beside.write_text(text)
    print(f"{text}\n# submit it with:  sbatch {path}\n# then the same command with --report in place of --slurm")
    return 0


def show(study: Study, against: str | None, output: Path, digests: Mapping[str, str]) -> None:
    """Print every table; write tables.md, tables.csv and tables.tex."""
    reached, grids = results.Reached(study.every()), []
    for name in study.tables:
        grids.append(render.grid(study, reached, name))
        if against:
            grids.append(render.comparison(study, reached, name, against))
    bold = (lambda text: f"\033[1m{text}\033[0m") if sys.stdout.isatty() else (lambda text: f"*{text}*")
    ledger, notes = render.ledger(study, reached), results.notes(study, reached, digests)
    say("\n\n".join(render.as_text(grid, bold) for grid in [*grids, ledger]))
    for note in notes:
        say(f"note: {note}")
    files = {
        "tables.md": "\n".join([*map(render.as_markdown, [*grids, ledger]), *(f"- {note}" for note in notes)]),
        "tables.tex": "\n".join(map(render.as_latex, grids)),
        "tables.csv": render.as_csv(study, reached, against),
    }
    for name, text in files.items():
        with replacing(output / name) as beside:
            beside.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    say(f"written  {', '.join(str(output / name) for name in files)}")


def say(line: str) -> None:
    """Print at once; a terminal or a `tee` that is gone is no reason to leave the rest undone."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


if __name__ == "__main__":
    with user_errors():
        sys.exit(main(sys.argv[1:]))
