"""What a run writes while it trains: a progress bar, metrics.jsonl, TensorBoard."""

import json
import math
import time
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm


class RunLog:
    """Writes on rank 0 only; other ranks' calls do nothing.

    Args:
        folder: the run folder.
        total: steps of the whole run.
        start: the step it continues from; lines of metrics.jsonl after it are dropped.
        enabled: rank 0.
    """

    def __init__(self, folder: Path, total: int, start: int, enabled: bool):
        self.enabled, self.start = enabled, start
        if not enabled:
            return
        self.folder, path = folder, folder / "metrics.jsonl"
        path.write_text("".join(_lines_until(path, start)))
        if start and (folder / "damaged.txt").exists():
            _keep_until(folder / "damaged.txt", start)
        self.metrics = path.open("a", buffering=1)
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1 if start else None)
        self.bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True, mininterval=1.0)
        self.clock, self.clock_samples = time.perf_counter(), 0

    def step(self, step: int, samples: int, values: dict[str, float] | None) -> None:
        """Count one step of `samples` images; with `values`, write a line (adds step and samples_per_s)."""
        if not self.enabled:
            return
        self.clock_samples += samples
        self.bar.update(1)
        if values is None:
            return
        now = time.perf_counter()
        rate = self.clock_samples / (now - self.clock)
        self.clock, self.clock_samples = now, 0
        line = {"step": step, **values, "samples_per_s": rate}
        line = {name: value if math.isfinite(value) else None for name, value in line.items()}  # JSON has no infinity
        self.metrics.write(json.dumps(line) + "\n")
        for name, value in line.items():
            if name not in ("step", "epoch") and value is not None:
                self.board.add_scalar(f"train/{name}", value, step)
        self.bar.set_postfix_str(
            f"loss {values['loss_classification']:.3f}+{values['loss_contrastive']:.3f} lr {values['lr']:.4g} "
            f"LQ {values['lq_pairs']:.0%} {rate:.0f} img/s"
        )

    def damaged(self, step: int, epoch: int, lines: list[str]) -> None:
        """What was wrong with the samples that an epoch left out: on screen, all of them in damaged.txt."""
        if not self.enabled or not lines:
            return
        with (self.folder / "damaged.txt").open("a") as file:
            file.writelines(f"step {step}\tepoch {epoch}\t{line}\n" for line in lines)
        more = [f"... {len(lines) - 10} more in {self.folder / 'damaged.txt'}"] if len(lines) > 10 else []
        self.say("\n  ".join([f"epoch {epoch}: {len(lines)} damaged samples were left out", *lines[:10], *more]))

    def pause(self) -> None:
        """Leave evaluation and saving out of samples_per_s."""
        if self.enabled:
            self.paused = time.perf_counter()

    def resume(self) -> None:
        """The end of `pause`."""
        if self.enabled:
            self.clock += time.perf_counter() - self.paused

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Evaluation results for TensorBoard."""
        if self.enabled:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def say(self, text: str) -> None:
        """Print above the progress bar."""
        if self.enabled:
            tqdm.write(text)

    def close(self) -> None:
        """Flush and close."""
        if self.enabled:
            self.bar.close()
            self.board.close()
            self.metrics.close()


def _lines_until(path: Path, start: int) -> list[str]:
    """The lines of an earlier part of the run; one that was cut when it ended is left out."""
    kept = []
    for line in path.read_text().splitlines() if start and path.exists() else []:
        try:
            if json.loads(line)["step"] <= start:
                kept.append(line + "\n")
        except ValueError:
            continue
    return kept


def _keep_until(path: Path, start: int) -> None:
    """Of a list of damaged samples, what was told until then."""
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if int(line.split("\t")[0].removeprefix("step ")) <= start))


class Means:
    """Running means of the losses between two lines of the log; kept on the device until they are read."""

    def __init__(self):
        self.sums, self.count = None, 0

    def add(self, parts: list) -> None:
        """The losses of a step's micro-batches."""
        for losses in parts:
            values = torch.stack([losses.classification, losses.contrastive, losses.hq_share, losses.lq_pairs]).double()
            self.sums = values if self.sums is None else self.sums + values
        self.count += len(parts)

    def take(self) -> dict[str, float]:
        """The means, nan where every step was skipped; starts anew."""
        means = (self.sums / self.count).tolist() if self.count else [math.nan] * 4
        self.sums, self.count = None, 0
        return dict(zip(("loss_classification", "loss_contrastive", "hq_samples", "lq_pairs"), means, strict=True))
