"""The command `qgface`: training, evaluation and every tool by one name; `python -m qgface` in a checkout.

Only the standard library until a command is chosen: `qgface --help` imports no torch.
"""

import ast
import difflib
import importlib
import sys
from pathlib import Path

__version__ = "0.8.0"

ROOT = Path(__file__).resolve().parent
COMMANDS = {  # what a user types -> the module whose main(words) does it
    "train": "train",
    "eval": "eval",
    "report": "eval.report",
    "ijb-11": "eval.ijb_11",
    "ijb-1n": "eval.ijb_1n",
    "doctor": "utils.machine",
    "data-doctor": "tools.doctor",
    "encode": "tools.encode",
    "compare": "tools.compare",
    "search": "tools.search",
    "export": "tools.export",
    "pack": "tools.pack",
    "unpack": "tools.unpack",
    "bin": "tools.bin",
    "inspect": "tools.inspect",
    "plan": "tools.plan",
    "checkpoint": "tools.checkpoint",
    "ablation": "tools.ablation",
    "figures": "tools.figures",
    "bench": "tools.bench",
    "soak": "tools.soak",
}
HELP = ("-h", "--help", "help")


def main(words: list[str] | None = None) -> int:
    """Hand the words after the first to the command that it names; returns the exit code."""
    words = sys.argv[1:] if words is None else words
    if not words or words[0] in HELP:
        print(overview())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"qgface {__version__}")
        return 0
    name, rest = words[0], words[1:]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(COMMANDS)}"
        print(f"error: no command {name!r}: {hint}", file=sys.stderr)
        return 2
    if name == "doctor":  # has to work where packages are missing
        return importlib.import_module("utils.machine.__main__").main(rest)
    if name == "train" and not set(rest) & set(HELP):
        return importlib.import_module("utils.start").main(str(ROOT / "train.py"), rest)
    return run(name, rest)


def run(name: str, words: list[str]) -> int:
    """Call the command's main in this process, as `python -m` does."""
    try:
        from utils.cli import user_errors

        module = importlib.import_module(entry(COMMANDS[name])[0])
    except ModuleNotFoundError as error:
        extra = "pip install 'qgface[test]' adds what benchmarks compare with; `qgface doctor` checks all packages"
        print(f"error: qgface {name} needs {error.name}, which is not installed: {extra}", file=sys.stderr)
        return 2
    with user_errors():
        return module.main(words) or 0


def entry(module: str) -> tuple[str, Path]:
    """The module that holds main, and its file: a package's is its __main__."""
    path = ROOT.joinpath(*module.split("."))
    return (f"{module}.__main__", path / "__main__.py") if path.is_dir() else (module, path.with_suffix(".py"))


def overview() -> str:
    """What `qgface --help` prints: each command with the first line of its module."""
    lines = [f"  {name:<12} {_first_line(entry(module)[1])}" for name, module in COMMANDS.items()]
    return "\n".join([
        "usage: qgface COMMAND ...",
        "       qgface COMMAND --help",
        "       qgface --version",
        "",
        "Face recognition for images of mixed quality: train, evaluate, prepare data.",
        "",
        "    qgface train demo",
        "    qgface eval work_dirs/demo/model.pt --data data/demo --target demo demo_lq",
        "",
        "commands:",
        *lines,
    ])  # fmt: skip


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
