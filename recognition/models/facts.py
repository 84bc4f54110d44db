"""What is known of a model beside its weights, and who says it."""

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

CHANNELS = ("rgb", "bgr")
MEAN = STD = 127.5  # of our training, arcface_torch, AdaFace and CVLface alike: pixels in [-1, 1]


class Facts(NamedTuple):
    """A model's network, width D, and how pixels become its input: (value - mean) / std in the order `channels`; mean
    and deviation of the feature norms that training ended with (Eq. 1).

    None: nothing says it.
    """

    network: str | None = None
    embedding_size: int | None = None
    channels: str | None = None
    mean: float | None = None
    std: float | None = None
    norm_mean: float | None = None
    norm_std: float | None = None

    def over(self, other: "Facts") -> "Facts":
        """These facts, and the other's where there are none."""
        return self._replace(**{name: said for name, said in other._asdict().items() if getattr(self, name) is None})


def checked(values: dict, source: str) -> Facts:
    """The facts among `values`; other keys are passed over.

    Raises:
        ValueError: a value that cannot be; the message names `source`.
    """
    facts = Facts(**{name: values[name] for name in Facts._fields if values.get(name) is not None})
    if facts.network is not None and not isinstance(facts.network, str):
        raise ValueError(f"{source}: network={facts.network!r}: expected a name")
    if facts.embedding_size is not None and not (type(facts.embedding_size) is int and facts.embedding_size > 0):
        raise ValueError(f"{source}: embedding_size={facts.embedding_size!r}: expected a whole number above 0")
    if facts.channels is not None and facts.channels not in CHANNELS:
        raise ValueError(f"{source}: channels={facts.channels!r}: expected 'rgb' or 'bgr'")
    for name in ("mean", "norm_mean"):
        value = getattr(facts, name)
        if value is not None and not _is_number(value):
            raise ValueError(f"{source}: {name}={value!r}: expected a number")
    for name in ("std", "norm_std"):
        value = getattr(facts, name)
        if value is not None and not (_is_number(value) and value > 0):
            raise ValueError(f"{source}: {name}={value!r}: expected a number above 0")
    return facts


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def run_config(model: Path) -> dict:
    """The config of the run that wrote `model`: config.json beside it; empty where there is none that can be read."""
    try:
        config = json.loads(Path(model).with_name("config.json").read_text())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def beside(model: Path) -> Facts:
    """What the files beside a model say: config.json of our training (of model.pt), or the .yaml that CVLface writes.

    Our training takes RGB. CVLface's `color_space` is the order that the weights take; its wrapper turns the channels.

    Raises:
        ValueError: a value that cannot be.
    """
    config = run_config(model)
    if model.name == "model.pt" and config.get("network") is not None:
        ours = {**config, "channels": "rgb", "mean": MEAN, "std": STD}
        return checked(ours, str(model.with_name("config.json")))
    yaml = model.with_suffix(".yaml")
    try:
        text = yaml.read_text()
    except (OSError, ValueError):
        return Facts()
    found = re.search(r"""^color_space:\s*['"]?(\w+)""", text, re.MULTILINE)
    return checked({"channels": found[1].lower()}, f"{yaml}, color_space") if found else Facts()
