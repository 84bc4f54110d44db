"""Lightning's checkpoints without Lightning: tensors are read, every other object is an inert stand-in, nothing runs.

`torch.load(weights_only=True)` refuses a file as soon as it names one class that is not a tensor's, as the hyper
parameters and callbacks of AdaFace's checkpoints do. Here such names are never looked up: whatever the file makes of
them is an `Inert`, which takes every argument and state and does nothing.
"""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch

# what an honest checkpoint never names; refused, although a stand-in would not run it either
HARMFUL = {"os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "importlib", "runpy", "ctypes", "pty", "code"}
HARMFUL |= {f"builtins.{name}" for name in ("eval", "exec", "compile", "open", "__import__", "breakpoint", "input")}
HARMFUL |= {"io.open", "_io.open"}
DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip


class Refused(pickle.UnpicklingError):
    """A file that is not read; the message says why in a few words."""


class Inert:
    """An object of a class that is not needed."""

    def __init__(self, *args: object, **kwargs: object):
        pass

    def _ignore(self, *args: object) -> "Inert":
        return self

    __call__ = __setstate__ = __setitem__ = append = extend = add = _ignore


def load(path: Path) -> object:
    """What `torch.save` wrote (its zip format), with tensors on the CPU.

    Raises:
        Refused: the file names a function that could do harm, or is not such a file.
        zipfile.BadZipFile, KeyError, RuntimeError ...: it is damaged; a damaged pickle may raise anything.
    """
    with zipfile.ZipFile(path) as archive:
        found = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(found) != 1:
            raise Refused("it holds no data.pkl")
        with archive.open(found[0]) as file:
            return _Unpickler(file, archive, found[0].removesuffix(".pkl")).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, archive: zipfile.ZipFile, folder: str):
        super().__init__(file)
        self._archive, self._folder = archive, folder
        self._storages: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> object:
        module = "builtins" if module == "__builtin__" else module  # its name in pickles that Python 2 could read
        if module.split(".")[0] in HARMFUL or f"{module}.{name}" in HARMFUL:
            raise Refused(f"it names {module}.{name}, which a checkpoint has no use for: do not trust it")
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _parameter
        return DTYPES.get(name, Inert) if module == "torch" else Inert

    def persistent_load(self, pid: object) -> torch.Tensor:
        """The whole storage as a vector; `pid` is ("storage", type, key, device, elements)."""
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage" or not isinstance(pid[1], torch.dtype):
            raise Refused("it holds tensors of a kind that is not known here")
        dtype, key = pid[1], pid[2]
        if key not in self._storages:
            data = bytearray(self._archive.read(f"{self._folder}/{key}"))
            self._storages[key] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return self._storages[key]


def _tensor(storage: torch.Tensor, offset: int, size: tuple, stride: tuple, *_: object) -> torch.Tensor:
    """A view of the storage; PyTorch refuses one that reaches beyond it."""
    return storage.as_strided(size, stride, offset)


def _parameter(tensor: torch.Tensor, *_: object) -> torch.Tensor:
    return tensor
