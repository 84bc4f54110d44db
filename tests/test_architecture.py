"""The map of the project as the code keeps it: who may import whom, who may read configs, argv and the environment."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    p for folder in ("recognition", "eval", "utils", "tools", "configs") for p in (ROOT / folder).rglob("*.py")
)
PEERS = {"tools/bench/checkpoint/formats.py"}  # PyTorch's own checkpoints, which ours are measured against
ENTRY_POINTS = {"eval/__main__.py", "eval/ijb_11.py", "eval/ijb_1n.py", "eval/report/__main__.py"}
# what starts or ends a process has to read its environment or arguments
NAMES = ("agent", "cli", "environment", "launch", "machine/__main__", "parallel", "start", "stop")
PROCESS = {f"utils/{name}.py" for name in NAMES}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def attributes(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {f"{n.value.id}.{n.attr}" for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}


def below(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_arrows(path):
    part, used = name(path).split("/")[0], imports(path)
    ours = {m for m in used if below(m, "recognition", "eval", "utils", "tools", "configs", "train")}
    if name(path) in ENTRY_POINTS or part in ("tools", "configs"):
        return
    allowed = {"recognition": ("recognition", "utils"), "eval": ("eval", "utils"), "utils": ("utils",)}[part]
    assert not [m for m in ours if not below(m, *allowed)]
    for leaf in ("backbones", "data"):
        if name(path).startswith(f"recognition/{leaf}/"):
            assert not [m for m in ours if not below(m, f"recognition.{leaf}", "utils")]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_only_parallel_talks_to_other_processes(path):
    if name(path) not in PROCESS | PEERS:
        assert not [m for m in imports(path) if below(m, "torch.distributed")]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_nothing_below_an_entry_point_reads_configs_arguments_or_the_environment(path):
    part = name(path).split("/")[0]
    if name(path) in ENTRY_POINTS | PROCESS or part in ("tools", "configs"):
        return
    assert not attributes(path) & {"sys.argv", "os.environ", "os.getenv", "sys.path"}
    if name(path) != "utils/config.py":
        assert not [m for m in imports(path) if below(m, "configs", "easydict", "utils.config")]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_devices_are_arguments(path):
    if name(path) != "utils/parallel.py":
        called = {n.func.attr for n in ast.walk(ast.parse(path.read_text()))
                  if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}  # fmt: skip
        assert "cuda" not in called
        assert not attributes(path) & {"torch.cuda"}
