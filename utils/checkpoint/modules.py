"""State dicts into modules."""

import torch

from utils.checkpoint.tensors import CheckpointError


def load_module(module: torch.nn.Module, tensors: dict[str, torch.Tensor], source: str, assign: bool = False) -> None:
    """Load a state dict whose names and shapes must be the module's own.

    Args:
        source: how a message calls it.
        assign: put the tensors themselves in place, instead of copying their values.

    Raises:
        CheckpointError: names the first differences: it is a checkpoint of another network.
    """
    own = module.state_dict()
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unknown:
        raise CheckpointError(
            f"{source} is of another network: {len(missing)} tensors are missing {missing[:2]}, "
            f"{len(unknown)} are unknown {unknown[:2]}"
        )
    for name, tensor in own.items():
        if tensors[name].shape != tensor.shape:
            raise CheckpointError(
                f"{source} is of another network: {name} has shape {tuple(tensors[name].shape)}, "
                f"expected {tuple(tensor.shape)}"
            )
    module.load_state_dict(tensors, assign=assign)
