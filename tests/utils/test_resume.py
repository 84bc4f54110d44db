"""What a run goes on from, and what it refuses to."""

import json

import pytest
import torch

from tests import gloo, ranks
from utils import resume
from utils.checkpoint import CheckpointError, Saver, every
from utils.files import file_digest
from utils.run_folder import RunFolder

CONFIG = {
    "lr": 0.1, "views": ("original",), "num_workers": 2, "batch_size": 8, "total_batch_size": None, "resume": "auto",
    "resume_changes": [], "overwrite": False, "network": "tiny", "output": None, "fp16": False,
}  # fmt: skip
DATA = {"identities": 12, "digest": "abc"}
STATE = {
    "config": {**CONFIG, "total_batch_size": 16}, "data": DATA, "last_step": 100, "number": 1, "damaged": [],
    "parts": {},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A run with checkpoints of steps 10, 20 and 30, of 100."""
    saver = Saver(tmp_path / "checkpoints", keep=9)
    for number in (1, 2, 3):
        saver.save(10 * number, {"a": torch.zeros(5)}, {"b": torch.zeros(5)}, {**STATE, "number": number})
    saver.finish()
    return RunFolder(tmp_path)


def earlier(folder, data=DATA, **changes):
    said = []
    found = resume.earlier(folder, {**CONFIG, **changes}, data, said.append)
    return found, said


def damage(folder, step):
    (folder / "checkpoints" / f"step_{step:08d}" / "shared.safetensors").write_bytes(b"x")


def test_the_newest_checkpoint_is_gone_on_from(folder):
    for word in ("auto", True):
        found, said = earlier(folder, resume=word)
        assert found.checkpoint.step == 30 and found.config["total_batch_size"] == 16 and not said
    assert earlier(folder, resume=False) == ((None, None), [])


def test_a_damaged_one_is_named_and_an_older_one_taken(folder):
    damage(folder, 30)
    found, said = earlier(folder)
    assert found.checkpoint.step == 20
    assert "step_00000030 is damaged (shared.safetensors has 1 bytes, not" in said[0] and "step_00000020" in said[1]
    resume.set_aside(folder / "checkpoints", 20)
    assert [path.name for path in every(folder / "checkpoints")] == ["step_00000010", "step_00000020"]
    assert (folder / "checkpoints" / "step_00000030.damaged" / "state.json").exists()


def test_setting_aside_loses_nothing(folder):
    (folder / "checkpoints" / "step_00000030.damaged").mkdir()
    (folder / "checkpoints" / "step_00000030.damaged_2").mkdir()
    resume.set_aside(folder / "checkpoints", 10)
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    kept = ["step_00000020.damaged", "step_00000030.damaged", "step_00000030.damaged_2", "step_00000030.damaged_3"]
    assert names == ["step_00000010", *kept]


def test_without_a_whole_one_nothing_is_begun(folder):
    for step in (10, 20, 30):
        damage(folder, step)
    for words in ({}, {"overwrite": True}):
        with pytest.raises(CheckpointError, match="no checkpoint in .* is whole: output=FOLDER"):
            earlier(folder, **words)


def test_where_there_is_none_auto_begins_and_true_refuses(tmp_path):
    assert earlier(RunFolder(tmp_path / "none")) == ((None, None), [])
    with pytest.raises(CheckpointError, match="resume=True: no checkpoint in"):
        earlier(RunFolder(tmp_path / "none"), resume=True)


@pytest.mark.parametrize(
    ("changes", "data", "message"),
    [
        ({"lr": 0.2}, DATA, "of another run: lr=0.1, now 0.2; output=FOLDER"),
        ({"lr": 0.2, "fp16": True}, DATA, "lr=0.1, now 0.2, fp16=False, now True"),
        ({}, {**DATA, "digest": "xyz"}, "digest of the data 'abc', now 'xyz'"),
    ],
)
def test_another_run_is_refused_and_named_or_replaced(folder, changes, data, message):
    with pytest.raises(CheckpointError, match=message):
        earlier(folder, data, **changes)
    assert earlier(folder, data, **changes, overwrite=True)[0] == (None, None)
    if data == DATA:
        assert earlier(folder, data, **changes, resume_changes=[*changes])[0].checkpoint.step == 30


def test_what_a_checkpoint_is_made_of_cannot_change(folder):
    with pytest.raises(ValueError, match="resume_changes: network cannot change within a run; output=FOLDER"):
        earlier(folder, network="r50", resume_changes=["lr", "network"])


def test_overwrite_goes_on_with_a_run_that_has_not_ended(folder):
    assert earlier(folder, overwrite=True)[0].checkpoint.step == 30
    state = folder / "checkpoints" / "step_00000030" / "state.json"
    text = state.read_text()
    state.write_text(text.replace('"last_step": 100', '"last_step": 30'))
    damaged, _ = earlier(folder, overwrite=True)
    assert damaged.checkpoint.step == 20  # its digest tells


def test_overwrite_replaces_a_run_of_another_step(folder):
    with pytest.raises(ValueError, match="16 in the run so far, now 8; .*overwrite=True replaces"):
        resume.images_a_step({**CONFIG, "total_batch_size": 8}, earlier(folder, total_batch_size=8)[0].config, 1)
    assert earlier(folder, total_batch_size=8, overwrite=True)[0] == (None, None)


def test_a_run_has_ended_when_its_results_are_written(tmp_path):
    """A run that was stopped in its last evaluation is not replaced: it has to be evaluated, no more."""
    saver, folder = Saver(tmp_path / "checkpoints", keep=9), RunFolder(tmp_path)
    saver.save(100, {"a": torch.zeros(5)}, {"b": torch.zeros(5)}, STATE)
    saver.finish()
    model, results = tmp_path / "model.pt", tmp_path / "results.json"
    for content in (None, "half", "[]", json.dumps({"model_digest": "of an earlier model"})):
        model.write_text("model")
        if content is not None:
            results.write_text(content)
        assert earlier(folder, overwrite=True)[0].checkpoint.step == 100
    results.write_text(json.dumps({"model_digest": file_digest(model)}))
    assert earlier(folder, overwrite=True)[0] == (None, None)
    model.unlink()
    assert earlier(folder, overwrite=True)[0].checkpoint.step == 100


@pytest.mark.parametrize("content", ["3", "[]", "{}", '{"architectures": ["X"]}', '{"total_batch_size": "x"}', "{"])
def test_a_config_of_another_program_is_no_run(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    assert earlier(RunFolder(tmp_path))[0] == (None, None)


@pytest.mark.parametrize("name", STATE)
@pytest.mark.parametrize("value", [None, "text"])
def test_a_checkpoint_of_another_program_is_refused(tmp_path, name, value):
    saver = Saver(tmp_path / "checkpoints", keep=9)
    state = {**STATE, name: value} if value else {key: known for key, known in STATE.items() if key != name}
    saver.save(10, {"a": torch.zeros(5)}, {"b": torch.zeros(5)}, state)
    saver.finish()
    for words in ({}, {"overwrite": True}):
        with pytest.raises(CheckpointError, match=f"step_00000010: its state lacks {name}, no training wrote it"):
            earlier(RunFolder(tmp_path), **words)


def test_each_machine_may_call_the_shared_folder_differently(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("mounted") / "elsewhere"
    other.symlink_to(folder.path)
    for damaged in (False, True):
        if damaged:
            damage(folder, 30)
        found = gloo.run(2, ranks.find_checkpoint, [str(folder.path), str(other)])
        step = 20 if damaged else 30
        assert found == [f"{path}/checkpoints/step_{step:08d}" for path in (folder.path, other)]


def test_harmless_keys_and_new_ones_may_differ():
    saved = json.loads(json.dumps({**CONFIG, "lr": 0.1}))
    assert not resume.differences(saved, {**CONFIG, "num_workers": 0, "output": "x", "unknown_then": 3})
    assert resume.differences(saved, {**CONFIG, "views": ("augmented",)}) == ["views=['original'], now ['augmented']"]


@pytest.mark.parametrize(
    ("config", "saved", "ranks", "expected"),
    [
        ((8, None), None, 3, 24),
        ((8, 20), None, 3, 20),
        ((8, None), (8, 16), 3, 16),
        ((16, None), (8, 16), 1, 16),
        ((4, 16), (8, 16), 3, 16),
        ((4, None), (8, 16), 2, "total_batch_size=16 keeps it"),
        ((8, 24), (8, 16), 2, "16 in the run so far, now 24"),
    ],
)
def test_a_step_stays_a_step(config, saved, ranks, expected):
    config, saved = (sizes and dict(zip(resume.SIZES, sizes, strict=True)) for sizes in (config, saved))
    if isinstance(expected, int):
        assert resume.images_a_step(config, saved, ranks) == expected
    else:
        with pytest.raises(ValueError, match=expected):
            resume.images_a_step(config, saved, ranks)


def test_a_run_that_ended_before_its_first_checkpoint_keeps_its_step(tmp_path):
    folder = RunFolder(tmp_path)
    folder.open()
    folder.begin({**CONFIG, "total_batch_size": 16}, overwrite=False)
    (tmp_path / "metrics.jsonl").write_text("")
    found, _ = earlier(folder)
    assert found.checkpoint is None and resume.images_a_step(CONFIG, found.config, 3) == 16
    assert earlier(folder, lr=0.3)[0] == (None, None)
    (tmp_path / "model.pt").write_text("something of worth")
    assert earlier(folder)[0] == (None, None)
