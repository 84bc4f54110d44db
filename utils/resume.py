"""Whether a run goes on from an earlier one, and whether it may."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from utils import parallel
from utils.checkpoint import Checkpoint, CheckpointError, check, every, newest_whole
from utils.run_folder import RunFolder

# keys that may differ between the parts of a run: places, machines, what is kept and told; data has its digest
FREE = (
    *("name", "preset", "rec", "cache", "cache_limit", "val_dir", "val_targets", "val_pairs", "output", "pretrained"),
    *("val_faces", "num_workers", "recordio_backend", "device", "compile", "memory_budget", "num_classes"),
    *("num_image", "resume", "resume_changes", "overwrite", "keep_checkpoints", "keep_every", "save_every", "frequent"),
    *("verbose", "diagnose_every", "max_step", "max_time", "step_timeout", "nonfinite", "nonfinite_limit", "corrupt"),
)
SIZES = ("batch_size", "total_batch_size")  # together: the images of a step
# keys that decide what the tensors and the position of a checkpoint mean
FIXED = (
    *("network", "embedding_size", "optimizer", "momentum", "pool", "queue_size", "queue_dtype", "queue_delta"),
    *("quality_source", "quality_lq_share"),
    *("gradient_acc", "seed", "shuffle_shards", *SIZES),
)
STATE = {"config": dict, "data": dict, "last_step": int, "number": int, "damaged": list, "parts": dict}  # of state.json


def find(folder: Path, resume: bool | str, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole checkpoint, or None where a run starts anew. All ranks together.

    Args:
        folder: of the checkpoints.
        resume: "auto": go on if there is a checkpoint; True: there must be one; False: start anew.
        say: prints a line.

    Raises:
        CheckpointError: none is whole, or none is there and `resume` is True, or the newest has another format.
    """
    if resume is False:
        return None

    def check_together(path: Path) -> list[str]:
        return sum(parallel.objects(check(path, parallel.rank(), parallel.world_size())), [])

    names = parallel.objects([path.name for path in every(folder)])[0]  # machines may call the folder differently
    path, damaged = newest_whole([folder / name for name in names], check_together)
    for line in damaged if parallel.rank() == 0 else []:
        say(f"note: {line}")
    if path is not None:
        if damaged and parallel.rank() == 0:
            say(f"note: going on from {path}, the newest whole one")
        return Checkpoint(path)
    if damaged:
        raise CheckpointError(f"no checkpoint in {folder} is whole: output=FOLDER starts another run beside them")
    if resume is True:
        raise CheckpointError(f"resume=True: no checkpoint in {folder}; resume='auto' starts where there is none")
    return None


def set_aside(folder: Path, step: int) -> None:
    """Checkpoints after `step` were not whole: they get another name, so that they neither count nor are lost."""
    for path in every(folder) if parallel.rank() == 0 else []:
        if int(path.name.removeprefix("step_")) > step:
            target = path.with_name(f"{path.name}.damaged")
            number = 1
            while target.exists():
                number += 1
                target = path.with_name(f"{path.name}.damaged_{number}")
            path.rename(target)


def differences(saved: Mapping, config: Mapping, accepted: Sequence[str] = ()) -> list[str]:
    """Keys that must not differ between the parts of a run, but do: a phrase for each.

    Args:
        saved: an earlier config, from JSON. Keys that it does not have were not known to its version.
        config: of this run.
        accepted: keys that may differ all the same.
    """
    config = json.loads(json.dumps(config))  # lists for tuples
    keys = [key for key in config if key in saved and key not in FREE and key not in SIZES and key not in accepted]
    return [f"{key}={saved[key]!r}, now {config[key]!r}" for key in keys if saved[key] != config[key]]


def images_a_step(config: Mapping, saved: Mapping | None, ranks: int) -> int:
    """P over all ranks: a run that goes on keeps it, on any number of ranks.

    Args:
        config: of this run; `total_batch_size`, or `batch_size` for each rank.
        saved: config of the run's earlier part, where there is one; its `total_batch_size` is known.
        ranks: how many there are now.

    Raises:
        ValueError: this config wants another number than the run has had.
    """
    wanted = config["total_batch_size"] or config["batch_size"] * ranks
    if saved is None:
        return wanted
    if _other_step(config, saved, ranks):
        raise ValueError(
            f"images a step: {saved['total_batch_size']} in the run so far, now {wanted}; "
            f"total_batch_size={saved['total_batch_size']} keeps it, output=FOLDER starts another run, "
            f"overwrite=True replaces this one"
        )
    return saved["total_batch_size"]


def _other_step(config: Mapping, saved: Mapping, ranks: int) -> bool:
    """The same words on another number of ranks mean the same step."""
    wanted = config["total_batch_size"] or config["batch_size"] * ranks
    same_words = config["total_batch_size"] is None and config["batch_size"] == saved.get("batch_size")
    return wanted != saved["total_batch_size"] and not same_words


class Earlier(NamedTuple):
    """What is there of a run: its newest whole checkpoint, and its config (also of one that ended before its first)."""

    checkpoint: Checkpoint | None
    config: dict | None


def earlier(folder: RunFolder, config: Mapping, data: Mapping, say: Callable[[str], None]) -> Earlier:
    """What this run goes on from. All ranks together; nothing is written.

    With `overwrite`, a run of another config or data and one that has ended are not gone on with, but replaced; one
    that was stopped in its last evaluation has not ended.

    Args:
        folder: of the run.
        config: of this run.
        data: what the training data is.
        say: prints a line.

    Raises:
        CheckpointError: no checkpoint that can be gone on with; or it is of another config or other data.
        ValueError: `resume_changes` with a key that cannot change.
    """
    if config["resume"] is False:
        return Earlier(None, None)
    fixed = [key for key in config["resume_changes"] if key in FIXED]
    if fixed:
        raise ValueError(f"resume_changes: {', '.join(fixed)} cannot change within a run; output=FOLDER starts another")
    found = find(folder / "checkpoints", config["resume"], say)
    if found is None:
        saved = parallel.objects(folder.unfinished())[0]
        other = saved is None or differences(saved, config) or _other_step(config, saved, parallel.world_size())
        return Earlier(None, None if other else saved)
    _check_state(found)
    wrong = differences(found.state["config"], config, config["resume_changes"])
    wrong += [f"{name} of the data {found.state['data'].get(name)!r}, now {v!r}" for name, v in data.items()
              if found.state["data"].get(name) != v]  # fmt: skip
    if config["overwrite"]:
        ended = found.step >= found.state["last_step"] and folder.has_ended()
        if wrong or ended or _other_step(config, found.state["config"], parallel.world_size()):
            return Earlier(None, None)
    if wrong:
        raise CheckpointError(
            f"checkpoint {found.path} is of another run: {', '.join(wrong)}; output=FOLDER starts one beside it, "
            f"overwrite=True replaces it, resume_changes=[KEY ...] goes on with another config"
        )
    return Earlier(found, found.state["config"])


def _check_state(found: Checkpoint) -> None:
    lacking = [name for name, kind in STATE.items() if not isinstance(found.state.get(name), kind)]
    if not lacking and not isinstance(found.state["config"].get("total_batch_size"), int):
        lacking = ["config.total_batch_size"]
    if lacking:
        raise CheckpointError(f"checkpoint {found.path}: its state lacks {', '.join(lacking)}, no training wrote it")
