"""Checkpoints: named tensors in safetensors files, one for what all ranks share and one for each rank's classes and
queue rows; written while training goes on, whole or not there, read by any number of ranks.

A checkpoint is a folder `step_00001234` with

    shared.safetensors      backbone.*, momentum buffers, statistics ...: equal on all ranks
    rank_0.safetensors ...  head.* rows with their class range, queue.* rows: any number of ranks can cut them again
    state.json              position, ranks, config, data, loss scale: whatever is no tensor
    manifest.json           format version; size and SHA-256 of each of the files above

Nothing in it is pickled. It is made under another name, its files are synced, and it is renamed when it is complete.
"""

from utils.checkpoint.files import (
    FORMAT,
    MANIFEST,
    Checkpoint,
    CheckpointError,
    check,
    every,
    expendable,
    leftovers,
    newest_whole,
    prune,
    read_state,
    remove,
    remove_leftovers,
)
from utils.checkpoint.modules import load_module
from utils.checkpoint.saver import Saver
from utils.checkpoint.tensors import TensorFile, write_tensors

__all__ = [
    "FORMAT", "MANIFEST", "Checkpoint", "CheckpointError", "Saver", "TensorFile", "check", "every", "expendable",
    "leftovers", "load_module", "newest_whole", "prune", "read_state", "remove", "remove_leftovers",
    "write_tensors",
]  # fmt: skip
