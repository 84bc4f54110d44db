"""A process is killed; the same command once more, and the run ends as if nothing had happened."""

import pytest

from tests.faults.conftest import one_error

KILLS = {
    "forward": (1, "forward", 5, [2], [2, 4]),
    "backward": (0, "backward", 5, [2], [2, 4]),
    "half of a rank's file": (1, "half of rank_1.safetensors", 6, [2, 4]),
    "between a rank's file and the note of it": (1, "before rank_1.json", 6, [2, 4]),
    "half of the shared file": (0, "half of shared.safetensors", 6, [2, 4]),
    "between files": (0, "before shared.safetensors", 6, [2, 4]),
    "before the rename": (0, "before the rename", 6, [2, 4]),
    "before pruning": (0, "before pruning", 6, [2, 4, 6]),
    "before model.pt": (0, "before model.pt", 6, [4, 6]),
}
QUICK = ("forward", "half of the shared file", "before pruning")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in KILLS])
def test_a_killed_process_loses_nothing_that_was_saved(trial, reference, name):
    rank, point, step, *kept = KILLS[name]
    done = trial.ends({"at": point, "step": step, "rank": rank, "what": "kill"})
    assert done.returncode == 1, done.stderr
    assert one_error(done) == f"process {rank} ended with signal SIGKILL; the others were stopped"
    assert trial.steps() in kept
    trial.ends_as(reference)
