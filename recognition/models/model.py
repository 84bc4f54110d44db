"""`open_model`: any face model from its file, as a network with what it needs to know of pixels.

| file | network | channels | mean, std |
|---|---|---|---|
| model.pt of our training | written in it, or config.json beside it | likewise | likewise |
| .safetensors of `tools.checkpoint` | written in it | likewise | likewise |
| arcface_torch: model.pt, backbone.pth | recognised | asked for (InsightFace's models: rgb) | 127.5 |
| AdaFace: .ckpt | recognised | asked for (bgr) | 127.5 |
| CVLface: model.pt and model.yaml | recognised | color_space in model.yaml | 127.5 |
| .onnx | itself | metadata, or asked for | metadata, or asked for |

An argument goes before what the file says. The four trainings of state dicts scale pixels alike, to [-1, 1]; an ONNX
model may do as it likes (InsightFace's: 127.5 and 127.5; those that came from MXNet do it inside: 0 and 1).
A network is recognised where all its names and shapes are the file's, and no other way.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from recognition.backbones import get_backbone, names
from recognition.models.facts import MEAN, STD, Facts, beside, checked
from recognition.models.files import read_tensors
from recognition.models.onnx import OnnxBackbone
from utils.checkpoint import load_module
from utils.files import file_digest


@dataclass(frozen=True)
class Model:
    """A backbone and its colour contract.

    Attributes:
        backbone: (n, 3, 112, 112) float32, pixels as (value - mean) / std in the order `channels` -> h (n, D).
        channels: "rgb" or "bgr".
        mean, std: in grey levels, 0 to 255.
        embedding_size: D.
        network: a name of `recognition.backbones`, or "onnx".
        digest: SHA-256 of the file, in hex.
        norm_mean, norm_std: of the feature norms at the end of our training (Eq. 1); None: nothing says them.
    """

    backbone: nn.Module
    channels: str
    mean: float
    std: float
    embedding_size: int
    network: str
    digest: str
    norm_mean: float | None = None
    norm_std: float | None = None

    def key(self) -> dict[str, object]:
        """What tells features of this model from others': its file and how it takes pixels. JSON."""
        return {"digest": self.digest, "channels": self.channels, "mean": self.mean, "std": self.std}

    def describe(self) -> str:
        """One line for the user."""
        pixels = f"{self.channels}, (value - {self.mean:g}) / {self.std:g}"
        return f"model    {self.network}, {self.embedding_size}-d; takes {pixels}"


def open_model(
    path: Path | str,
    network: str | None = None,
    embedding_size: int | None = None,
    channels: str | None = None,
    mean: float | None = None,
    std: float | None = None,
    insightface: bool = False,
) -> Model:
    """Read a model; nothing in its file runs. What is not given comes from the file or from the files beside it.

    Args:
        network: a name of `recognition.backbones`; an ONNX model holds its own.
        insightface: what nothing says of pixels is as InsightFace's models have it: RGB, 127.5, 127.5; not for
            AdaFace's networks, which came with BGR.

    Raises:
        ValueError: the file is missing, damaged or of another network or width; nothing says its channel order (an ONNX
            model: its mean and std); no network has its names and shapes; onnxruntime is not installed.
    """
    path = Path(path)
    given = {"network": network, "embedding_size": embedding_size, "channels": channels, "mean": mean, "std": std}
    facts = checked(given, f"model {path}")
    is_onnx = path.suffix.lower() == ".onnx"
    backbone, facts, width = (_open_onnx if is_onnx else _open_state_dict)(path, facts)
    if facts.embedding_size not in (None, width):
        raise ValueError(f"model {path} makes features of {width} dimensions, not of {facts.embedding_size}")
    network = facts.network
    assert network is not None  # either kind of file has told
    if insightface and not network.startswith("adaface"):
        facts = facts.over(Facts(channels="rgb", mean=MEAN, std=STD))
    channels, mean, std = _pixels(path, facts)
    return Model(
        backbone.eval(),
        channels,
        float(mean),
        float(std),
        width,
        network,
        file_digest(path),
        facts.norm_mean,
        facts.norm_std,
    )


def _pixels(path: Path, facts: Facts) -> tuple[str, float, float]:
    """Channels, mean and std; somebody has to say each of them."""
    flags = "--mean 127.5 --std 127.5 (InsightFace's)"
    if facts.channels is None:
        also = "" if facts.mean is not None and facts.std is not None else f", and its scale: {flags}"
        raise ValueError(
            f"nothing says the channel order of model {path}; add --channels rgb (InsightFace's models) or "
            f"--channels bgr (AdaFace's){also}"
        )
    if facts.mean is None or facts.std is None:
        raise ValueError(f"nothing says how model {path} scales pixels, (value - mean) / std; add {flags}")
    return facts.channels, facts.mean, facts.std


def _open_onnx(path: Path, facts: Facts) -> tuple[nn.Module, Facts, int]:
    backbone = OnnxBackbone(path)
    unsaid = {name: value for name, value in backbone.metadata.items() if getattr(facts, name, None) is None}
    facts = facts.over(checked(unsaid, f"metadata of model {path}"))
    return backbone, facts._replace(network="onnx"), backbone.embedding_size


def _open_state_dict(path: Path, facts: Facts) -> tuple[nn.Module, Facts, int]:
    tensors, stored = read_tensors(path)
    facts = facts.over(stored).over(beside(path)).over(Facts(mean=MEAN, std=STD))
    network = facts.network or _recognised(path, tensors)
    width = _width(network, tensors)
    backbone = _empty(network, width)
    load_module(backbone, tensors, f"model {path}", assign=True)
    return backbone.float(), facts._replace(network=network), width


def _empty(network: str, width: int) -> nn.Module:
    """Neither drawn nor allocated: a file's tensors take the places."""
    with torch.device("meta"):
        return get_backbone(network, width)


def _width(network: str, tensors: dict[str, torch.Tensor]) -> int:
    """D: every network here ends with a vector that has an entry for each dimension, a bias or a running variance."""
    last = [name for name, tensor in _empty(network, 1).state_dict().items() if tensor.ndim == 1][-1]
    return max(tensors[last].numel(), 1) if last in tensors else 1


def _recognised(path: Path, tensors: dict[str, torch.Tensor]) -> str:
    """The network that has exactly these names and shapes."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    for network in names(aliases=False):
        if _empty(network, 1).state_dict().keys() == shapes.keys():
            state = _empty(network, _width(network, tensors)).state_dict()
            if {name: tensor.shape for name, tensor in state.items()} == shapes:
                return network
    raise ValueError(
        f"model {path} is of no network that is known here: its {len(shapes)} names and shapes are not those of "
        f"{', '.join(names(aliases=False))}; --network NAME says where it differs from one"
    )
