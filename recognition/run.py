"""A run of training: its checkpoints and model.pt, when it stops, and what it says of itself."""

import os
import shlex
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from recognition.build import autocast_dtype
from recognition.models import save_model
from recognition.state import TrainingState, norm_statistics
from utils import checkpoint, parallel, project, resume
from utils.log import RunLog
from utils.run_folder import RunFolder
from utils.stop import Stop
from utils.version import code_version, machine


class Run:
    """What a run keeps in its folder: config.json, checkpoints, model.pt.

    Args:
        cfg: the resolved config.
        world: this process.
        folder: of the run.
        state: whatever a step changes.
        data: what identifies the training faces.
        last_step: the run's.
        parts: by name, what has a state_dict of numbers: loss scale, running means, counters.
        damaged: the list in which training notes the samples that it left out; `start` puts the earlier ones into it.
    """

    def __init__(
        self,
        cfg,
        world: parallel.World,
        folder: RunFolder,
        state: TrainingState,
        data: dict[str, object],
        last_step: int,
        parts: dict[str, Any],
        damaged: list[str],
    ):
        self.cfg, self.world, self.folder, self.state, self.damaged = cfg, world, folder, state, damaged
        self.parts = parts
        self.facts: dict[str, Any] = {
            "data": data, "last_step": last_step, "code": code_version(), "torch": torch.__version__,
            "machine": machine(world.device, world.size),
        }  # fmt: skip
        self.number = 0  # of the newest checkpoint

    def start(self, earlier: resume.Earlier) -> int:
        """Begin, or go on from a checkpoint; returns its step. The folder is touched last, when all else is right."""
        saved = earlier.checkpoint
        if saved is not None:
            self.state.load(saved)
            for name, part in self.parts.items():
                if saved.state["parts"][name]:  # empty where the checkpoint's machine needed none
                    part.load_state_dict(saved.state["parts"][name])
            self.damaged += saved.state["damaged"]
            self.number = saved.state["number"]
        self.folder.open()
        if saved is None:
            self.folder.begin(self.cfg, self.cfg.overwrite or earlier.config is not None)
        elif self.world.rank == 0:
            resume.set_aside(self.folder / "checkpoints", saved.step)
            self.folder.write_config(self.cfg)
            if saved.step >= self.facts["last_step"]:  # it may have been killed before it wrote the last model.pt
                self._write_model(saved.shared)
        kept = self.cfg.keep_checkpoints, self.cfg.keep_every
        self.saver = checkpoint.Saver(self.folder / "checkpoints", *kept, done=self._write_model)
        return saved.step if saved else 0

    def save(self, step: int, images: int, log: RunLog) -> None:
        """Take a checkpoint after `step` steps of `images` each: it and model.pt are written while training goes on."""
        log.pause()
        log.flush()
        self.number += 1
        state = {
            "number": self.number, "images": step * images, **self.facts, "damaged": self.all_damaged(),
            "config": self.cfg, "parts": {name: part.state_dict() for name, part in self.parts.items()},
        }  # fmt: skip
        self.saver.save(step, self.state.shared(), self.state.sharded(), state)
        log.resume()

    def _write_model(self, shared: dict[str, torch.Tensor] | checkpoint.TensorFile) -> None:
        if not (self.folder / "config.json").exists():  # the folder was removed meanwhile
            self.folder.write_config(self.cfg)
        own = self.state.backbone.state_dict()
        tensors = OrderedDict((name, shared[f"backbone.{name}"]) for name in own)
        tensors._metadata = own._metadata  # type: ignore[attr-defined]  # PyTorch adds it
        norms = norm_statistics(self.cfg, shared)
        save_model(self.folder / "model.pt", tensors, self.cfg.network, self.cfg.embedding_size, *norms)
        self.folder.keep()

    def all_damaged(self) -> list[str]:
        """What was wrong with the samples that this epoch has left out so far, on any rank."""
        return sorted({line for lines in parallel.objects(self.damaged) for line in lines})

    def agree(self, stop: Stop) -> str | None:
        """Why all ranks stop after this step, if one of them is to.

        Raises:
            OSError: a checkpoint could not be written.
        """
        why = stop.asked()
        wanted, failed = parallel.most(why is not None, self.saver.error is not None)
        if failed:
            self.saver.check()
        return next(filter(None, parallel.objects(why))) if wanted else None


def describe(cfg, source, targets, world, pairs, steps_per_epoch, last_step, start_step) -> str:
    """What is about to run, in three lines."""
    ended = "; the run has ended already" if start_step >= last_step else ""
    method = f"loss {cfg.loss}, threshold {cfg.quality_threshold}, pool {cfg.pool}, views {' + '.join(cfg.views)}"
    autocast = autocast_dtype(cfg, world.device.type)
    precision = "float32" if autocast is None else f"autocast {cfg.amp_dtype}"
    return (
        f"data    {source.name}: {len(source)} images of {source.num_classes} identities; "
        f"evaluation {', '.join(targets) or 'none'}\n"
        f"model   {cfg.network}, {cfg.embedding_size}-d; {method}\n"
        f"run     {last_step} steps of {pairs} images, {steps_per_epoch} an epoch, on "
        f"{world.size} x {world.device.type}, {precision}"
        + (f", from step {start_step} on{ended}" if start_step else "")
    )


def stopped_at(step: int, last_step: int, why: str, words: list[str], goes_on: bool | str) -> str:
    """How a run goes on that was stopped; `goes_on` is the config's `resume`: with False it would be refused."""
    words = words if goes_on else [*(word for word in words if not word.startswith("resume=")), "resume=auto"]
    command = f"{project.shown('train')} {shlex.join(words)}"
    return f"stopped     by {why} at step {step} of {last_step}; everything is saved\nresume with: {command}"


def farewell(folder: Path, results: dict, cfg) -> str:
    """Where everything is and what to do next."""
    shown = os.path.relpath(folder)
    report = [f"report      {shown}/report.html"] if (folder / "report.html").exists() else []
    return "\n".join(
        [
            f"model       {shown}/model.pt",
            f"results     {shown}/results.json" if results else "results     none; val_targets names the targets",
            *report,
            f"log         {shown}/metrics.jsonl, tensorboard --logdir {shown}/tensorboard",
            f"checkpoint  {shown}/checkpoints",
            f"next        {project.shown('train')} celeba_small rec=FOLDER     train on your own faces (docs/data.md)"
            if cfg.name == "demo"
            else f"next        {project.shown('eval')} {shown}/model.pt --data FOLDER --target lfw",
        ]
    )
