"""Checkpoints: logical tensors in safetensors files, one for what all ranks share and one for each rank's classes and
queue rows.

A checkpoint is a folder `step_00001234` with

    shared.safetensors      backbone.*, momentum buffers, statistics ...: equal on all ranks
    rank_0.safetensors ...  head.* rows with their class range, queue.* rows: any number of ranks can cut them again
    state.json              format version, position, ranks, config

written beside and renamed, so that a folder of that name is whole. Nothing in it is pickled.
"""

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

FORMAT = 2


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another network."""


def save(
    folder: Path,
    step: int,
    shared: dict[str, torch.Tensor],
    sharded: dict[str, torch.Tensor],
    state: dict,
    rank: int,
    world_size: int,
    barrier,
    keep: int,
) -> None:
    """Write `folder/step_<step>` from all ranks together and remove all but the `keep` newest checkpoints."""
    final, beside = folder / f"step_{step:08d}", folder / f".step_{step:08d}.part"
    if rank == 0:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        save_file(_plain(shared), beside / "shared.safetensors")
    barrier()
    save_file(_plain(sharded), beside / f"rank_{rank}.safetensors")
    barrier()
    if rank == 0:
        (beside / "state.json").write_text(json.dumps({"format": FORMAT, "ranks": world_size, "step": step, **state}))
        shutil.rmtree(final, ignore_errors=True)
        os.replace(beside, final)
        for old in every(folder)[:-keep] if keep > 0 else []:
            shutil.rmtree(old)
    barrier()


def _plain(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def every(folder: Path) -> list[Path]:
    """The whole checkpoints in `folder`, oldest first."""
    return sorted(path for path in Path(folder).glob("step_*") if (path / "state.json").is_file())


def read_state(path: Path) -> dict:
    """state.json of a checkpoint.

    Raises:
        CheckpointError: unreadable, or written by a newer version.
    """
    try:
        state = json.loads((path / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path}: state.json cannot be read ({error})") from None
    if state.get("format") != FORMAT:
        raise CheckpointError(f"checkpoint {path} has format {state.get('format')}, this version reads {FORMAT}")
    return state


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """All tensors of one safetensors file.

    Raises:
        CheckpointError: missing or damaged.
    """
    try:
        with safe_open(file, framework="pt") as handle:
            return {name: handle.get_tensor(name) for name in handle.keys()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint file {file} cannot be read: {error}") from None


def load_module(module: torch.nn.Module, tensors: dict[str, torch.Tensor], source: str, assign: bool = False) -> None:
    """Load a state dict whose names and shapes must be the module's own.

    Args:
        source: how a message calls it.
        assign: put the tensors themselves in place, instead of copying their values.

    Raises:
        CheckpointError: names the first differences: it is a checkpoint of another network.
    """
    own = module.state_dict()
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unknown:
        raise CheckpointError(
            f"{source} is of another network: {len(missing)} tensors are missing {missing[:2]}, "
            f"{len(unknown)} are unknown {unknown[:2]}"
        )
    for name, tensor in own.items():
        if tensors[name].shape != tensor.shape:
            raise CheckpointError(
                f"{source} is of another network: {name} has shape {tuple(tensors[name].shape)}, "
                f"expected {tuple(tensor.shape)}"
            )
    module.load_state_dict(tensors, assign=assign)
