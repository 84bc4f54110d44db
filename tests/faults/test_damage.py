"""The newest checkpoint is damaged: it is named and set aside, an older one is used, and nothing is lost but steps."""

import json
import pickle
import shutil
from pathlib import Path

import pytest

from utils.checkpoint import MANIFEST
from utils.files import file_digest

NEWEST = "step_00000012"


def truncate(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


class Touch:
    """Its pickle makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def replace_by_a_pickle(file: Path) -> None:
    """With a manifest that tells of it."""
    file.write_bytes(pickle.dumps(Touch(file.with_name("ran"))))
    manifest = json.loads((file.parent / MANIFEST).read_text())
    manifest["files"][file.name] = {"size": file.stat().st_size, "sha256": file_digest(file)}
    (file.parent / MANIFEST).write_text(json.dumps(manifest))


DAMAGES = {
    "cut": ("rank_1.safetensors", truncate, "rank_1.safetensors has"),
    "a flipped bit": ("shared.safetensors", flip_a_bit, "shared.safetensors has another SHA-256"),
    "a flipped bit of the state": ("state.json", flip_a_bit, "state.json has another SHA-256"),
    "a missing file": ("rank_0.safetensors", Path.unlink, "rank_0.safetensors is missing"),
    "no manifest": (MANIFEST, Path.unlink, f"{MANIFEST} is missing"),
    "half a manifest": (MANIFEST, truncate, f"{MANIFEST} cannot be read"),
    "a pickle": ("rank_0.safetensors", replace_by_a_pickle, "rank_0.safetensors is no safetensors file"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_set_aside_and_an_older_one_used(trial, reference, name):
    file, damage, message = DAMAGES[name]
    shutil.copytree(reference.folder, trial.folder)
    damage(trial.checkpoints / NEWEST / file)
    left = {path.name: path.read_bytes() for path in (trial.checkpoints / NEWEST).iterdir()}
    said = trial.ends_as(reference)
    assert f"note: checkpoint {trial.checkpoints / NEWEST} is damaged ({message}" in said
    assert f"note: going on from {trial.checkpoints / 'step_00000010'}, the newest whole one" in said
    aside = trial.checkpoints / f"{NEWEST}.damaged"
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == left  # a pickle did not run
