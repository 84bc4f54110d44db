"""The encoders by name: images (n, 3, 112, 112) in [-1, 1] -> features h (n, D), not normalised."""

import difflib
from collections.abc import Callable
from functools import partial

from torch import nn

from recognition.backbones.adaface_ir import AdaFaceIR
from recognition.backbones.iresnet import IResNet
from recognition.backbones.mobilefacenet import MobileFaceNet
from recognition.backbones.tiny import Tiny

_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "r18": partial(IResNet, (2, 2, 2, 2)),
    "r34": partial(IResNet, (3, 4, 6, 3)),
    "r50": partial(IResNet, (3, 4, 14, 3)),
    "r100": partial(IResNet, (3, 13, 30, 3)),
    "r200": partial(IResNet, (6, 26, 60, 6)),
    "adaface_ir18": partial(AdaFaceIR, (2, 2, 2, 2)),
    "adaface_ir34": partial(AdaFaceIR, (3, 4, 6, 3)),
    "adaface_ir50": partial(AdaFaceIR, (3, 4, 14, 3)),
    "adaface_ir101": partial(AdaFaceIR, (3, 13, 30, 3)),
    "mbf": partial(MobileFaceNet, (1, 4, 6, 2), 2),
    "mbf_large": partial(MobileFaceNet, (2, 8, 12, 4), 4),
    "small": partial(IResNet, (1, 1, 1, 1), widths=(32, 64, 128, 256), stem_stride=2, strides=(2, 2, 2, 1)),
    "mini": partial(IResNet, (1, 1, 1, 1), widths=(16, 32, 64, 128), stem_stride=2, strides=(2, 2, 2, 1)),
    "nano": partial(IResNet, (1, 1, 1, 1), widths=(24, 48, 64, 96), stem_stride=4, stem_side=7, strides=(2, 2, 1, 1)),
    "tiny": Tiny,
}
_ALIASES = {f"iresnet{depth}": f"r{depth}" for depth in (18, 34, 50, 100, 200)} | {"mobilefacenet": "mbf"}


def names(aliases: bool = True) -> list[str]:
    """Every name that `get_backbone` takes, or one for each network."""
    return [*_NETWORKS, *_ALIASES] if aliases else [*_NETWORKS]


def get_backbone(name: str, embedding_size: int = 512, **kwargs: float) -> nn.Module:
    """The network called `name`; `kwargs` go to its constructor (dropout).

    Raises:
        ValueError: unknown name; the message names the nearest.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), 1, cutoff=0.3)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown network {name!r}: {hint}expected one of {', '.join(names())}")
    return _NETWORKS[_ALIASES.get(name, name)](embedding_size=embedding_size, **kwargs)
