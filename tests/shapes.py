"""Tensors have the shapes that their names tell: `u_BD` is (B, D), and within a call B is one number.

`recognition` writes the dimensions of a tensor into its name, not into annotations. Here they are read from there:
while tests run, each argument and each local variable with such a name is checked by jaxtyping. The package itself
knows nothing of it.
"""

import ast
import functools
import importlib.abc
import importlib.machinery
import re
import sys

import numpy as np
import torch
from jaxtyping import Shaped, jaxtyped

PACKAGE = "recognition."
NAME = re.compile(r"[A-Za-z]\w*_([A-Zbcp]{1,3})")  # what a name says: one letter for each dimension
CHECK, CALL = "_check_shape", "_one_call"  # what the checked modules call


def install() -> None:
    """Check what is imported from now on."""
    sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if not fullname.startswith(PACKAGE):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(fullname, spec.origin)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def path_stats(self, path):
        raise OSError  # what is compiled here is not kept for the runs that check nothing

    def source_to_code(self, data, path, **options):
        tree = ast.fix_missing_locations(_Checks().visit(ast.parse(data, path)))
        return super().source_to_code(tree, path, **options)

    def exec_module(self, module):
        vars(module).update({CHECK: _check, CALL: jaxtyped(typechecker=None)})
        super().exec_module(module)


class _Checks(ast.NodeTransformer):
    """A check after each assignment to such a name, and at the head of a function for its arguments."""

    def visit_FunctionDef(self, node):
        if any(isinstance(inner, (ast.Yield, ast.YieldFrom)) for inner in ast.walk(node)):
            return node  # a generator's body runs within the calls of others
        before = ast.dump(node)
        self.generic_visit(node)
        first = 0 if ast.get_docstring(node) is None else 1
        node.body[first:first] = _checks(node, [argument.arg for argument in node.args.args + node.args.kwonlyargs])
        if ast.dump(node) != before:
            node.decorator_list.append(ast.Name(CALL, ast.Load()))
        return node

    def visit_Assign(self, node):
        targets = [name for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)]
        return [node, *_checks(node, [name.id for name in targets if isinstance(name.ctx, ast.Store)])]


def _checks(at: ast.AST, names: list[str]) -> list[ast.stmt]:
    checks = [ast.parse(f"{CHECK}({name!r}, {name})").body[0] for name in names if NAME.fullmatch(name)]
    for node in (node for check in checks for node in ast.walk(check)):
        ast.copy_location(node, at)
    return checks


def _check(name: str, value: object) -> None:
    kind = next((kind for kind in (torch.Tensor, np.ndarray) if isinstance(value, kind)), None)
    if kind is not None and not isinstance(value, _expected(kind, name)):
        raise AssertionError(f"{name} has shape {tuple(value.shape)}, which its name, or another of this call, denies")


@functools.cache
def _expected(kind: type, name: str) -> type:
    dimensions = NAME.fullmatch(name)[1].replace("c", "_")  # blocks differ in length
    return Shaped[kind, " ".join(dimensions)]
