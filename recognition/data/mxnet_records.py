"""Records read through mxnet itself, the format's reference: to compare with, never to train fast.

mxnet 1.9.1 is the last release; it needs Python before 3.12 and numpy before 2.
"""

import os
import threading
from pathlib import Path

import numpy as np

from recognition.data.recordio import MAX_LENGTH, RecordError, RecordFile


class MxnetRecordFile(RecordFile):
    """`RecordFile` whose records come from `mxnet.recordio.MXIndexedRecordIO`.

    mxnet's reader has one position in the file: each process and thread opens its own.

    Raises:
        ValueError: mxnet cannot be imported here.
        RecordError: as `RecordFile`.
    """

    def __init__(self, rec: str | Path, idx: str | Path):
        _mxnet()
        super().__init__(rec, idx)
        self._own = threading.local()

    def __getstate__(self) -> dict:
        return {name: value for name, value in super().__getstate__().items() if name != "_own"}

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._own = threading.local()

    def read(self, key: int, limit: int = MAX_LENGTH) -> bytes:
        """The record of a key, or its first `limit` bytes.

        Raises:
            RecordError: unknown key, or mxnet does not find a whole record there.
        """
        super().read(key)  # mxnet takes some damage for a record, and ends the process at other damage
        if getattr(self._own, "pid", None) != os.getpid():
            self._own.reader = _mxnet().recordio.MXIndexedRecordIO(str(self.idx), str(self.rec), "r")
            self._own.pid = os.getpid()
        try:
            record = self._own.reader.read_idx(int(key))
        except Exception as error:
            raise RecordError(f"{self.rec}: key {key}: mxnet: {str(error).splitlines()[0]}") from None
        if record is None:
            raise RecordError(f"{self.rec}: key {key}: mxnet finds no record there")
        return record[:limit]


def _mxnet():
    np.bool = np.bool_  # type: ignore[attr-defined, misc, unused-ignore]  # mxnet 1.9.1 uses the name that numpy has removed
    try:
        import mxnet
    except Exception as error:
        raise ValueError(
            f"recordio_backend='mxnet': mxnet cannot be imported ({error}); use recordio_backend='native', which reads "
            "the same files"
        ) from None
    return mxnet
