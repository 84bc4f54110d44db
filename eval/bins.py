"""`.bin` verification sets: a pickle of `(images, flags)`, read without running anything the file says.

InsightFace's format (`lfw2pack.py`): 2n encoded images, pair i being images 2i and 2i + 1, and n flags, true
where a pair shows one person. Loading such a file with `pickle.load` runs any code in it. Here three walls stand
before it:

1. the opcodes are walked first: only those that bins need, no length beyond the file's end, no far memo slot;
2. the few globals that honest bins name (for bytes in protocol 2, numpy arrays and flags) are replaced by functions
   of this module that accept what those bins hold and nothing else; every other global is refused by name;
3. what comes out must be bytes and flags, as many as belong together.

Nothing is allocated beyond a small multiple of the file's own size.
"""

import io
import math
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MAX_FILE_BYTES = 4 << 30
_EXPECTED = "expected a pickle of (2n encoded images, n same-or-different flags), as InsightFace's .bin files"

# The opcodes that bins need, by what follows them: so many bytes, a count of so many bytes and then that many, lines.
_FIXED = {
    **dict.fromkeys("MARK NONE NEWTRUE NEWFALSE EMPTY_LIST LIST APPEND APPENDS MEMOIZE".split(), 0),
    **dict.fromkeys("EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 STACK_GLOBAL REDUCE BUILD".split(), 0),
    **dict.fromkeys("PROTO BININT1 BINPUT BINGET".split(), 1),
    **dict.fromkeys("BININT LONG_BINPUT LONG_BINGET".split(), 4),
    **{"BININT2": 2, "FRAME": 8},
}
_COUNTED = {
    **dict.fromkeys("LONG1 SHORT_BINSTRING SHORT_BINBYTES SHORT_BINUNICODE".split(), 1),
    **dict.fromkeys("BINSTRING BINBYTES BINUNICODE".split(), 4),
    **dict.fromkeys("BINBYTES8 BYTEARRAY8 BINUNICODE8".split(), 8),
}
_LINES = {"INT": 1, "PUT": 1, "GET": 1, "STRING": 1, "UNICODE": 1, "GLOBAL": 2}
_OPCODES = {getattr(pickle, name)[0]: name for name in (_FIXED | _COUNTED | _LINES)}
_LONGEST_NUMBER = 20  # digits: reading a number takes time in the square of its length
_DTYPES = {"b1": 1, "u1": 1, "i1": 1, "i4": 4, "i8": 8}  # of arrays and scalars: code -> bytes per element


class BinError(ValueError):
    """A `.bin` file that is damaged, is none, or carries code."""


class _CarriesCode(Exception):
    """Names a global that no bin needs."""


class _Refused(Exception):
    """Says what in the file a verification set does not hold."""


@dataclass(frozen=True, eq=False)
class PairBin:
    """A verification set: `jpegs` 2n encoded images (pair i is 2i and 2i + 1), `issame` (n,) bool, `name` as `lfw`."""

    name: str
    jpegs: list[bytes]
    issame: np.ndarray


def load_bin(path: Path | str) -> PairBin:
    """Read a `.bin` file; the images stay encoded.

    Raises:
        BinError: cannot be read, is no verification set, is cut, or carries code; the message names the file.
    """
    path = Path(path)
    data = _read(path)
    try:
        _scan(data)
        jpegs, issame = _pairs(_BinUnpickler(data).load())
    except _CarriesCode as error:
        raise BinError(
            f"{path} carries code ({error}) and was not loaded; a verification set needs only image bytes and flags: "
            "do not use this file, write it again from its images"
        ) from None
    except Exception as error:  # damaged bytes make pickle raise almost anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BinError(f"{path} is no verification set ({reason}); {_EXPECTED}") from None
    return PairBin(path.stem, jpegs, issame)


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise BinError(f"{path} cannot be read (no such file); {_EXPECTED}")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BinError(f"{path} is larger than {MAX_FILE_BYTES} bytes; {_EXPECTED}")
        return path.read_bytes()
    except OSError as error:
        raise BinError(f"{path} cannot be read ({error.strerror or error}); {_EXPECTED}") from None


def _scan(data: bytes) -> None:
    """Refuse opcodes that no bin needs, lengths beyond the end, and memo slots far beyond those in use.

    One LONG_BINPUT to slot 2^32 - 1 would make the unpickler allocate 64 GiB: writers number the slots from 0 or 1.
    """
    at = count = 0
    while data[at : at + 1] != pickle.STOP:
        if at >= len(data):
            raise _Refused("is cut")
        name = _OPCODES.get(data[at])
        if name is None:
            raise _Refused(f"byte {at}, {data[at : at + 1]!r}, is no pickle opcode that belongs there")
        start, at = at + 1, _after(data, at + 1, name)
        if name in ("PUT", "BINPUT", "LONG_BINPUT"):
            slot = int(data[start:at]) if name == "PUT" else int.from_bytes(data[start:at], "little")
            if slot > count:
                raise _Refused(f"uses memo slot {slot} after {count} opcodes")
        count += 1


def _after(data: bytes, start: int, name: str) -> int:
    """Where the opcode ends whose argument begins at `start`."""
    if name in _FIXED:
        return start + _FIXED[name]
    if name in _COUNTED:
        end = start + _COUNTED[name]
        return end + int.from_bytes(data[start:end], "little")
    end = start
    for _ in range(_LINES[name]):
        end = data.find(b"\n", end) + 1
        if not end:
            raise _Refused("is cut")
    if name in ("INT", "PUT", "GET") and end - start > _LONGEST_NUMBER:
        raise _Refused(f"holds a number of {end - start - 1} digits")
    return end


class _BinUnpickler(pickle.Unpickler):
    """The C unpickler, whose every global is a stand-in of this module."""

    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data), encoding="bytes")  # Python 2's strings are bytes
        self._left = len(data)  # a file cannot hold more bytes than it has: repeated copies are an attack
        globals_ = {("_codecs", "encode"): self._encode, ("numpy", "dtype"): _DType, ("numpy", "ndarray"): _ndarray}
        for core in ("numpy.core", "numpy._core"):
            globals_[f"{core}.multiarray", "_reconstruct"] = lambda *_: _Array(self._owned)
            globals_[f"{core}.multiarray", "scalar"] = _scalar
            globals_[f"{core}.numeric", "_frombuffer"] = self._frombuffer
        self._globals = {key: _StandIn(function) for key, function in globals_.items()}

    def find_class(self, module: str, name: str):
        if (module, name) not in self._globals:
            raise _CarriesCode(ascii(f"{module}.{name}"[:80])[1:-1])
        return self._globals[module, name]

    def _encode(self, text, encoding) -> bytes:
        """`_codecs.encode`, by which protocol 2 and older write bytes."""
        if type(text) is not str or encoding not in ("latin1", "latin-1"):
            raise _Refused("encodes something other than latin-1 text")
        self._spend(len(text))
        return text.encode("latin-1")

    def _frombuffer(self, raw, dtype, shape, _order) -> "_Array":
        """numpy's `_frombuffer`, by which protocol 5 writes arrays."""
        array = _Array(self._owned)
        array.fill(shape, dtype, raw)
        return array

    def _owned(self, raw) -> bytes:
        """The bytes of an array as `bytes`; a bytearray is copied."""
        if type(raw) is bytearray:
            self._spend(len(raw))
            return bytes(raw)
        if type(raw) is not bytes:
            raise _Refused("an array is not made of bytes")
        return raw

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise _Refused("unfolds to more bytes than the file has")


class _StandIn:
    """Stands for a global; refuses BUILD, which could change attributes."""

    __slots__ = ("_function",)

    def __init__(self, function):
        self._function = function

    def __call__(self, *args):
        return self._function(*args)

    def __setstate__(self, state):
        raise _Refused("sets the state of a function")


class _DType:
    """`numpy.dtype(code, align, copy)` and its state (3, byte order, None, None, None, -1, -1, 0)."""

    __slots__ = ("code",)

    def __init__(self, code, *_):
        self.code = _text(code)
        if self.code not in _DTYPES:
            raise _Refused(
                f"holds a numpy array of dtype {ascii(self.code[:20])}; only uint8 images and bool flags belong there"
            )

    def __setstate__(self, state):
        if type(state) is not tuple or len(state) < 2 or _text(state[1]) not in ("|", "<", "="):
            raise _Refused("holds a numpy array of an unknown byte order")


class _Array:
    """A flat numpy array as the file describes it, `raw` bytes of dtype `code`; nothing is made from its shape."""

    __slots__ = ("code", "raw", "_owned")

    def __init__(self, owned):
        self._owned, self.raw, self.code = owned, b"", "u1"

    def __setstate__(self, state):
        if type(state) is not tuple or len(state) != 5:
            raise _Refused("holds a numpy array with an unknown state")
        _version, shape, dtype, _fortran, raw = state
        self.fill(shape, dtype, raw)

    def fill(self, shape, dtype, raw) -> None:
        """One axis, or two of which one is 1, as OpenCV's encoder returns them."""
        if type(dtype) is not _DType or type(shape) is not tuple or not all(type(side) is int for side in shape):
            raise _Refused("holds a numpy array without a dtype or shape")
        if not 1 <= len(shape) <= 2 or len(shape) == 2 and 1 not in shape:
            raise _Refused(f"holds a numpy array of {len(shape)} axes; images must be encoded (JPEG or PNG bytes)")
        raw = self._owned(raw)
        if math.prod(shape) * _DTYPES[dtype.code] != len(raw):
            raise _Refused("holds a numpy array whose shape does not match its bytes")
        self.code, self.raw = dtype.code, raw

    def flags(self) -> list[int]:
        return np.frombuffer(self.raw, self.code).tolist()


def _ndarray(*_):
    raise _Refused("builds a numpy array by hand")


def _scalar(dtype, raw) -> int:
    """`numpy.core.multiarray.scalar`: one flag as `numpy.bool_`."""
    if type(dtype) is not _DType or type(raw) is not bytes or len(raw) != _DTYPES[dtype.code]:
        raise _Refused("holds a numpy scalar that is no flag")
    return np.frombuffer(raw, dtype.code).item()


def _text(value) -> str:
    """Python 2 wrote names as bytes."""
    if type(value) is bytes:
        return value.decode("latin-1")
    if type(value) is not str:
        raise _Refused("holds a numpy dtype that is not named by text")
    return value


def _pairs(content) -> tuple[list[bytes], np.ndarray]:
    """Check what was unpickled and bring it into one form."""
    if type(content) not in (tuple, list) or len(content) != 2 or type(content[0]) not in (tuple, list):
        raise _Refused("holds something other than two lists")
    images, flags = content
    flags = flags.flags() if type(flags) is _Array else flags
    if type(flags) not in (tuple, list) or not all(type(flag) in (bool, int) and flag in (0, 1) for flag in flags):
        raise _Refused("flags other than true and false")
    if not flags or len(images) != 2 * len(flags):
        raise _Refused(f"{len(images)} images and {len(flags)} flags; {len(flags)} pairs have {2 * len(flags)} images")
    return [_encoded(image, index) for index, image in enumerate(images)], np.array(flags, dtype=bool)


def _encoded(image, index: int) -> bytes:
    if type(image) is _Array and image.code == "u1":
        image = image.raw
    if type(image) is not bytes or not image:
        raise _Refused(f"image {index} is not made of bytes")
    return image
