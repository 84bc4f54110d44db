"""utils.scratch: a temporary folder goes with its process, at the latest when the next one starts."""

import signal
import subprocess
import sys
import tempfile

import pytest

from tests.conftest import ROOT
from utils.scratch import scratch

HOLDS = """
import time
from utils.scratch import scratch
with scratch("ours-") as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_goes_with_the_block_even_after_an_error(temporary):
    with pytest.raises(ZeroDivisionError), scratch("ours-") as folder:
        assert folder.is_dir() and folder.parent == temporary
        raise ZeroDivisionError
    assert not list(temporary.iterdir())


def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(temporary):
    environment = {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    process = subprocess.Popen([sys.executable, "-c", HOLDS], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        held = process.stdout.readline().strip()
        (temporary / "other").mkdir()
        with scratch("ours-") as folder:
            assert {str(path) for path in temporary.iterdir()} == {held, str(folder), str(temporary / "other")}
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    assert held in map(str, temporary.iterdir())
    with scratch("ours-") as folder:
        assert {path.name for path in temporary.iterdir()} == {folder.name, "other"}
