"""Cores, memory, shared memory, open files, a port, and the folder that runs go to."""

import os
import resource
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from utils.machine import GIB, OK, PROBLEM, WARNING, Finding

MIB = 2**20
ROOM = 10 * GIB  # of a run's folder: three checkpoints of a ResNet-50 and 360,000 identities
MEMORY = 4 * GIB  # PyTorch, its loader processes and a small network
SHARED = GIB  # of /dev/shm: what NCCL takes for eight GPUs, with room
FILES = 1024  # descriptors: sockets to each process, record files, checkpoints
SLOW = 50 * MIB  # bytes a second
PROBE = 32 * MIB
NETWORK = ("nfs", "cifs", "smb", "fuse", "lustre", "gpfs", "beegfs", "ceph", "9p")


def cores(processes: int, workers: int, group: Path = Path("/sys/fs/cgroup")) -> Finding:
    """The cores that this process may use, by its mask and its cgroup, beside what wants one: each training process
    and its loaders.
    """
    there, allowed = os.cpu_count() or 1, len(os.sched_getaffinity(0))
    share = _cpu_limit(group)
    usable = allowed if share is None else min(allowed, share)
    found = f"{usable:g} of {there} cores, for {processes} training and {processes * workers} loader processes"
    if usable < there:
        threads = max(int(usable) // processes, 1)
        mend = f"OMP_NUM_THREADS={threads}, or more cores for the container (docker --cpus, Slurm -c)"
        return Finding(WARNING, "CPU", f"{found}; PyTorch counts on all", mend)
    if usable < processes * (workers + 1) / 2:
        return Finding(WARNING, "CPU", found, "use fewer num_workers, or fewer processes (NPROC)")
    return Finding(OK, "CPU", found)


def _cpu_limit(group: Path) -> float | None:
    """Cores of the cgroup's quota, version 2 or 1; None: no limit."""
    for path, split in (("cpu.max", None), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = (group / path).read_text().split()
            words += [(group / split).read_text()] if split else []
            return None if words[0] in ("max", "-1") else int(words[0]) / int(words[1])
        except (OSError, ValueError, IndexError):
            continue
    return None


def memory(group: Path = Path("/sys/fs/cgroup"), meminfo: Path = Path("/proc/meminfo")) -> Finding:
    """What is free, by the kernel and by the cgroup."""
    try:
        free = next(int(line.split()[1]) * 1024 for line in meminfo.read_text().splitlines() if "MemAvailable" in line)
    except (OSError, StopIteration):
        return Finding(WARNING, "memory", "unknown: /proc/meminfo does not say")
    where = ""
    for limit, used in (("memory.max", "memory.current"),
                        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):  # fmt: skip
        try:
            left = int((group / limit).read_text()) - int((group / used).read_text())
        except (OSError, ValueError):
            continue
        if left < free:
            free, where = left, " in this container"
    found = f"{free / GIB:.1f} GiB free{where}"
    if free < MEMORY:
        return Finding(
            WARNING, "memory", found, "end other programs, or use fewer num_workers and a smaller batch_size"
        )
    return Finding(OK, "memory", found)


def shared_memory(processes: int, place: Path = Path("/dev/shm")) -> Finding:
    """/dev/shm, which NCCL uses between the GPUs of a machine; our loader processes do not need it."""
    try:
        size, free = shutil.disk_usage(place)[::2]
    except OSError:
        size = free = 0
    found = f"{free / GIB:.2f} of {size / GIB:.2f} GiB free in {place}"
    if free >= SHARED:
        return Finding(OK, "shared memory", found)
    mend = "docker run --shm-size=8g (or --ipc=host); Kubernetes: an emptyDir of medium Memory there"
    if processes > 1:
        return Finding(PROBLEM, "shared memory", f"{found}, too little for NCCL between {processes} GPUs", mend)
    return Finding(
        OK, "shared memory", f"{found}; enough for one process, several GPUs would need {SHARED / GIB:.0f} GiB"
    )


def open_files(limits: tuple[int, int] | None = None) -> Finding:
    """How many files a process may have open."""
    soft, hard = limits or resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Finding(OK, "open files", "no limit")
    if soft >= FILES:
        return Finding(OK, "open files", f"at most {soft}")
    able = hard == resource.RLIM_INFINITY or hard >= FILES
    mend = f"ulimit -n {FILES * 4}" if able else "the administrator raises nofile in /etc/security/limits.conf"
    return Finding(WARNING, "open files", f"at most {soft}; many processes or tar files need {FILES}", mend)


def port(host: str = "127.0.0.1") -> Finding:
    """Whether processes of this machine can meet."""
    try:
        with socket.create_server((host, 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
            return Finding(OK, "loopback", f"a port of {host} can be opened and reached")
    except OSError as error:
        found = f"no connection over {host} ({error.strerror or error})"
        return Finding(PROBLEM, "loopback", found, "the processes of a run meet there: ip link set lo up")


def folder(output: Path) -> Iterator[Finding]:
    """Whether runs can be written to `output`: room, file system, speed."""
    place = next(path for path in (output.absolute(), *output.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        yield Finding(PROBLEM, "disk", f"{place} cannot be written", "output=FOLDER names another place")
        return
    free, kind = shutil.disk_usage(place).free, file_system(place)
    found = f"{free / GIB:.1f} GiB free in {place} ({kind})"
    if free < PROBE * 4:
        yield Finding(PROBLEM, "disk", found, "make room, or output=FOLDER on another disk")
        return
    if free < ROOM:
        yield Finding(WARNING, "disk", found, "keep_checkpoints=1 takes less; output=FOLDER names another disk")
    else:
        yield Finding(OK, "disk", found)
    yield _speed(place, kind)


def _speed(place: Path, kind: str) -> Finding:
    probe = place / f".speed.{os.getpid()}"
    try:
        began = time.monotonic()
        with open(probe, "wb") as file:
            file.write(os.urandom(PROBE))
            file.flush()
            os.fsync(file.fileno())
        speed = PROBE / max(time.monotonic() - began, 1e-6)
    except OSError as error:
        return Finding(
            PROBLEM, "disk speed", f"{place} cannot be written ({error.strerror})", "output=FOLDER names another"
        )
    finally:
        probe.unlink(missing_ok=True)
    where = (
        "a network disk" if kind.startswith(NETWORK) else "in memory, lost at a restart" if kind == "tmpfs" else kind
    )
    found = f"{speed / MIB:.0f} MiB/s written, {where}; a checkpoint of 1 GiB takes {GIB / speed:.0f} s"
    if speed < SLOW:
        return Finding(WARNING, "disk speed", found, "a larger save_every, or output=FOLDER on a faster disk")
    return Finding(OK, "disk speed", found)


def file_system(place: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The type of the file system that a folder is on, such as "ext4"; "unknown" where it cannot be told."""
    try:
        rows = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        rows = []
    path = str(place.resolve())
    below = [(len(row[1]), row[2]) for row in rows if f"{path}/".startswith(row[1].rstrip("/") + "/")]
    return max(below)[1] if below else "unknown"
