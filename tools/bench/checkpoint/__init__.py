"""Checkpoints against torch.save and PyTorch's distributed checkpoints: `python -m tools.bench checkpoint`.

The state of a run: r18 with momentum, 100,000 classes of 512 numbers with momentum, a queue of as many rows; on one
process and on two, in turn, medians; a time of two ranks is the slower one's. Files are read from the page cache;
TMPDIR says on which disk they are written.
"""

import statistics
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from recognition.state import TrainingState
from tools.bench.checkpoint import cost
from tools.bench.checkpoint.runs import Found, Sizes, make_state, on_two_ranks, save_and_load, time_loads
from tools.bench.measure import Row
from utils.checkpoint.tensors import sync
from utils.files import file_digest

TARGETS = {"torch.save": 0.5, "dcp.save": 0.5, "dcp.async_save": 1.2}  # of the time that a save stops training


def rows(quick: bool) -> list[Row]:
    """Every case; `quick` takes a small state."""
    sizes = Sizes("tiny", 1000, 2) if quick else Sizes("r18", 100_000, 3)
    with tempfile.TemporaryDirectory() as place:
        folder, state = Path(place), make_state(sizes)
        one = save_and_load(state, folder / "1", sizes.runs)
        two, cut = on_two_ranks(sizes, folder / "2", folder / "1")
        joined = time_loads(state, folder / "2", sizes.runs, resharded=True)
        return [
            *against_peers("1 rank", one),
            *against_peers("2 ranks", two),
            *(loads("saved by 2, load on 1", joined) + loads("saved by 1, load on 2", cut)),
            *parts_of_writing(state, folder, sizes.runs),
            *cost.rows(quick, folder),
        ]


def against_peers(case: str, found: Found) -> list[Row]:
    """Ours against each peer."""
    names = {"stops": "a save stops training", "writes": "a save is on the disk", "peak": "memory of a save"}
    names |= {"files": "files"}
    made = [
        Row(f"{case}: {what}, {peer}", "s" if key in ("stops", "writes") else "MiB", values[key], found["ours"][key])
        for peer, values in found.items()
        for key, what in names.items()
        if peer != "ours"
    ]
    targets = {f"{case}: {names['stops']}, {peer}": target for peer, target in TARGETS.items()}
    return [row._replace(target=targets.get(row.case)) for row in made] + loads(f"{case}: load", found)


def loads(case: str, found: Found) -> list[Row]:
    """Ours against each peer whose load was measured."""
    peers = {name: values["load"] for name, values in found.items() if name != "ours" and "load" in values}
    return [Row(f"{case}, {name}", "s", load, found["ours"]["load"]) for name, load in peers.items()]


def parts_of_writing(state: TrainingState, folder: Path, runs: int) -> list[Row]:
    """What fsync and SHA-256 add to writing the file of a rank: they follow each other in its thread."""
    tensors = {
        name: torch.cat(value) if isinstance(value, list) else value.clone() for name, value in state.sharded().items()
    }
    file = folder / "parts.safetensors"
    steps = {
        "write": lambda: save_file(tensors, file),
        "fsync": lambda: sync(file),
        "SHA-256": lambda: file_digest(file),
    }
    took = {name: [] for name in steps}
    for _ in range(runs):
        file.unlink(missing_ok=True)
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            took[name].append(time.perf_counter() - start)
    took = {name: statistics.median(values) for name, values in took.items()}
    size = f"{file.stat().st_size / 2**30:.2g} GiB"
    return [
        Row(f"writing and {name} over writing alone, {size}", "s", took["write"], took["write"] + took[name])
        for name in ("fsync", "SHA-256")
    ]
