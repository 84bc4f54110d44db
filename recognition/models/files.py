"""State dicts on disk: ours with what they are, those of arcface_torch, AdaFace and CVLface, and safetensors."""

import json
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch

from recognition.models import inert
from recognition.models.facts import MEAN, STD, Facts, checked
from utils.checkpoint import TensorFile, write_tensors
from utils.files import replacing

KEY = "qgface"  # of the facts in a state dict's `_metadata`
WITHIN = ("state_dict", "state_dict_backbone")  # Lightning's, and the whole checkpoint of arcface_torch
PREFIXES = ("module.", "model.", "net.")  # of DDP, of Lightning as AdaFace uses it, of CVLface; in this order


def save_model(
    path: Path,
    state: OrderedDict[str, torch.Tensor],
    network: str,
    embedding_size: int,
    norm_mean: float | None = None,
    norm_std: float | None = None,
    channels: str = "rgb",
    mean: float = MEAN,
    std: float = STD,
    words: Mapping[str, str] | None = None,
) -> None:
    """Write the state dict of a backbone, so that it says itself what it is: as .safetensors by the path's suffix, else
    as PyTorch does. The same state gives the same bytes. What is not given is as our training has it.

    Args:
        words: more metadata of a .safetensors file.

    PyTorch keeps a state dict's `_metadata` when it saves and loads it (also with weights_only=True), and
    `load_state_dict` passes over keys there that it does not know: arcface_torch loads the file as its own.
    """
    facts = Facts(network, embedding_size, channels, mean, std, norm_mean, norm_std)._asdict()
    tensors = OrderedDict((name, tensor.cpu()) for name, tensor in state.items())
    tensors._metadata = metadata = OrderedDict(state._metadata)  # type: ignore[attr-defined]  # PyTorch adds it
    metadata[""] = {**metadata.get("", {}), KEY: facts}
    write_state(path, tensors, {**(words or {}), KEY: json.dumps(facts)})


def write_state(path: Path, state: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write CPU tensors that share no memory, whole or not at all: as .safetensors with `metadata` by the path's
    suffix, else as PyTorch does.
    """
    with replacing(path) as beside:
        if is_safetensors(path):
            write_tensors(beside, {name: tensor.contiguous() for name, tensor in state.items()}, metadata)
        else:
            with open(beside, "wb") as file:  # given a path, PyTorch writes the temporary name into the file
                torch.save(state, file)


def is_safetensors(path: Path) -> bool:
    """By its name: the format has no mark of its own."""
    return Path(path).suffix.lower() == ".safetensors"


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], Facts]:
    """The backbone's tensors by their plain names, on the CPU, and what the file says of itself.

    Nothing in the file runs. What lies beside the backbone (a classifier, an optimizer) is left out.

    Raises:
        ValueError: missing, damaged, not a state dict, or a file that wants to run something.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"model {path} does not exist")
    state = _load_safetensors(path) if is_safetensors(path) else _load(path)
    for key in WITHIN:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"model {path}: expected a state dict of tensors (model.pt of a run)")
    facts = checked(_metadata(state), f"model {path}")
    for prefix in PREFIXES:
        inside = {key.removeprefix(prefix): value for key, value in state.items() if str(key).startswith(prefix)}
        state = inside or state
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise ValueError(f"model {path}: {key!r} is {type(value).__name__}, expected a state dict of tensors only")
    return dict(state), facts


def _metadata(state: dict) -> dict:
    metadata = getattr(state, "_metadata", None)
    root = metadata.get("") if isinstance(metadata, dict) else None
    ours = root.get(KEY) if isinstance(root, dict) else None
    return ours if isinstance(ours, dict) else {}


def _load_safetensors(path: Path) -> OrderedDict[str, torch.Tensor]:
    try:
        file = TensorFile(path)
        state = OrderedDict((name, file[name]) for name in file.names())
        facts = json.loads(file.metadata.get(KEY, "{}"))
        state._metadata = {"": {KEY: facts}}  # type: ignore[attr-defined]  # where PyTorch keeps it
    except ValueError:
        raise ValueError(f"model {path} is no safetensors file, or a damaged one") from None
    return state


def _load(path: Path) -> object:
    try:
        try:
            with warnings.catch_warnings():  # what is wrong comes as an exception
                warnings.simplefilter("ignore")
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            if not zipfile.is_zipfile(path):
                raise
            return inert.load(path)
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(f"model {path} is not a PyTorch state dict: {_reason(path, error)}") from None


def _reason(path: Path, error: Exception) -> str:
    """Why it cannot be read, in a few words: what torch says of a damaged file is long, and about its own code."""
    if isinstance(error, inert.Refused):
        return str(error)
    if isinstance(error, MemoryError) or "allocate" in str(error):
        return "there is no memory for what it states"
    try:
        with open(path, "rb") as file:
            start = file.read(4)
    except OSError as trouble:
        return trouble.strerror or str(trouble)
    if not start:
        return "the file is empty"
    if start == b"PK\x03\x04" and not zipfile.is_zipfile(path):  # PyTorch may seek to before its start: an OSError
        return "its end is missing; copy or download it again"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "it is damaged, or a file of another kind"
