"""Which network a model file is of: a `model.pt` is a state dict and does not say it, the run's config.json does."""

import json
from pathlib import Path


def run_config(model: Path) -> dict:
    """The config of the run that wrote `model`: config.json beside it; empty where there is none that can be read."""
    try:
        config = json.loads(model.with_name("config.json").read_text())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def network_of(model: Path, network: str | None = None, embedding_size: int | None = None) -> tuple[str, int]:
    """Name and width of a model's network: what is given, else what the run's config says, else a width of 512.

    Raises:
        ValueError: nothing says which network it is.
    """
    config = run_config(model)
    network, embedding_size = network or config.get("network"), embedding_size or config.get("embedding_size", 512)
    if network is None:
        raise ValueError(f"no config.json beside {model} says which network it is; add --network, for example r50")
    return network, embedding_size
