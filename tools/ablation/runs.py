"""The runs that tables need: a row and a seed each; rows that come to the same config are one run."""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from easydict import EasyDict

from configs import tables
from recognition.build import make_objective, make_schedule
from recognition.data.sampler import GlobalBatchSampler
from utils import config, parallel, resume
from utils.checkpoint import CheckpointError, every, read_state
from utils.project import ROOT

FEW = 1000  # classes of an objective that is made to see whether it can be
AT_THE_END = 1_000_000  # steps between evaluations: more than a run has
OWN = {"seed": "seeds=0,1,2", "output": "--output FOLDER"}  # keys that each run has its own of, and what sets them


class Run(NamedTuple):
    """What is trained: `words` go behind the recipe on train.py's command line."""

    name: str
    seed: int
    words: tuple[str, ...]
    cfg: EasyDict
    folder: Path

    def __str__(self) -> str:
        return f"{self.name} seed {self.seed}"

    @property
    def results(self) -> Path:
        return self.folder / "results.json"

    @property
    def ended(self) -> bool:
        """Whether it has results.json, the last thing that a run writes, and not of a part of its steps: a run that was
        stopped has a model, which a user may evaluate.
        """
        if not self.results.is_file():
            return False
        state = self.state()  # empty where its checkpoints were removed
        return state.get("step", 0) >= state.get("last_step", 0)

    def state(self) -> dict:
        """state.json of its newest checkpoint; empty where there is none."""
        for path in reversed(every(self.folder / "checkpoints")):
            try:
                return read_state(path)
            except CheckpointError:
                continue
        return {}


class Study(NamedTuple):
    """The tables that were asked for. `rows`: (table, row) -> the name of its runs. `runs`: name -> seed -> run."""

    tables: dict[str, tables.Table]
    columns: tuple[tables.Column, ...]
    rows: dict[tuple[str, str], str]
    runs: dict[str, dict[int, Run]]

    def every(self) -> list[Run]:
        """All runs, seed by seed: the first whole table is there early."""
        seeds = dict.fromkeys(seed for runs in self.runs.values() for seed in runs)
        return [runs[seed] for seed in seeds for runs in self.runs.values()]

    def only(self, asked: Sequence[str]) -> "Study":
        """The same with these rows alone, and those that are the same runs; a table without any is left out.

        Raises:
            ValueError: none of the tables has one of them.
        """
        names = {self.find(row, "rows") for row in asked}
        rows = {place: name for place, name in self.rows.items() if name in names}
        shown = {
            table: content._replace(rows={row: keys for row, keys in content.rows.items() if (table, row) in rows})
            for table, content in self.tables.items()
            if any(place[0] == table for place in rows)
        }
        return Study(shown, self.columns, rows, {name: runs for name, runs in self.runs.items() if name in names})

    def find(self, row: str, asked: str) -> str:
        """The name of a row's runs; `asked` is the word that names the row.

        Raises:
            ValueError: none of the tables has it.
        """
        names = {name: name for name in self.runs} | {own: name for (_, own), name in self.rows.items()}
        if row not in names:
            raise ValueError(f"{asked}={row}: {_hint(row, names)}expected a row, one of {', '.join(names)}")
        return names[row]


def word(key: str, value: object) -> str:
    """`key=value` as a config takes it, in double quotes where that can be: a shell's are single."""
    text = repr(value)
    return f"{key}={text}" if '"' in text else f"{key}={text}".replace("'", '"')


def make_study(recipe: str, names: Sequence[str], seeds: Sequence[int], words: Sequence[str], folder: Path) -> Study:
    """Rows and runs of some tables.

    Args:
        recipe: a config of setting E, as for train.py.
        names: of the tables.
        seeds: each row is trained with each of them.
        words: key=value, for all rows; a row's own keys go above them.
        folder: of the run folders.

    Raises:
        ValueError: no such table, a word that is no key of a config or that a run has its own of, a table that is none.
    """
    _check_words(names, words)
    _check_tables()
    load = lambda words: config.load(recipe, list(words), ROOT / "configs")  # noqa: E731
    cfg = load(words)
    columns = tables.COLUMNS.get(cfg.name, tables.COLUMNS["vgg2_r34_qgface"])
    words = [*words, *_evaluation(cfg, columns, words)]
    rows, same, own_words = {}, {}, {}
    for table, content in tables.TABLES.items():  # all: a name must not depend on which tables are asked for
        for row, (keys, *_) in content.rows.items():
            own_words[row] = (*words, *(word(key, value) for key, value in keys.items()))
            try:
                name = same.setdefault(json.dumps(load(own_words[row]), sort_keys=True), row)
            except ValueError as error:  # the user's words were right
                raise ValueError(f"configs/tables.py, table {table}, row {row}: {error}") from None
            if table in names:
                rows[table, row] = name
    runs = {}
    for name in dict.fromkeys(rows.values()):
        for seed in seeds:
            place = folder / f"{name}_seed{seed}"
            run_words = (*own_words[name], word("seed", seed), word("output", str(place)))
            runs.setdefault(name, {})[seed] = Run(name, seed, run_words, load(run_words), place)
    return Study({name: tables.TABLES[name] for name in names}, columns, rows, runs)


def _check_words(names: Sequence[str], words: Sequence[str]) -> None:
    for name in names:
        if name not in tables.TABLES:
            known = ", ".join(tables.TABLES)
            raise ValueError(f"tables={name}: {_hint(name, tables.TABLES)}expected some of {known}, as tables=I,II")
    for given in words:
        if (key := given.partition("=")[0]) in OWN:
            raise ValueError(f"{given}: each run has its own {key}; {OWN[key]} says which")


def _check_tables() -> None:
    """A row's name is that of its folders, and no other's; what stands beside it must fit the headings."""
    seen = {}
    for table, content in tables.TABLES.items():
        for row, (_, paper, marks) in content.rows.items():
            where = f"configs/tables.py, table {table}, row {row!r}"
            if row in seen:
                raise ValueError(f"{where}: table {seen[row]} has a row of that name; runs are named so, use another")
            if not row or "/" in row or row.startswith("."):
                raise ValueError(f"{where}: expected a name that a folder may have")
            if len(paper) not in (0, len(tables.PAPER)) or len(marks) != len(content.marks):
                raise ValueError(
                    f"{where}: {len(paper)} numbers and {len(marks)} marks; expected none or {len(tables.PAPER)} "
                    f"numbers, as PAPER, and {len(content.marks)} marks"
                )
            seen[row] = table


def _evaluation(cfg: EasyDict, columns: Sequence[tables.Column], words: Sequence[str]) -> list[str]:
    """The words that have the targets of all columns evaluated, and at the end alone, as the tables need no
    more and IJB-B has a quarter of a million images. The user's words go above.
    """
    needed = [metric.partition("/")[0] for column in columns for metric in column.metrics]
    wanted = {"val_targets": list(dict.fromkeys([*cfg.val_targets, *needed])), "verbose": AT_THE_END}
    given = {given.partition("=")[0] for given in words}
    return [word(key, value) for key, value in wanted.items() if key not in given]


def check(run: Run, data: Mapping[str, object], ranks: int) -> None:
    """See that what is in a run's folder is this very run.

    Args:
        data: what identifies the training faces (train.py's `open_data`).
        ranks: processes of a run.

    Raises:
        ValueError: it is another one, or no config can be read there.
    """
    path = run.folder / "config.json"
    if not path.exists():
        return
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        wrong = resume.differences(saved, run.cfg)
        wanted = run.cfg.total_batch_size or run.cfg.batch_size * ranks
        now = {"total_batch_size": wanted, "num_classes": data["identities"], "num_image": data["images"]}
        now |= {"max_step": run.cfg.max_step} if run.ended else {}
        now |= {"pretrained": run.cfg.pretrained}  # a run that goes on has its own weights, but began with these
        wrong += [f"{key}={saved[key]!r}, now {value!r}" for key, value in now.items() if saved[key] != value]
    except (ValueError, LookupError, TypeError):
        raise ValueError(f"{path} is no config of a run: remove the folder, or --output names another") from None
    seen = run.state().get("data", data)
    wrong += [f"{key} {seen.get(key)!r}, now {data[key]!r}" for key in data if not wrong and seen.get(key) != data[key]]
    if wrong:
        raise ValueError(f"{run.folder} is another run: {'; '.join(wrong)}; --output names a folder for these")


def steps_per_epoch(cfg: EasyDict, images: int, ranks: int) -> int:
    """Optimizer steps that train.py makes of an epoch.

    Raises:
        ValueError: a batch is larger than the data.
    """
    pairs = cfg.total_batch_size or cfg.batch_size * ranks
    return GlobalBatchSampler(images, pairs, cfg.seed, 0, ranks).steps_per_epoch // cfg.gradient_acc


def check_method(run: Run, images: int, ranks: int) -> None:
    """See that a run could be trained, without training it: that its keys go together, and make a step.

    Raises:
        ValueError: they do not; names the row.
    """
    try:
        make_objective(run.cfg, FEW, parallel.World(0, 1, 0, torch.device("cpu")))
        make_schedule(run.cfg, steps_per_epoch(run.cfg, images, ranks))
    except ValueError as error:
        raise ValueError(f"row {run.name}: {error}") from None


def _hint(name: str, known) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}? " if near else ""
