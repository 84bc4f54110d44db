"""Models from files: which network, and how pixels become its input (the colour contract)."""

from recognition.models.facts import run_config
from recognition.models.files import read_tensors, save_model, write_state
from recognition.models.model import Model, open_model

__all__ = ["Model", "open_model", "read_tensors", "run_config", "save_model", "write_state"]
