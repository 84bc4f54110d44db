"""One safetensors file: written so that it is on the disk, read piece by piece."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another run."""


class TensorFile:
    """The tensors of a safetensors file by name; each is read when it is asked for.

    Raises:
        CheckpointError: missing, or not a safetensors file. Nothing of a file is ever run.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        try:
            self._file = safe_open(self.path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"checkpoint file {path} is no safetensors file: {error}") from None
        self._names = set(self._file.keys())

    def __contains__(self, name: str) -> bool:
        return name in self._names

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says beside its tensors."""
        return self._file.metadata() or {}

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor that is not read.

        Raises:
            CheckpointError: there is no such tensor.
        """
        return tuple(self._slice(name).get_shape())

    def __getitem__(self, name: str) -> torch.Tensor:
        self._slice(name)
        return self._file.get_tensor(name)

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows [start, stop) of a tensor; the others are not read."""
        return self._slice(name)[start:stop]

    def below(self, prefix: str) -> dict[str, torch.Tensor]:
        """The tensors whose names begin with `prefix`, without it."""
        return {name.removeprefix(prefix): self[name] for name in self.names() if name.startswith(prefix)}

    def _slice(self, name: str):
        if name not in self._names:
            raise CheckpointError(f"checkpoint file {self.path} has no tensor {name}")
        return self._file.get_slice(name)


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write contiguous CPU tensors that share no memory, and wait until the disk has them.

    Raises:
        OSError: the file cannot be written.
    """
    path.touch()
    mode = path.stat().st_mode  # safetensors makes files that only their owner can read
    try:
        save_file(dict(tensors), path, None if metadata is None else dict(metadata))
    except SafetensorError as error:
        raise _os_error(path, str(error)) from None
    path.chmod(mode)
    sync(path)


def _os_error(path: Path, message: str) -> OSError:
    """safetensors tells what the system said in words only; callers must know a missing folder from a full disk."""
    said = re.search(r"\(os error (\d+)\)", message)
    return OSError(int(said[1]), os.strerror(int(said[1])), str(path)) if said else OSError(f"{path.name}: {message}")


def sync(path: Path) -> None:
    """Wait until the disk has a file's content, or a folder's names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
