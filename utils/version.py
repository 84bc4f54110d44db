"""Which code this is, and what it runs on."""

import hashlib
import os
import platform
import subprocess
from pathlib import Path

import numpy as np
import torch

from utils.project import ROOT


def code_version() -> str:
    """The commit, with "-dirty" after changes; without git, a digest of the sources."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    if (ROOT / ".git").exists():
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass
    sha = hashlib.sha256()
    for path in sorted(path for part in ("recognition", "eval", "utils") for path in (ROOT / part).rglob("*.py")):
        sha.update(path.read_bytes())
    return f"sources-{sha.hexdigest()[:12]}"


def environment() -> dict[str, str]:
    """The versions that numbers may depend on, and the machine, without its name."""
    return {
        "code": code_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": f"{_cpu_name()}, {os.cpu_count()} cores",
    }


def machine(device: torch.device, processes: int) -> str:
    """What a run is measured on, as "1 x NVIDIA A100-SXM4-80GB, 64 cores" or "1 x CPU of 2 threads, Xeon, 2 cores"."""
    cores = f"{os.cpu_count()} cores"
    if device.type != "cpu":
        return f"{processes} x {torch.get_device_module(device).get_device_name(device)}, {cores}"
    return f"{processes} x CPU of {torch.get_num_threads()} threads, {_cpu_name()}, {cores}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown model")
