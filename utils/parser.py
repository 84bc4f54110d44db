"""How every command reads its words; only the standard library."""

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are the same one line as every other mistake's.

    The description is a module's docstring: what the command does, an example command line, the rest.
    """

    def __init__(self, prog: str, description: str | None):
        super().__init__(prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; {self.prog} --help shows how it is used")
