"""docs/api.md is what the docstrings say now, and they say something."""

import ast

import pytest

from tests.docs.commands import ROOT
from tools import reference

LISTED = [(module, name) for part in reference.CONTENTS.values() for module, names in part.items() for name in names]


def test_the_page_is_up_to_date():
    assert (ROOT / "docs" / "api.md").read_text() == reference.page(), "python -m tools.reference writes it anew"


@pytest.mark.parametrize(("module", "name"), LISTED)
def test_what_is_public_says_what_it_takes(module, name):
    """A docstring, which names each argument that the signature does not explain, and says what it raises."""
    entry = reference.entries(module)[name]
    assert entry.doc and len(entry.doc.split()) > 3
    path = ROOT.joinpath(*module.split("."))
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    node = next(node for node in ast.parse(source).body if getattr(node, "name", None) == name)
    own = isinstance(node, ast.FunctionDef) and any(isinstance(part, ast.Raise) for part in ast.walk(node))
    assert not own or "Raises:" in entry.doc or "Raise " in entry.doc


def test_a_name_that_is_not_there(monkeypatch):
    monkeypatch.setattr(reference, "CONTENTS", {"A": {"utils.align": ("algin",)}})
    names = "AlignError, similarity, is_mirrored, align"
    with pytest.raises(ValueError, match=f"utils.align has no algin: expected one of {names}"):
        reference.page()


def test_sections_become_lists():
    doc = "Do.\n\nArgs:\n    a, b: (n, D) float32,\n        of one thing.\n    c: int.\n\nReturns:\n    (n,) bool: yes."
    shown = reference._markdown(doc).splitlines()
    assert shown[0] == "Do." and "- `a, b`: (n, D) float32, of one thing." in shown and "- `c`: int." in shown
    assert "- (n,) bool: yes." in shown
