"""Ways to keep a run's state on the disk: ours, arcface_torch's `torch.save`, and PyTorch's distributed checkpoints.

DCP is `torch.distributed.checkpoint`. It syncs its files by default; its index `.metadata` is a pickle, which is
unpickled to load. Its safetensors writer has no such file; it is in PyTorch from 2.8 on (2.7: private).
"""

import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed import checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from recognition.state import TrainingState
from utils import checkpoint, parallel
from utils.checkpoint.tensors import sync

PER_RANK = ("head.start", "queue.ring", "queue.next_sequence")  # ours only


class Ours:
    """`utils.checkpoint` as train.py uses it; a load proves the digests, each rank its share of the files."""

    name, reshards, loads = "ours", True, True

    def __init__(self, state: TrainingState, folder: Path):
        self.state, self.saver = state, checkpoint.Saver(folder, keep=1)

    def save(self) -> None:
        """Returns when training may go on."""
        self.saver.save(1, self.state.shared(), self.state.sharded(), {})

    def finish(self) -> None:
        """Waits until everything is on the disk."""
        self.saver.finish()

    def load(self) -> None:
        """Puts everything back."""
        (path,) = checkpoint.every(self.saver.folder)
        wrong = checkpoint.check(path, parallel.rank(), parallel.world_size())
        if any(parallel.objects(wrong)):
            raise AssertionError(f"{path}: {wrong}")
        self.state.load(checkpoint.Checkpoint(path))


class TorchSave:
    """arcface_torch's: each rank saves all that it has, and waits; nothing is synced there, `finish` does it here."""

    name, reshards, loads = "torch.save", False, True

    def __init__(self, state: TrainingState, folder: Path):
        self.tensors, self.path = _tensors(state), folder / f"checkpoint_gpu_{parallel.rank()}.pt"

    def save(self) -> None:
        torch.save(self.tensors, self.path)

    def finish(self) -> None:
        sync(self.path)

    def load(self) -> None:
        saved = torch.load(self.path, weights_only=True)
        for name, tensor in self.tensors.items():
            tensor.copy_(saved[name])


class Dcp:
    """`dcp.save`: class rows and queue rows are DTensors, cut between the ranks."""

    name, reshards, loads = "dcp.save", True, True

    def __init__(self, state: TrainingState, folder: Path):
        warnings.filterwarnings("ignore", module="torch.distributed")
        self.tensors, self.folder = _tensors(state), folder
        if parallel.world_size() > 1:
            mesh = init_device_mesh("cpu", (parallel.world_size(),))
            for name in state.sharded():
                if name in self.tensors:
                    self.tensors[name] = DTensor.from_local(self.tensors[name], mesh, [Shard(0)])

    def save(self) -> None:
        dcp.save(self.tensors, checkpoint_id=self.folder)

    def finish(self) -> None:
        pass

    def load(self) -> None:
        dcp.load(self.tensors, checkpoint_id=self.folder)


class AsyncDcp(Dcp):
    """`dcp.async_save`: copied, and written by a thread, whose messages need a process group of their own."""

    name, loads = "dcp.async_save", False

    def __init__(self, state: TrainingState, folder: Path):
        super().__init__(state, folder)
        self.group = dist.new_group(backend="gloo") if parallel.world_size() > 1 else None

    def save(self) -> None:
        self.saving = dcp.async_save(self.tensors, checkpoint_id=self.folder, process_group=self.group)

    def finish(self) -> None:
        self.saving.result()


class SafetensorsDcp(Dcp):
    """`dcp.save` through its safetensors writer."""

    name = "dcp, safetensors"

    def save(self) -> None:
        dcp.save(self.tensors, storage_writer=dcp.HuggingFaceStorageWriter(str(self.folder), save_distributed=True))

    def load(self) -> None:
        dcp.load(self.tensors, storage_reader=dcp.HuggingFaceStorageReader(str(self.folder)))


def formats() -> list[type]:
    """Ours first, and the peers that this PyTorch has."""
    return [Ours, TorchSave, Dcp, AsyncDcp] + [SafetensorsDcp] * hasattr(dcp, "HuggingFaceStorageWriter")


def _tensors(state: TrainingState) -> dict[str, torch.Tensor]:
    """Names as ours; the tensors of the run themselves, which a peer's load writes to."""
    own = {name: x for name, x in state.sharded().items() if name not in PER_RANK}
    joined = {name: torch.cat(x) if isinstance(x, list) else x for name, x in own.items()}
    return {name: x.detach() for name, x in (state.shared() | joined).items()}
