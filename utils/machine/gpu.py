"""GPUs as the driver sees them and as PyTorch does, and what lets several of them talk.

PyTorch is asked in a process of its own: one that cannot be imported, or crashes, is a finding.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator

from utils.machine import GIB, OK, PROBLEM, WARNING, Finding

PROBE = """
import json, torch
cuda = torch.cuda
there = cuda.is_available()
numbers = range(cuda.device_count() if there else 0)
gpus = [(cuda.get_device_name(n), cuda.get_device_properties(n).total_memory) for n in numbers]
for n in numbers:
    torch.ones(8, device=f"cuda:{n}").sum().item()
nccl = torch.distributed.is_available() and torch.distributed.is_nccl_available()
version = ".".join(map(str, cuda.nccl.version())) if nccl and there else None
gloo = torch.distributed.is_available() and torch.distributed.is_gloo_available()
print(json.dumps(dict(version=torch.__version__, cuda=torch.version.cuda, hip=torch.version.hip,
                      gpus=gpus, nccl=version, gloo=gloo)))
"""
SECONDS = 120  # an import from a slow disk


def ask_torch() -> dict:
    """What PyTorch says of itself; {"error": why} where it says nothing."""
    try:
        told = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return {"error": f"PyTorch did not answer within {SECONDS} s"}
    if told.returncode:
        return {"error": (told.stderr.strip().splitlines() or [f"exit code {told.returncode}"])[-1]}
    return json.loads(told.stdout.splitlines()[-1])


def ask_driver() -> dict | None:
    """The GPUs, driver and newest CUDA of nvidia-smi; None without it, {"error": why} where it fails."""
    try:
        told = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=SECONDS)
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=SECONDS)
    except FileNotFoundError:
        return None
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)}
    if told.returncode:
        return {"error": " ".join((told.stdout + told.stderr).split()) or f"exit code {told.returncode}"}
    driver, cuda = (re.search(rf"{name} Version: *([0-9.]+)", told.stdout) for name in ("Driver", "CUDA"))
    gpus = [line for line in listed.stdout.splitlines() if line.startswith("GPU")]
    return {"gpus": gpus, "driver": driver and driver[1], "cuda": cuda and cuda[1]}


def findings(torch: dict, driver: dict | None) -> Iterator[Finding]:
    """Of PyTorch, the GPUs and NCCL."""
    if "error" in torch:
        yield Finding(PROBLEM, "PyTorch", f"does not work: {torch['error']}", "./run.sh setup installs it")
        return
    built = f"CUDA {torch['cuda']}" if torch["cuda"] else f"ROCm {torch['hip']}" if torch["hip"] else "CPUs only"
    yield Finding(OK, "PyTorch", f"{torch['version']}, built for {built}")
    yield _gpus(torch, driver)
    if torch["gpus"]:
        yield _nccl(torch)
    if not torch["gloo"]:  # several GPUs need it beside NCCL, for messages between hosts
        level = PROBLEM if len(torch["gpus"]) > 1 else WARNING
        yield Finding(level, "gloo", "this PyTorch has none: one process only", "install one of pytorch.org")


def _gpus(torch: dict, driver: dict | None) -> Finding:
    if torch["gpus"]:
        names = [f"{name} of {memory / GIB:.0f} GiB" for name, memory in torch["gpus"]]
        kinds = ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
        if driver and len(driver.get("gpus", ())) > len(names):
            found = f"{kinds}; the driver has {len(driver['gpus'])}"
            return Finding(WARNING, "GPU", found, "CUDA_VISIBLE_DEVICES hides the others, or they are in use")
        return Finding(OK, "GPU", kinds)
    if driver is None:
        return Finding(
            WARNING, "GPU", "none: no nvidia-smi; training uses the CPU", "install NVIDIA's driver if there is a GPU"
        )
    if "error" in driver:
        return Finding(PROBLEM, "GPU", f"nvidia-smi fails: {driver['error']}", "install the driver again, and reboot")
    if not driver["gpus"]:
        return Finding(WARNING, "GPU", "nvidia-smi lists none", "in a container: docker run --gpus all")
    if not torch["cuda"]:
        found = f"{len(driver['gpus'])} are there, and this PyTorch is for CPUs only"
        return Finding(PROBLEM, "GPU", found, "install torch from its CUDA index (docs/install.md)")
    if driver["cuda"] and _number(torch["cuda"]) > _number(driver["cuda"]):
        found = f"PyTorch is built for CUDA {torch['cuda']}, and driver {driver['driver']} knows up to {driver['cuda']}"
        return Finding(PROBLEM, "GPU", found, "update the driver, or install torch for an older CUDA")
    return Finding(PROBLEM, "GPU", f"the driver has {len(driver['gpus'])}, and PyTorch sees none",
                   "look at CUDA_VISIBLE_DEVICES, and at /dev/nvidia* in a container")  # fmt: skip


def _nccl(torch: dict) -> Finding:
    if torch["nccl"]:
        return Finding(OK, "NCCL", torch["nccl"])
    if torch["hip"] or len(torch["gpus"]) == 1:
        return Finding(WARNING, "NCCL", "this PyTorch has none: one GPU only", "install torch of pytorch.org")
    return Finding(
        PROBLEM, "NCCL", f"this PyTorch has none, for {len(torch['gpus'])} GPUs", "install torch of pytorch.org"
    )


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])
