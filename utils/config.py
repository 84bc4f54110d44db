"""Configs in arcface_torch's shape: Python files that fill an EasyDict, `key=value` words on top.

`configs/base.py` names every key; its defaults say the types. What an experiment's file or the command line sets must
be one of those keys and of that type.
"""

import ast
import difflib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from easydict import EasyDict

NO_EXPERIMENTS = ("__init__", "base", "presets", "tables")  # files among the configs


def load(name: str, overrides: list[str], configs: Path) -> EasyDict:
    """The resolved config: base, then the experiment's file, then `key=value` words. A preset stands for its keys where
    it is named, before the other keys there.

    Args:
        name: path of a config file, with or without .py, or the name of one in `configs`.
        overrides: words such as "lr=0.05" or 'val_targets=["lfw"]'; values are Python literals, anything else is text.
        configs: the folder that holds base.py.

    Raises:
        ValueError: no such file, a file that does not define `config`, an unknown key, a value of the wrong type.
    """
    base = _execute(configs / "base.py")
    path = find(name, configs)
    given = getattr(_execute(path), "config", None)
    if not isinstance(given, dict):
        raise ValueError(f"{path}: expected a config file that defines `config = EasyDict()`")
    config = EasyDict(base.config)
    words = {}
    for word in overrides:
        key, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"{word!r} on the command line: expected key=value, for example lr=0.05")
        words[key] = _parse(text)
    for keys, where in ((given, str(path)), (words, "the command line")):
        if keys.get("preset") is not None:
            _set(config, "preset", keys["preset"], base, where)
            keys = _execute(configs / "presets.py").presets[config.preset] | keys
        for key, value in keys.items():
            _set(config, key, value, base, where)
    config.name = path.stem
    return config


def find(name: str, configs: Path) -> Path:
    """The file that a config's name or path means."""
    for candidate in (Path(name), Path(f"{name}.py"), configs / name, configs / f"{name}.py"):
        if candidate.is_file():
            return candidate.resolve()
    known = experiments(configs)
    near = difflib.get_close_matches(Path(name).stem, known, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ValueError(f"no config {name!r}: {hint}expected a file or one of {', '.join(known)}")


def experiments(configs: Path) -> list[str]:
    """The names of the experiments in `configs`."""
    return sorted(p.stem for p in configs.glob("*.py") if p.stem not in NO_EXPERIMENTS)


def _execute(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_config_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    keep, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"config {path} does not run: {type(error).__name__}: {error}") from error
    finally:
        sys.dont_write_bytecode = keep
    return module


def _parse(text: str) -> object:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _set(config: EasyDict, key: str, value: object, base: ModuleType, where: str) -> None:
    if key in base.arcface_only:
        allowed = base.arcface_only[key]
        if allowed is not None and value not in allowed:
            raise ValueError(f"{key}={value!r} in {where}: not supported here; expected {allowed[0]!r}")
        return
    if key not in base.config:
        near = difflib.get_close_matches(key, list(base.config), 1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "configs/base.py lists all keys"
        raise ValueError(f"unknown key {key!r} in {where}: {hint}")
    default = base.config[key]
    types = base.types.get(key, (type(default),))
    config[key] = _convert(key, value, types, where)
    if config[key] is not None:
        _check(key, config[key], base, where)


def _check(key: str, value: Any, base: ModuleType, where: str) -> None:
    """Refuse a value of the right type that makes no sense."""
    if key in base.choices and value not in base.choices[key]:
        near = difflib.get_close_matches(
            str(value), [choice for choice in base.choices[key] if isinstance(choice, str)], 1
        )
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"{key}={value!r} in {where}: {hint}expected one of {', '.join(map(repr, base.choices[key]))}")
    if (key in base.least and not value >= base.least[key]) or (key in base.most and not 0 <= value <= base.most[key]):
        highest = f" and at most {base.most[key]}" if key in base.most else ""
        raise ValueError(f"{key}={value!r} in {where}: expected at least {base.least.get(key, 0)}{highest}")
    if key in base.entries:
        for entry in value:
            _convert(f"{key}={value!r}: entry", entry, (base.entries[key],), where)


def _convert(key: str, value: object, types: tuple[type, ...], where: str) -> object:
    """`value` as one of `types`: an int may stand for a float, a list for a tuple and the other way round."""
    for kind in types:
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if kind in (list, tuple) and isinstance(value, (list, tuple)):
            return kind(value)
    expected = " or ".join("None" if kind is type(None) else kind.__name__ for kind in types)
    raise ValueError(f"{key}={value!r} in {where}: expected {expected}, got {type(value).__name__}")
