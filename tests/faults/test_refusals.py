"""What a run does not go on from: one line, and every file of its folder is as it was."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests import faces
from tests.faults.conftest import Trial, one_error
from tests.faults.test_damage import replace_by_a_pickle
from tests.packing import tree
from utils.checkpoint import FORMAT, MANIFEST, every


@pytest.fixture(scope="module")
def short(data, tmp_path_factory) -> Trial:
    """A run that was stopped after four steps; no test changes it."""
    trial = Trial(data, tmp_path_factory.mktemp("short") / "run", "keep_checkpoints=1")
    assert trial.again(words=["max_step=4"])[1] == "" and trial.steps() == [4]
    return trial


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("other")
    faces.write_records(root, photos=9)
    return root


CONFIGS = {
    "another lr": (["lr=0.1"], "is of another run: lr=0.02, now 0.1; output=FOLDER"),
    "several keys": (["lr=0.1", "seed=1"], r"is of another run: .*seed=2048, now 1.*; output=FOLDER"),
    "another network": (["network=mini"], "is of another run: network='tiny', now 'mini'"),
    "another network, accepted": (["network=mini", "resume_changes=['network']"], "network cannot change within a run"),
    "another dimension, accepted": (
        ["embedding_size=8", "resume_changes=['embedding_size']"],
        "embedding_size cannot change within a run",
    ),
    "other images a step": (["total_batch_size=8"], "images a step: 12 in the run so far, now 8"),
    "other data": (["rec={other}"], "images of the data 88, now 99.*digest of the index of the data"),
    "one key of two accepted": (["lr=0.1", "seed=1", "resume_changes=['lr']"], "another run: seed=2048, now 1; "),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_another_run_is_refused(short, other, name):
    words, message = CONFIGS[name]
    before = tree(short.folder)
    _, error = short.again(words=[word.format(other=other) for word in words])
    assert re.search(message, error), error
    assert tree(short.folder) == before


def test_a_refusal_is_one_line_and_exit_code_2(short):
    before = tree(short.folder)
    done = short.ends(words=["lr=0.1"])
    assert done.returncode == 2 and "is of another run: lr=0.02, now 0.1" in one_error(done)
    assert tree(short.folder) == before


def newer(checkpoint: Path) -> None:
    manifest = json.loads((checkpoint / MANIFEST).read_text())
    (checkpoint / MANIFEST).write_text(json.dumps(manifest | {"format": FORMAT + 1}))


def with_a_pickle(checkpoint: Path) -> None:
    replace_by_a_pickle(checkpoint / "shared.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (newer, f"has format {FORMAT + 1}, this version reads {FORMAT}; a newer version of this project wrote it"),
        (with_a_pickle, "no checkpoint in .* is whole: output=FOLDER starts another run beside them"),
    ],
)
@pytest.mark.parametrize("words", [[], ["resume=True"], ["overwrite=True"]])
def test_a_checkpoint_that_cannot_be_read_is_refused(data, short, tmp_path, change, message, words):
    trial = copy_of(short, data, tmp_path)
    change(every(trial.checkpoints)[-1])
    before = tree(trial.folder)
    _, error = trial.again(words=words)
    assert re.search(message, error), error
    assert tree(trial.folder) == before


def copy_of(short: Trial, data: Path, tmp_path: Path) -> Trial:
    shutil.copytree(short.folder, tmp_path / "run")
    return Trial(data, tmp_path / "run", "keep_checkpoints=1")


@pytest.mark.parametrize(
    "words",
    [
        ["save_every=3", "keep_checkpoints=2", "frequent=2", "step_timeout=5", "nonfinite=stop"],
        ["lr=0.01", "resume_changes=['lr']"],
    ],
)
def test_what_may_differ(data, short, tmp_path, words):
    trial = copy_of(short, data, tmp_path)
    said, error = trial.again(words=words)
    assert not error and "from step 4 on" in said and trial.steps()[-1] == 12
    config = json.loads((trial.folder / "config.json").read_text())
    assert config["lr"] == (0.01 if "lr=0.01" in words else 0.02)


def test_a_queue_that_cannot_fit_is_refused_before_it_grows(trial):
    _, error = trial.again(words=["queue_size=2000000000"])
    assert "queue_size=2000000000" in error and "GiB are free" in error
    assert not trial.folder.exists()


def test_processes_with_different_configs_or_data_say_so_at_once(trial, other):
    for words, message in (
        (["lr=0.1", "lr=0.2"], "config differs between processes: lr=0.1 on rank 0, 0.2 on rank 1"),
        ([trial.words[1], f"rec={other}"], "data differs between processes: images="),
    ):
        own = [
            {"at": "start", "step": 0, "rank": rank, "what": "word", "word": word} for rank, word in enumerate(words)
        ]
        done = trial.ends(*own)
        assert done.returncode == 2 and message in one_error(done), done.stderr
        assert not trial.folder.exists()
