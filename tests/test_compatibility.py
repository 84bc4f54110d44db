"""Checkpoints of earlier versions load, for ever.

Once a folder tests/fixtures/checkpoint_format_* is committed, neither it nor what is expected of it changes: users have
such files. Where a change breaks these tests, the code must learn to read the old file; a new format gets a folder of
its own beside the old one (tests/make_checkpoint.py makes it).
"""

import json
from pathlib import Path

import pytest

from recognition.guard import Guard
from tests import gloo, make_checkpoint
from utils import resume
from utils.checkpoint import FORMAT, Checkpoint, check, every
from utils.log import Means

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("checkpoint_format_*"))
RANKS = (1, 2, 3)


@pytest.fixture(scope="module")
def gone_on():
    """(folder, ranks) -> what each rank tells that has loaded its checkpoint and gone on."""
    made = {}

    def get(folder: Path, ranks: int) -> list[dict]:
        if (folder, ranks) not in made:
            (path,) = every(folder)
            made[folder, ranks] = gloo.run(ranks, make_checkpoint.go_on, path)
        return made[folder, ranks]

    return get


def expected(folder: Path) -> dict:
    return json.loads((folder / "expected.json").read_text())


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("folder", FIXTURES, ids=lambda folder: folder.name)
def test_every_tensor_comes_back_on_any_number_of_ranks(gone_on, folder, ranks):
    answers = gone_on(folder, ranks)
    shards = [answer["tensors"][1] for answer in answers]
    for answer in answers:
        assert make_checkpoint.sums(answer["tensors"][0], shards) == expected(folder)["sums"]


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("folder", FIXTURES, ids=lambda folder: folder.name)
def test_further_steps_are_those_of_the_run_that_saved(gone_on, folder, ranks):
    """The second step feels what the first made of momentum, queue and statistics. Sums in float64 round to 1e-16."""
    for answer in gone_on(folder, ranks):
        assert answer["losses"] == pytest.approx(expected(folder)["losses"], rel=1e-12)


@pytest.mark.parametrize("folder", FIXTURES, ids=lambda folder: folder.name)
def test_it_is_found_whole_and_its_state_is_taken(folder):
    (path,) = every(folder)
    assert check(path) == []
    saved = resume.find(folder, "auto", print)
    assert (saved.path, saved.step, len(saved.shards)) == (path, make_checkpoint.STEPS, make_checkpoint.RANKS)
    parts = {"means": Means(), "guard": Guard([], str)}
    for name, part in parts.items():
        part.load_state_dict(saved.state["parts"][name])
        assert part.state_dict() == saved.state["parts"][name]
    assert parts["means"].state_dict() == {"sums": [0.1, 0.2, 0.3, 0.4], "count": 3}
    config = saved.state["config"]
    assert resume.differences(config, config) == [] and resume.images_a_step(config, config, 3) == make_checkpoint.P
    assert {"number", "images", "data", "last_step", "code", "torch", "damaged"} < saved.state.keys()


def test_the_newest_fixture_is_what_this_version_writes(tmp_path):
    """Another content needs another number and a fixture of its own."""
    make_checkpoint.main(tmp_path / "made")
    (kept,), (made,) = every(FIXTURES[-1]), every(tmp_path / "made")
    assert described(made) == described(kept) and FIXTURES[-1].name == f"checkpoint_format_{FORMAT}"


def described(path: Path) -> tuple[dict, set[str]]:
    """Names, shapes and types of all tensors, and the keys of state.json."""
    saved = Checkpoint(path)
    files = {"shared": saved.shared} | dict(enumerate(saved.shards))
    names = [(where, name) for where, file in files.items() for name in file.names()]
    tensors = {(where, name): (files[where].shape(name), files[where][name].dtype) for where, name in names}
    return tensors, {*saved.state, *saved.state["parts"]}
