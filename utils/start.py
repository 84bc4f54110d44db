"""Start a training as the environment says: one process per GPU, on one machine or several.

    python -m utils.start train.py configs/demo.py lr=0.05

`./run.sh CONFIG` and `qgface train CONFIG` come here. NPROC, NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT, MAX_RESTARTS,
RENDEZVOUS_FILE and Slurm's own variables become words for torchrun (utils/launch.py); docs/running.md explains them.
Only the standard library: a mistake is said before torch is imported.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, MutableMapping, Sequence

from utils import launch

# a machine is missed after 10 s; the others wait 5 s for more of them before they start again
ELASTIC = "last_call_timeout=5,keep_alive_interval=2,keep_alive_max_attempt=5"


def main(script: str, words: list[str]) -> int:
    """Run `script` with `words` in every process of this machine; returns the exit code."""
    try:
        nproc = processes(words, os.environ)
        where = machines(os.environ)
        prepare(os.environ, nproc)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    return launch.main([*where, "--nproc-per-node", str(nproc), script, *words])


def prepare(environment: MutableMapping[str, str], nproc: int) -> None:
    """Set what training processes read when they start, where the user has not."""
    cores = os.sysconf("SC_NPROCESSORS_ONLN")
    environment.setdefault("PYTHONUNBUFFERED", "1")
    for name, value in {
        # glibc: keep freed activations instead of faulting them in anew at every step; a CPU trains 1.4 times faster
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),
        "OMP_NUM_THREADS": str(max(cores // nproc, 1)),
    }.items():
        environment[name] = environment.get(name) or value


def processes(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """How many this machine starts: NPROC, else one per GPU, one on a CPU.

    Raises:
        ValueError: NPROC is no number of processes.
    """
    asked = environment.get("NPROC")
    if not asked:
        return 1 if "device=cpu" in words else max(_gpus(environment), 1)
    if not re.fullmatch(r"[1-9][0-9]*", asked):
        raise ValueError(f"NPROC={asked}: expected a number of processes")
    return int(asked)


def _gpus(environment: Mapping[str, str]) -> int:
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return sum(1 for name in visible.split(",") if name and name[0] != "-")  # "" and -1 hide every GPU
    try:
        told = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except OSError:
        return 0
    return sum(line.startswith("GPU") for line in told.stdout.splitlines())


def machines(environment: Mapping[str, str]) -> list[str]:
    """torchrun's words for which machines take part and how they meet.

    Raises:
        ValueError: a variable that is needed is missing or makes no sense.
    """
    nodes = environment.get("NNODES") or environment.get("SLURM_NNODES") or "1"
    found = re.fullmatch(r"([1-9][0-9]*)(?::([1-9][0-9]*))?", nodes)
    if not found or int(found[1]) > int(found[2] or found[1]):
        raise ValueError(f"NNODES={nodes}: expected a number of machines, or the fewest and the most of them, as 1:2")
    elastic = found[2] is not None
    restarts = environment.get("MAX_RESTARTS") or ("3" if elastic else "0")
    if not re.fullmatch(r"[0-9]+", restarts):
        raise ValueError(f"MAX_RESTARTS={restarts}: expected a number")
    code = environment.get("STOP_EXIT_CODE") or "0"
    if not re.fullmatch(r"[0-9]{1,3}", code):
        raise ValueError(f"STOP_EXIT_CODE={code}: expected an exit code")
    words = ["--nnodes", nodes, "--max-restarts", restarts]
    if nodes == "1":
        return [*words, "--standalone"]
    if elastic or int(restarts) > 0:
        return words + _rendezvous(nodes, environment)
    return words + _fixed(int(nodes), environment)


def _rendezvous(nodes: str, environment: Mapping[str, str]) -> list[str]:
    """Of machines that may come and go, or whose processes may start again."""
    place, settings = environment.get("RENDEZVOUS_FILE"), ELASTIC
    if place:
        settings += ",store_type=file"
    else:
        host = _first_host(environment)
        if not host:
            raise ValueError(f"NNODES={nodes}: MASTER_ADDR says on which machine they meet, or RENDEZVOUS_FILE where")
        place = f"{host}:{_port(environment)}"
    name = environment.get("SLURM_JOB_ID") or "qgface"
    return ["--rdzv-backend", "c10d", "--rdzv-endpoint", place, "--rdzv-id", name, "--rdzv-conf", settings]


def _fixed(nodes: int, environment: Mapping[str, str]) -> list[str]:
    """Of machines that all stay."""
    node, host = environment.get("NODE_RANK") or environment.get("SLURM_NODEID"), _first_host(environment)
    if node and not (re.fullmatch(r"[0-9]+", node) and int(node) < nodes):
        raise ValueError(f"NODE_RANK={node}: expected 0 to {nodes - 1}")
    if not node or not host:
        raise ValueError(f"NNODES={nodes}: NODE_RANK and MASTER_ADDR say which machine this is and who leads")
    return ["--node-rank", node, "--master-addr", host, "--master-port", _port(environment)]


def _port(environment: Mapping[str, str]) -> str:
    return environment.get("MASTER_PORT") or "29500"


def _first_host(environment: Mapping[str, str]) -> str:
    """MASTER_ADDR, else the first machine of the Slurm job; "" without either."""
    nodes = environment.get("SLURM_JOB_NODELIST")
    if environment.get("MASTER_ADDR") or not nodes:
        return environment.get("MASTER_ADDR", "")
    try:
        told = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = " ".join((getattr(error, "stderr", None) or str(error)).split())
        raise ValueError(
            f"the machines of the Slurm job are not known ({reason}); MASTER_ADDR names the first"
        ) from None
    return told.stdout.partition("\n")[0]


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print("error: expected a script and its words: python -m utils.start train.py CONFIG", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
