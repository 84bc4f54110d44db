"""Training and inference of face recognition models. `FaceEncoder` is loaded when it is asked for, with PyTorch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recognition.encoder import FaceEncoder

__all__ = ["FaceEncoder"]


def __getattr__(name: str) -> object:
    if name == "FaceEncoder":
        from recognition.encoder import FaceEncoder

        return FaceEncoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
