"""The check that `tests/shapes.py` adds to the package's tensors."""

import sys
import textwrap

import pytest
import torch

from tests import shapes

PLAIN = '''
    """A module."""

    def product(u_BD, w_MD):
        """(B, M)."""
        cos_BM = u_BD @ w_MD.t()
        def half(cos_BM):
            return cos_BM / 2
        return half(cos_BM[:1])

    def rebound(u_BD):
        u_BD = u_BD[1:]

    def blocks(cos_Bc):
        for width in (1, 2):
            cos_Bc = cos_Bc[:, :width]

    def turned(u_BD):
        cos_DB = (u_BD * 1, None)[0]

    def items(u_BD):
        u_BD = u_BD[1:]
        yield len(u_BD)
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """`PLAIN` as a module whose shapes are checked."""
    (tmp_path / "recognition_shapes_example.py").write_text(textwrap.dedent(PLAIN))
    monkeypatch.setattr(shapes, "PACKAGE", "recognition_shapes_")
    monkeypatch.syspath_prepend(tmp_path)
    import recognition_shapes_example

    yield recognition_shapes_example
    del sys.modules["recognition_shapes_example"]
    assert not list(tmp_path.rglob("*.pyc"))  # nobody else meets what was compiled here


def test_shapes_as_the_names_tell_pass(module):
    assert module.product(torch.ones(3, 4), torch.ones(5, 4)).shape == (1, 5)
    assert module.product.__doc__ == "(B, M)."  # calls of others are other calls
    module.blocks(torch.ones(3, 4))
    assert list(module.items(torch.ones(3, 4))) == [2]
    module.rebound("no tensor")


@pytest.mark.parametrize(
    ("name", "shapes"),
    [("product", [(3, 4), (5, 6)]), ("product", [(3, 4, 1), (5, 4)]), ("rebound", [(3, 4)]), ("turned", [(3, 4)])],
)
def test_others_are_refused(module, name, shapes):
    with pytest.raises(AssertionError, match=r"^\w+ has shape \(.*\), which its name, or another of this call, denies"):
        getattr(module, name)(*map(torch.ones, shapes))


def test_the_package_is_checked():
    from recognition.margins import adaface

    with pytest.raises(AssertionError, match="z_hat_B has shape"):
        adaface(torch.zeros(3), torch.zeros(1))
