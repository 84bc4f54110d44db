"""Write the reference of the public interface from the docstrings, docs/api.md.

    python -m tools.reference

The code is read, not imported; what is public is what CONTENTS lists.
"""

import argparse
import ast
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

from utils.cli import Parser, user_errors
from utils.files import replacing
from utils.project import ROOT

CONTENTS = {  # heading -> module -> names, in the order of the page
    "Models and features": {
        "recognition.encoder": ("FaceEncoder", "Batch", "Unusable"),
        "recognition.models.model": ("open_model", "Model"),
        "recognition.models.files": ("read_tensors", "save_model"),
        "recognition.embedder": ("Embedder",),
        "recognition.backbones": ("get_backbone", "names"),
    },
    "Images": {
        "utils.align": ("align", "similarity"),
        "utils.landmarks": ("read_landmarks",),
        "utils.jpeg": ("decode", "encode", "check"),
        "utils.bins": ("write_bin",),
        "eval.bins": ("load_bin",),
    },
    "Training data": {
        "recognition.data.sources": ("open_source",),
        "recognition.data.augment": ("Augment", "Parameters"),
    },
    "The method": {
        "recognition.objective": ("Objective",),
        "recognition.quality": ("NormStatistics", "partition"),
        "recognition.margins": ("make_margin", "Margin", "combined", "adaface", "magface"),
        "recognition.head": ("ClassShard",),
        "recognition.pools": ("make_pool", "BatchPool", "MomentumQueue", "ProxyQueue"),
        "recognition.pool": ("Pool",),
        "recognition.queue": ("Queue",),
        "recognition.contrast": ("contrastive_loss",),
    },
    "Evaluation": {
        "eval.protocol": ("evaluate", "Target", "Result"),
        "eval.targets": ("open_targets", "Opened", "everything"),
        "eval.features": ("extract", "Images", "Features"),
        "eval.embed": ("fused",),
        "eval.verification": ("Verification",),
        "eval.scface": ("SCface", "open_scface"),
        "eval.tinyface": ("TinyFace", "open_tinyface"),
        "eval.ijb.target": ("IJB",),
        "eval.cross_resolution": ("CrossResolution",),
        "eval.surveillance": ("Surveillance",),
        "eval.identification": ("search", "Search", "cmc"),
        "eval.metrics": ("fold_accuracies", "tar_at_far"),
        "eval.roc": ("insightface_tar", "strict_tar", "roc_points"),
        "eval.confidence": ("interval", "mean_replicates", "p_value", "mcnemar"),
    },
    "Configs": {"utils.config": ("load",)},
}
SECTIONS = ("Args", "Returns", "Raises", "Attributes", "Yields")
HEAD = """# Reference

The public interface, written by `python -m tools.reference` from the docstrings. The rest may change at any time.
"""


class Entry(NamedTuple):
    """A class, function or method: its name, what is called, its docstring or None."""

    name: str
    call: str
    doc: str | None
    methods: tuple["Entry", ...] = ()


def main(words: list[str]) -> None:
    """Write the page."""
    options = _options(words)
    with replacing(options.output) as beside:
        beside.write_text(page())
    print(f"{options.output}  {sum(len(names) for part in CONTENTS.values() for names in part.values())} names")


def _options(words: list[str]) -> argparse.Namespace:
    parser = Parser("python -m tools.reference", __doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "api.md", help="default: docs/api.md")
    return parser.parse_args(words)


def page() -> str:
    """The whole reference as Markdown.

    Raises:
        ValueError: a name of CONTENTS is not in its module.
    """
    parts = [HEAD]
    for heading, modules in CONTENTS.items():
        parts.append(f"## {heading}\n")
        for module in modules:
            found = entries(module)
            for name in modules[module]:
                if name not in found:
                    raise ValueError(f"{module} has no {name}: expected one of {', '.join(found)}")
                parts.append(_shown(found[name], module))
    return "\n".join(parts)


def entries(module: str) -> dict[str, Entry]:
    """The classes and functions of a module by name."""
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    nodes = ast.parse(path.read_text()).body
    kinds = (ast.ClassDef, ast.FunctionDef)
    return {node.name: _entry(node) for node in nodes if isinstance(node, kinds)}


def _entry(node: ast.ClassDef | ast.FunctionDef) -> Entry:
    if isinstance(node, ast.FunctionDef):
        return Entry(node.name, _call(node), ast.get_docstring(node))
    functions = {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}
    shown = [f for name, f in functions.items() if not name.startswith("_") or name == "__call__"]
    call = _call(functions["__init__"], node.name) if "__init__" in functions else f"{node.name}({_fields(node)})"
    return Entry(node.name, call, ast.get_docstring(node), tuple(_entry(f) for f in shown if ast.get_docstring(f)))


def _call(node: ast.FunctionDef, name: str | None = None) -> str:
    """`name(arguments) -> result`, without `self`; of a constructor under the class's name."""
    arguments = re.sub(r"^(?:self|cls)(?:, )?", "", ast.unparse(node.args))
    if any(isinstance(part, ast.Name) and part.id == "property" for part in node.decorator_list):
        arguments = None
    result = f" -> {ast.unparse(node.returns)}" if node.returns is not None and name is None else ""
    return f"{name or node.name}{'' if arguments is None else f'({arguments})'}{result}"


def _fields(node: ast.ClassDef) -> str:
    """Of a NamedTuple or dataclass."""
    return ", ".join(ast.unparse(part) for part in node.body if isinstance(part, ast.AnnAssign))


def _shown(entry: Entry, module: str) -> str:
    place = f"from {_home(module, entry.name)} import {entry.name}"
    text = f"### {entry.name}\n\n`{place}`\n\n```python\n{entry.call}\n```\n\n{_markdown(entry.doc or '')}"
    for method in entry.methods:
        text += f"\n**`{method.call}`**\n\n{_markdown(method.doc)}"
    return text


def _home(module: str, name: str) -> str:
    """Where a user imports it from: the package, if that has it too."""
    package = module.rpartition(".")[0]
    exports = (ROOT.joinpath(*package.split(".")) / "__init__.py").read_text()
    return package if re.search(rf"^\s*from {re.escape(module)} import .*\b{name}\b", exports, re.M) else module


def _markdown(doc: str) -> str:
    """A docstring's paragraphs as they are, its sections as lists."""
    out = []
    for block in re.split(r"\n\s*\n", doc):
        head, _, rest = block.partition("\n")
        if head.rstrip(":") not in SECTIONS:
            out.append(inspect.cleandoc(block) + "\n")
            continue
        lines = [f"{head}\n"]
        for item in re.split(r"\n(?=\S)", textwrap.dedent(rest)):
            name, colon, meaning = " ".join(item.split()).partition(": ")
            named = colon and re.fullmatch(r"[\w*., ]{1,60}", name)
            lines.append(f"- `{name}`: {meaning}" if named else f"- {name}{colon}{meaning}")
        out.append("\n".join(lines) + "\n")
    return "\n".join(out)


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
