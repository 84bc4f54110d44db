"""utils.cli: how a process ends whose peer has failed."""

import os
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT

SCRIPT = """
from utils.cli import user_errors
from utils.stop import Stop
with user_errors():
    stop = Stop()  # SIGTERM is only noted
    print("ready", flush=True)
    raise RuntimeError({said!r})
"""
SAID = [
    "Connection closed by peer [127.0.0.1]:29500",
    "Failed to recv, got 0 bytes. Connection was likely closed. Did the remote server shutdown or crash?",
]


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("times", [1, 2000])
def test_a_process_that_waits_to_be_ended_after_another_failed_ends_at_the_launchers_word(said, times):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT.format(said=said)], env=environment, **pipes)
    assert process.stdout.readline() == "ready\n"
    for _ in range(times):  # wherever it is
        time.sleep(0.5 / times)
        process.terminate()
    _, stderr = process.communicate(timeout=5)
    assert (process.returncode, stderr) == (1, "error: the connection to another process was lost\n")
