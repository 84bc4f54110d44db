"""A training whose machines leave and come back: two `run.sh` on this one, one of which is killed and returns."""

import shutil
import time

import pytest

from tests import faces
from tests.conftest import ROOT
from tests.test_elastic import Machine, begin, read, wait_for
from tests.test_resume import WORDS, assert_ended_alike, cut, run
from tests.test_resume import log as log_of
from tests.test_run_sh import free_port
from utils.checkpoint import Checkpoint, every

pytestmark = pytest.mark.slow

STEPS = 70
EPOCHS = [f"num_epoch={STEPS // 7}", "keep_checkpoints=999", "pool=proxy"]

# train.py with steps that take their time, which writes down how many processes there are.
SLOW = """
import json, os, sys, time
sys.path.insert(0, {root!r})
import train
from utils.cli import user_errors

facts = {{name: int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")}}
with open({log!r}, "a") as log:
    print(json.dumps(facts | {{"pid": os.getpid(), "launcher": os.getppid()}}), file=log, flush=True)
normalise = train.normalise

def slowly(*arguments):
    time.sleep(0.1)
    return normalise(*arguments)

train.normalise = slowly
with user_errors():
    sys.exit(train.main(sys.argv[1:]))
"""


@pytest.fixture
def data(tmp_path):
    return faces.write_run(tmp_path / "faces")


@pytest.fixture
def machines(data, tmp_path):
    project, log = tmp_path / "project", tmp_path / "log"
    project.mkdir()
    shutil.copy(ROOT / "run.sh", project)
    for name in ("utils", "requirements.txt"):
        (project / name).symlink_to(ROOT / name)
    (project / "train.py").write_text(SLOW.format(root=str(ROOT), log=str(log)))
    words = [str(data / "run.py"), f"rec={data}", f"output={tmp_path / 'run'}", *WORDS, *EPOCHS]
    variables = {"NNODES": "1:2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    pair = [Machine(project, words, log, **variables) for _ in range(2)]
    yield pair
    for machine in pair:
        if machine.process and machine.process.poll() is None:
            machine.process.kill()
            machine.process.communicate()


def wait_for_checkpoint(folder, ranks: int, seconds: float = 60) -> Checkpoint:
    """One that so many ranks saved, as the newest."""
    deadline = time.time() + seconds
    while time.time() < deadline:
        found = every(folder)
        if found and (newest := Checkpoint(found[-1])).state["ranks"] == ranks:
            return newest
        time.sleep(0.1)
    raise AssertionError(f"no checkpoint of {ranks} ranks")


def test_the_run_goes_on_with_whoever_is_there_and_nothing_is_lost(data, machines, tmp_path):
    checkpoints, log = tmp_path / "run" / "checkpoints", machines[0].log
    begin(machines)
    killed_at = wait_for_checkpoint(checkpoints, 2).step
    machines[1].kill()
    assert wait_for(log, len(read(log)), 1) == [1]
    alone = wait_for_checkpoint(checkpoints, 1).step
    known = len(read(log))
    machines[1].start()
    assert sorted(wait_for(log, known, 2)) == [0, 1]
    for machine in reversed(machines):
        assert machine.end(90)[0] == 0
    assert alone > killed_at
    saved = [Checkpoint(path).state["ranks"] for path in every(checkpoints)]
    changes = [ranks for before, ranks in zip([0, *saved], saved, strict=False) if ranks != before]
    assert changes == [2, 1, 2] and len(saved) == STEPS
    assert [line["step"] for line in log_of(tmp_path / "run") if "lr" in line] == list(range(2, STEPS + 1, 2))
    turn = max(step for step, ranks in enumerate(saved, 1) if ranks == 1)
    cut(tmp_path / "run", tmp_path / "again", turn)
    run(2, data, tmp_path / "again", *EPOCHS, columns=None)
    assert_ended_alike(tmp_path / "again", tmp_path / "run", exact=True)
