"""The commands that a reader of README.md, CONTRIBUTING.md and docs/*.md may type."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *sorted((ROOT / "docs").glob("*.md"))]
OURS = re.compile(
    r'(["\'`]?)((?:\b[A-Z_]+=\S+ +)*'  # variables
    r"(?:\./run\.sh|python3? -m \w[\w.]*|(?<![\w/.])qgface(?= [a-z-]))"
    r'(?= |$|["\'`]).*)'
)
OTHERS = re.compile(
    r"(?:[A-Z_]+=\S+ +)*(?:python3?|pip3?|docker|srun|sbatch|kubectl|tensorboard|source|git|apt|conda|torchrun|cd) .*"
)
COMMENT = re.compile(r" {3,}.*| +# .*")  # of a line in a document
ASSIGNMENT = re.compile(r"([A-Za-z]\w*)=(\"[^\"]*\"|'[^']*'|[^\s'\"]+)")
SHELL = ("", "bash", "sh", "shell", "console")  # languages of a fenced block that is read


class Command(NamedTuple):
    """One command: `text` without its comment, `place` as FILE:LINE, `words` after the variables before them."""

    text: str
    place: str
    variables: dict[str, str]
    words: tuple[str, ...]

    @property
    def document(self) -> str:
        return self.place.partition(":")[0]

    @property
    def is_ours(self) -> bool:
        return OURS.match(" ".join(self.words)) is not None


def every(document: Path) -> list[Command]:
    """Of code blocks and of code in the text, in order."""
    text, found = document.read_text(), []
    prose, blocks = [], []
    for number, line, language in _lines(text):
        if language is None:
            prose.append(line)
        else:
            prose.append("")
            blocks.append((number, line, language))
    assigned = {}
    for number, line, language in _joined(blocks):
        assignment = ASSIGNMENT.fullmatch(line.strip())
        if assignment:
            assigned[assignment[1]] = shlex.split(assignment[2])[0]
        found += _of_line(_expanded(line, assigned), f"{_name(document)}:{number}", language)
    for code in re.finditer(r"(?<!`)`([^`]+)`(?!`)", "\n".join(prose)):
        number = "\n".join(prose).count("\n", 0, code.start()) + 1
        inside = " ".join(code[1].split())
        if OURS.match(inside):
            found += _of_line(inside, f"{_name(document)}:{number}", "text")
    return found


def _name(document: Path) -> str:
    return os.path.relpath(document, ROOT)


def _lines(text: str) -> Iterator[tuple[int, str, str | None]]:
    """Number, line, and the language of the block that it is in: "indented" without a fence, None outside of blocks."""
    language = None
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            language = line.strip("` \n") if language is None else None
        elif language is not None:
            yield number, line, language
        else:
            yield number, line, "indented" if line.startswith("    ") else None


def _joined(lines: list[tuple[int, str, str]]) -> Iterator[tuple[int, str, str]]:
    """Lines that end with a backslash go on in the next one."""
    begun = ""
    for number, line, language in lines:
        if line.rstrip().endswith("\\"):
            begun += line.strip()[:-1]
        else:
            yield number, begun + line.strip(), language
            begun = ""


def _expanded(line: str, assigned: dict[str, str]) -> str:
    """Variables of the block's shell, quoted ones as one word."""
    for name, value in assigned.items():
        line = line.replace(f'"${name}"', shlex.quote(value))
    return Template(line).safe_substitute(assigned) if assigned else line


def _of_line(line: str, place: str, language: str) -> Iterator[Command]:
    line = COMMENT.sub("", line.strip())
    ours = None if line.startswith("docker ") else OURS.search(line)  # an image may be called as the command
    if ours is not None and language in (*SHELL, "indented", "text"):
        text = ours[2].partition(ours[1])[0] if ours[1] else ours[2]
    elif language in SHELL or (language == "indented" and OTHERS.fullmatch(line)):
        text = line
    else:
        return
    words = shlex.split(_braces(text.removesuffix('"]')))
    count = next((at for at, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), len(words))
    if words[count:]:
        text = shlex.join(words)
        yield Command(text, place, dict(word.split("=", 1) for word in words[:count]), tuple(words[count:]))


def _braces(text: str) -> str:
    """`a/{b,c}` as bash expands it."""
    words = []
    for word in text.split():
        inside = re.search(r"\{(\w+(?:,\w+)+)\}", word)
        words += [word] if inside is None else [word.replace(inside[0], part) for part in inside[1].split(",")]
    return " ".join(words)
