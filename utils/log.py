"""What a run writes while it trains: a progress bar (where there is no terminal, lines), metrics.jsonl,
diagnostics.jsonl, TensorBoard, damaged.txt.

metrics.jsonl, and diagnostics.jsonl for histograms, are the truth. TensorBoard's file is made from them at every start,
so that all go on without gaps or doubles wherever the run was killed and whichever step it is resumed from.
"""

import math
import os
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from utils import log_lines, parallel
from utils.append_file import AppendFile


class RunLog:
    """Writes on rank 0 only; other ranks' calls do nothing.

    A line is in its files when the call returns. If the files were removed meanwhile, the next call writes them again.

    Args:
        folder: the run folder.
        total: steps of the whole run.
        start: the step it continues from; what was written of later steps is dropped.
        enabled: rank 0.

    Raises:
        OSError: a file cannot be written, here or in any other method: the disk is full, or such; says what to do.
    """

    def __init__(self, folder: Path, total: int, start: int, enabled: bool):
        self.enabled, self.start = enabled, start
        self.evaluated: dict[int, set[str]] = {}  # step -> the names that have been written
        if not enabled:
            return
        damages, unread = log_lines.until(folder / "damaged.txt", start, log_lines.read_damage)
        lines, also_unread = log_lines.until(folder / "metrics.jsonl", start, log_lines.read_metrics)
        shapes, unread_too = log_lines.until(folder / "diagnostics.jsonl", start, log_lines.read_histograms)
        now = time.time()
        self.damages = AppendFile(folder / "damaged.txt", [line for line, _ in damages])
        self.metrics = AppendFile(folder / "metrics.jsonl", [line for line, _ in lines])
        self.histograms = AppendFile(folder / "diagnostics.jsonl", [line for line, _ in shapes])
        pieces = [log_lines.opening(now), *(log_lines.event(values) for _, values in lines)]
        pieces += [log_lines.histogram_event(values) for _, values in shapes]
        self.board = AppendFile(folder / "tensorboard" / f"events.out.tfevents.{now:.6f}", pieces)
        for _, values in lines:
            self._remember_evaluation(values)
        self._replace_files()
        self.bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True, mininterval=1.0, disable=None)
        self.written = start  # the step of the last line
        if unread := unread + also_unread + unread_too:
            files = "metrics.jsonl, diagnostics.jsonl and damaged.txt"
            self.say(f"note: {unread} unreadable lines of {files} were dropped")
        self.clock, self.clock_samples = time.perf_counter(), 0

    def _replace_files(self) -> None:
        self._update_files()
        for file in {self.damages, self.histograms} - set(self._files()):
            file.path.unlink(missing_ok=True)
        for old in set(self.board.path.parent.glob("*tfevents*")) - {self.board.path}:
            if old.stat().st_size:
                os.truncate(old, 0)  # an open TensorBoard finds the next file from the one that it reads
            else:
                old.unlink()

    def step(self, step: int, samples: int, values: dict[str, float] | None) -> None:
        """Count one step of `samples` images; with `values`, write a line (adds step, time and samples_per_s)."""
        if not self.enabled:
            return
        self.clock_samples += samples
        self.bar.update(1)
        if values is None:
            return
        now = time.perf_counter()
        spent, self.clock = now - self.clock, now
        rate, self.clock_samples = self.clock_samples / spent, 0
        left = spent / (step - self.written) * (self.bar.total - step)
        self.written = step
        self._write(step, {**values, "samples_per_s": rate})
        text = (
            f"loss {values['loss_classification']:.3f}+{values['loss_contrastive']:.3f} lr {values['lr']:.4g} "
            f"LQ {values['lq_pairs']:.0%} {rate:.0f} img/s"
        )
        if self.bar.disable:  # no terminal: a bar would be one endless line
            self.say(f"step {step}/{self.bar.total} epoch {values['epoch']} {text} left {tqdm.format_interval(left)}")
        self.bar.set_postfix_str(text)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Write a line of evaluation results; those that the step has already are left out.

        Args:
            values: by name, which begins with "val/".
        """
        if not self.enabled:
            return
        known = self.evaluated.get(step, ())
        new = {name: float(value) for name, value in values.items() if name not in known}
        if new:
            self._remember_evaluation(self._write(step, new))

    def diagnosis(self, step: int, seen: tuple[dict[str, float], dict[str, dict]] | None) -> None:
        """Write what was seen of the method at a step: a line of metrics.jsonl, and one of histograms.

        Args:
            seen: numbers, and histograms with `least`, `most`, `mean`, `std` and `counts`, by name; None: nothing.
        """
        if not self.enabled or seen is None:
            return
        numbers, histograms = seen
        line = {"step": step, "time": time.time(), **histograms}
        self.histograms.pieces.append(log_lines.write_histograms(line))
        self.board.pieces.append(log_lines.histogram_event(line))
        self._write(step, {f"diag/{name}": value for name, value in numbers.items()})

    def has_evaluation(self, step: int) -> bool:
        """Whether results of an evaluation at `step` are in the log; all ranks call together and hear the same."""
        return parallel.objects(step in self.evaluated)[0]

    def damaged(self, step: int, epoch: int, lines: list[str]) -> None:
        """What was wrong with the samples that an epoch left out: on screen, all of them in damaged.txt."""
        if not self.enabled or not lines:
            return
        lines = [line.encode(errors="backslashreplace").decode() for line in lines]  # names of files can be any bytes
        self.damages.pieces += [log_lines.write_damage(step, epoch, line) for line in lines]
        self._update_files()
        more = [f"... {len(lines) - 10} more in {self.damages.path}"] if len(lines) > 10 else []
        self.say("\n  ".join([f"epoch {epoch}: {len(lines)} damaged samples were left out", *lines[:10], *more]))

    def pause(self) -> None:
        """Leave evaluation and saving out of samples_per_s."""
        if self.enabled:
            self.paused = time.perf_counter()

    def resume(self) -> None:
        """The end of `pause`."""
        if self.enabled:
            self.clock += time.perf_counter() - self.paused

    def say(self, text: str) -> None:
        """Print above the progress bar, at once."""
        if self.enabled:
            tqdm.write(text)
            sys.stdout.flush()

    def flush(self) -> None:
        """Return when all lines are on the disk itself, so that a power cut leaves no gap before a checkpoint."""
        if self.enabled:
            self._update_files()
            for file in self._files():
                file.sync()

    def close(self) -> None:
        """Flush and close."""
        if self.enabled:
            self.bar.close()
            self.flush()
            for file in self._files():
                file.close()

    def _files(self) -> list[AppendFile]:
        return [self.metrics, self.board, *(file for file in (self.damages, self.histograms) if file.pieces)]

    def _write(self, step: int, values: dict[str, float]) -> dict:
        """A line for metrics.jsonl and TensorBoard; returns it."""
        line = {"step": step, "time": time.time(), **values}
        self.metrics.pieces.append(log_lines.write_metrics(line))
        self.board.pieces.append(log_lines.event(line))
        self._update_files()
        return line

    def _update_files(self) -> None:
        restored = [str(file.path) for file in self._files() if file.update()]
        if restored:
            self.say(f"note: {', '.join(restored)} had been removed or replaced, and was written again from memory")

    def _remember_evaluation(self, line: dict) -> None:
        names = {name for name in line if log_lines.is_result(name)}
        if names:
            self.evaluated.setdefault(line["step"], set()).update(names)


class Means:
    """Running means of the losses between two lines of the log; kept on the device until they are read."""

    def __init__(self):
        self.sums: torch.Tensor | None = None
        self.count = 0

    def add(self, parts: list) -> None:
        """The losses of a step's micro-batches."""
        for losses in parts:
            values = torch.stack([losses.classification, losses.contrastive, losses.hq_share, losses.lq_pairs]).double()
            self.sums = values if self.sums is None else self.sums.to(values.device) + values
        self.count += len(parts)

    def take(self) -> dict[str, float]:
        """The means, nan where every step was skipped; starts anew."""
        means = [math.nan] * 4 if self.sums is None else (self.sums / self.count).tolist()
        self.sums, self.count = None, 0
        return dict(zip(("loss_classification", "loss_contrastive", "hq_samples", "lq_pairs"), means, strict=True))

    def state_dict(self) -> dict:
        """The sums so far, for a checkpoint; exact also when written as JSON. Waits for the device."""
        return {"sums": None if self.sums is None else self.sums.tolist(), "count": self.count}

    def load_state_dict(self, state: dict) -> None:
        """Go on from what `state_dict` returned."""
        self.sums = None if state["sums"] is None else torch.tensor(state["sums"], dtype=torch.float64)
        self.count = state["count"]
