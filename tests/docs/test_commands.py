"""Every command of README.md, CONTRIBUTING.md and docs/*.md: run on small data, or read by its parser (how.py)."""

import argparse
import importlib
import inspect
import os
import re
import shutil
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests import ranks
from tests.docs import commands, how, place
from utils import config

ROOT = commands.ROOT
ALL = [command for document in commands.DOCUMENTS for command in commands.every(document)]


def is_a_name(command: commands.Command) -> bool:
    """A command that is spoken of, without what it takes."""
    return command.is_ours and (command.words[:2] == ("python", "-m") and len(command.words) == 3
                                or command.words[0] == "qgface" and len(command.words) == 2)  # fmt: skip


MENTIONED = [command for command in ALL if is_a_name(command)]
TYPED = list({(c.document == "docs/results.md", c.text): c for c in ALL if c not in MENTIONED}.values())


def shown(command: commands.Command) -> str:
    return f"{command.place}-{command.text}"[:120]


def found(table: dict, command: commands.Command) -> str | None:
    """The first pattern of the table that fits; one that begins with a document's name is of that document alone."""
    words = " ".join(command.words)
    for pattern in table:
        document, colon, rest = pattern.partition(": ")
        if pattern == command.document or (colon and document == command.document and fnmatchcase(words, rest)):
            return pattern
        if not colon and fnmatchcase(words, pattern):
            return pattern
    return None


def kind(command: commands.Command) -> tuple[str, str] | None:
    """(table, pattern)."""
    for name in ("NOT_STARTED", "PARSED", "RUN"):
        pattern = found(getattr(how, name), command)
        if pattern is not None:
            return name, pattern
    return None


def of_kind(name: str) -> list:
    return [pytest.param(c, id=shown(c)) for c in TYPED if (kind(c) or ("", ""))[0] == name]


def entry(command: commands.Command):
    """The `main` behind the words, and the words that it gets."""
    program, *words = command.words
    if program == "qgface":
        module, words = importlib.import_module("qgface").COMMANDS[words[0]], words[1:]
    elif program == "./run.sh":
        module, words = ("eval", words[1:]) if words[0] == "eval" else ("train", words)
    else:
        module, words = words[1], words[2:]
    path = ROOT.joinpath(*module.split("."))
    return importlib.import_module(f"{module}.__main__" if path.is_dir() else module), words


def meant(words: list[str]) -> list[str]:
    """Words for the reader's own things, and places of another machine, as those of the small folder."""
    for name, value in place.MEANINGS.items():
        words = [re.sub(rf"(?<![A-Z]){name}(?![A-Z])", value, word) for word in words]
    words = [word.replace("CHECKPOINT_2", "work_dirs/demo/checkpoints/step_00000002") for word in words]
    return [re.sub(r"(?<![\w.])(?:/|\.\./shared/)data(?![\w])", "data", word) for word in words]


def call(main, words: list[str]) -> int:
    """What the command ends with; some mains also take the environment."""
    takes_environment = len(inspect.signature(main).parameters) > 1
    return (main(words, os.environ) if takes_environment else main(words)) or 0


class Parsed(Exception):
    """The parser has taken all words."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("reader") / "whole"
    root.mkdir()
    place.make(root, ROOT)
    return root


@pytest.fixture
def here(whole, tmp_path, monkeypatch):
    """The reader's folder, new for each command."""
    shutil.copytree(whole, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_every_command_is_known():
    unknown = [shown(command) for command in TYPED if kind(command) is None]
    assert not unknown, "tests/docs/how.py says nothing of them"


def test_nothing_is_listed_that_no_document_has():
    used = {kind(command) for command in TYPED}
    listed = {(name, pattern) for name in ("NOT_STARTED", "PARSED", "RUN") for pattern in getattr(how, name)}
    assert listed <= used


DOCUMENT = """Type `NPROC=2 ./run.sh demo` or
`python -m
tools.nothing here`, and `eval.py` is no command.

```bash
python -m tools.pack a \\
    b --output c     # a comment
frobnicate --all
```

    base="./run.sh demo rec=x"
    $base 'lr_milestones=(3,4)' output=runs/{a,b}       what it is for
    sbatch job.sh
    a folder/            of files

```python
python = "./run.sh never"
```
"""


def test_commands_are_found_wherever_they_stand(tmp_path):
    (tmp_path / "page.md").write_text(DOCUMENT)
    found = {" ".join(c.words): c.variables for c in commands.every(tmp_path / "page.md")}
    assert found == {
        "./run.sh demo": {"NPROC": "2"},
        "python -m tools.nothing here": {},
        "python -m tools.pack a b --output c": {},
        "frobnicate --all": {},
        "./run.sh demo rec=x": {},
        "./run.sh demo rec=x lr_milestones=(3,4) output=runs/a output=runs/b": {},
        "sbatch job.sh": {},
    }
    unknown = [c.words[0] for c in commands.every(tmp_path / "page.md") if kind(c) is None]
    assert unknown == ["frobnicate", "python"]


@pytest.mark.parametrize("command", [pytest.param(c, id=shown(c)) for c in MENTIONED])
def test_what_is_mentioned_without_words_is_there(command):
    if "NAME" not in command.text and command.words[-1] not in ("pytest", "--help"):
        assert entry(command)[0].main


@pytest.mark.parametrize("command", [pytest.param(c, id=shown(c)) for c in TYPED if c.variables])
def test_variables_are_those_of_the_launcher(command):
    known = (ROOT / "run.sh").read_text() + "".join(path.read_text() for path in (ROOT / "utils").rglob("*.py"))
    assert not [name for name in command.variables if not re.search(rf"\b{name}\b", known)]


@pytest.mark.parametrize("command", of_kind("PARSED"))
def test_words_are_understood(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module, words = entry(command)
    words = meant([word for word in words if word not in ("key=value", "...")])
    if module.__name__ == "train":
        assert config.load(words[0].removeprefix("configs/"), words[1:], ROOT / "configs")
        return
    for name in ("parse_args", "parse_intermixed_args"):
        parse = getattr(argparse.ArgumentParser, name)

        def parsed(*arguments, parse=parse, **options):
            parse(*arguments, **options)
            raise Parsed

        monkeypatch.setattr(argparse.ArgumentParser, name, parsed)
    with pytest.raises(Parsed):
        call(module.main, words)


@pytest.mark.parametrize("command", of_kind("RUN"))
def test_it_runs(command, here, capsys):
    module, words = entry(command)
    words = [*meant([word for word in words if word not in ("key=value", "...")]), *how.RUN[kind(command)[1]]]
    if "--report" in words:
        words = [word for word in words if word != "--dry-run"]
    for option in {"--output", "--to"} & set(words):  # what is there would not be replaced
        target = Path(words[words.index(option) + 1])
        shutil.rmtree(target, ignore_errors=True) if target.is_dir() else target.unlink(missing_ok=True)
    if module.__name__ == "train":
        ranks.train([*words, *([] if any(word.startswith("rec=") for word in words) else ["rec=data/demo"])])
    else:
        assert call(module.main, words) in (0, 1)  # 1: a tool found what it looks for
    assert capsys.readouterr().out.strip()
