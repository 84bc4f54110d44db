"""Where the project lies: a checkout with its run.sh, or the packages that pip has installed.

Only the standard library: it is asked before anything else is there.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # of train.py and configs/


def is_checkout(root: Path = ROOT) -> bool:
    """Whether `root` has a run.sh; packages that pip installed have none."""
    return (root / "run.sh").is_file()


def home() -> Path:
    """Where data/ and work_dirs/ are made: the checkout, else the current folder."""
    return ROOT if is_checkout() else Path.cwd()


def shown(name: str) -> str:
    """A command as a user types it: "train" is ./run.sh or qgface train, "eval" is ./run.sh eval or qgface eval."""
    if not is_checkout():
        return f"qgface {name}"
    return "./run.sh" if name == "train" else f"./run.sh {name}"


def training(root: Path = ROOT) -> list[str]:
    """The words that start a training, on which its config and `key=value` follow."""
    return [str(root / "run.sh")] if is_checkout(root) else [sys.executable, str(root / "qgface.py"), "train"]
