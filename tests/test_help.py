"""Every command explains itself in one form: `usage:`, a sentence, an example, each option in words."""

import argparse
import importlib
import re

import pytest

import qgface
from tests.conftest import ROOT
from tools.checkpoint.__main__ import _parser as checkpoint_parser
from tools.figures.__main__ import PARTS as FIGURES
from tools.inspect.__main__ import PARTS as SHEETS

SUBCOMMANDS = {
    "tools.figures": [*FIGURES],
    "tools.inspect": [*SHEETS],
    "tools.checkpoint": ["list", "verify", "convert", "prune"],
}
# what people do not start by hand, and the command itself, which lists the others
INNER = {"utils/launch.py", "utils/start.py", "utils/environment.py", "qgface.py", "tools/reference.py"}
CASES = [(name, []) for name in qgface.COMMANDS]
CASES += [(name, [part]) for name, module in qgface.COMMANDS.items() for part in SUBCOMMANDS.get(module, ())]


def explained(monkeypatch, name: str, words: list[str]) -> argparse.ArgumentParser:
    """The parser whose help the command prints."""
    shown = []
    monkeypatch.setattr(argparse.ArgumentParser, "print_help", lambda parser, file=None: shown.append(parser))
    module = importlib.import_module(qgface.entry(qgface.COMMANDS[name])[0])
    with pytest.raises(SystemExit) as ended:
        module.main([*words, "--help"])
    assert not ended.value.code and len(shown) == 1
    return shown[0]


@pytest.mark.parametrize(("name", "words"), CASES, ids=lambda part: part if isinstance(part, str) else "-".join(part))
def test_a_sentence_an_example_and_every_option(monkeypatch, name, words):
    parser = explained(monkeypatch, name, words)
    first, empty, *rest = parser.description.splitlines()
    assert re.fullmatch(r"[A-Z].*\.", first) and "python" not in first and empty == "" and len(first) <= 120
    assert parser.format_help().startswith(f"usage: {parser.prog} ")
    examples = [line for line in rest if line.startswith(("    python ", "    ./run.sh "))]
    assert any(parser.prog in line and not line.endswith(parser.prog) for line in examples)
    assert not [
        action for action in parser._actions if not action.help and action.metavar != "list|verify|convert|prune"
    ]


def test_no_command_is_left_out():
    started = {
        path.relative_to(ROOT).as_posix()
        for part in ("eval", "tools", "utils", "train.py", "qgface.py")
        for path in ([ROOT / part] if part.endswith(".py") else (ROOT / part).rglob("*.py"))
        if 'if __name__ == "__main__":' in path.read_text()
    }
    files = {qgface.entry(module)[1].relative_to(ROOT).as_posix() for module in qgface.COMMANDS.values()}
    assert started - INNER == files


def test_the_subcommands_are_those_that_there_are():
    with pytest.raises(ValueError) as wrong:
        checkpoint_parser().parse_args(["nothing"])
    assert re.findall(r"'?(\w+)'?[,)]", str(wrong.value)) == SUBCOMMANDS["tools.checkpoint"]


def test_the_overview_has_each_command_with_its_sentence(capsys):
    assert qgface.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = dict(line.split(maxsplit=1) for line in lines[lines.index("commands:") + 1 :])
    assert list(shown) == list(qgface.COMMANDS)
    for name, sentence in shown.items():
        module = importlib.import_module(qgface.entry(qgface.COMMANDS[name])[0])
        assert sentence == module.__doc__.splitlines()[0]


def test_a_command_that_there_is_not(capsys):
    assert qgface.main(["evla"]) == 2
    assert capsys.readouterr().err == "error: no command 'evla': did you mean eval?\n"


def test_a_mistake_in_a_command_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        qgface.main(["plan", "dmeo"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: no config 'dmeo': did you mean demo?")


def test_a_package_that_is_missing_is_named(capsys, monkeypatch):
    monkeypatch.setitem(qgface.COMMANDS, "bench", "tests.needs_what_is_not_there")
    assert qgface.main(["bench"]) == 2
    assert "is not installed" in capsys.readouterr().err
