"""A checkpoint's backbone and classifier as files that other programs load."""

from collections import OrderedDict
from pathlib import Path

import torch

from recognition.backbones import get_backbone
from recognition.models import save_model, write_state
from recognition.state import norm_statistics
from tools.checkpoint.listing import problems
from tools.checkpoint.places import is_checkpoint
from utils.checkpoint import Checkpoint, load_module

SUFFIXES = (".pt", ".pth", ".safetensors")


def convert(path: Path, to: Path | None, head: Path | None, overwrite: bool = False) -> None:
    """Write what is asked for, each file whole or not at all.

    Args:
        path: a checkpoint.
        to: file for the backbone: what the run writes as model.pt, or the same as .safetensors.
        head: file for W, (N, D) by class id: the state dict of arcface_torch's Partial FC on one process.
        overwrite: replace files that are there.

    Raises:
        ValueError: no checkpoint, one that is not whole, or an output that cannot be.
    """
    outputs = [file for file in (to, head) if file is not None]
    if not outputs or to == head:
        raise ValueError("convert: expected --to FILE, --head FILE, or both with different files")
    for file in outputs:
        _check_output(file, overwrite)
    if not is_checkpoint(path):
        raise ValueError(f"{path} is no checkpoint; `python -m tools.checkpoint list RUN` shows which there are")
    wrong = problems(path)
    if wrong:
        raise ValueError(f"checkpoint {path} is not whole, nothing is made of it: {'; '.join(wrong)}")
    saved = Checkpoint(path)
    if to is not None:
        _write_backbone(saved, to)
        print(f"{to}  {saved.state['config']['network']} after {saved.step} steps")
    if head is not None:
        weight_ND = class_weights(saved)
        write_state(head, OrderedDict(weight=weight_ND))
        print(f"{head}  {weight_ND.shape[0]} x {weight_ND.shape[1]} after {saved.step} steps")


def class_weights(saved: Checkpoint) -> torch.Tensor:
    """(N, D) rows of all ranks, by class id."""
    shards = sorted(saved.shards, key=lambda shard: int(shard["head.start"]))
    return torch.cat([shard["head.weight"] for shard in shards])


def _write_backbone(saved: Checkpoint, to: Path) -> None:
    network, width = saved.state["config"]["network"], saved.state["config"]["embedding_size"]
    with torch.device("meta"):
        backbone = get_backbone(network, width)
    tensors = {name: tensor.clone() for name, tensor in saved.shared.below("backbone.").items()}
    load_module(backbone, tensors, f"checkpoint {saved.path}", assign=True)
    norms = norm_statistics(saved.state["config"], saved.shared)
    save_model(to, backbone.state_dict(), network, width, *norms)


def _check_output(file: Path, overwrite: bool) -> None:
    if file.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{file}: expected a name that ends in {', '.join(SUFFIXES)}")
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise ValueError(f"{file}: it is a folder, or its folder does not exist")
    if file.exists() and not overwrite:
        raise ValueError(f"{file} exists; --overwrite replaces it")
