"""Faces drawn by code: a data set for the demo that needs no download."""

from recognition.data.synthetic.draw import draw
from recognition.data.synthetic.write import write_demo

__all__ = ["draw", "write_demo"]
