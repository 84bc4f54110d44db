"""Fixtures that several test files use."""

import signal
from pathlib import Path

import pytest
import torch

from tests import shapes

shapes.install()  # before anything of `recognition` is imported
torch.set_num_threads(1)  # several processes share the cores of a small machine

ROOT = Path(__file__).resolve().parents[1]


def usual_signals() -> None:
    """For `preexec_fn`: what is started under nohup, or in the background of a script, would pass over these."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def is_running(pid: int | str) -> bool:
    """Not ended, nor a zombie; it may end while this looks."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: not any(mark.kwargs.get("longest") for mark in item.iter_markers("slow")))
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real faces beside the checkout (never part of it)."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real faces beside the checkout")
    return folder


@pytest.fixture(scope="session", autouse=True)
def end_process_groups():
    yield
    from tests import gloo

    gloo.close()
