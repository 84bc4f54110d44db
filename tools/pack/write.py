"""A plan becomes files: images converted in parallel, written in order, noted in the journal."""

import functools
import json
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from recognition.data.lists import Entry, write_list, write_property
from tools.pack.convert import Result, Settings, convert
from tools.pack.journal import Journal
from tools.pack.plan import Plan
from tools.pack.sinks import RecordSink, TarSink
from tools.pack.skipped import FINAL, GROWING, Skipped
from utils.workers import ordered_map

PATTERNS = ("train.rec", "train.idx", "train.lst", "train.json", "property", FINAL)
PATTERNS += tuple(f"train-[0-9]*.{suffix}" for suffix in ("rec", "idx", "lst", "tar"))


class Layout(NamedTuple):
    """The files of a set: (stem, first position, end) of each; with InsightFace's range records; tars, not records."""

    files: list[tuple[str, int, int]]
    ranges: bool
    tar: bool


class Progress(NamedTuple):
    """How far a set is: positions `done`, images `written` and of these `encoded`, files complete."""

    done: int = 0
    written: int = 0
    encoded: int = 0
    files: int = 0


class Writer:
    """Writes a plan into a journal's folder, from where an earlier run was.

    Args:
        plan: the images.
        layout: the files.
        settings: what is made of the images.
        journal: of the output folder.
        skip: leave bad images out, and list them; else the first one stops.
        workers: processes that convert.
    """

    def __init__(self, plan: Plan, layout: Layout, settings: Settings, journal: Journal, skip: bool, workers: int):
        self._plan, self._layout, self._settings, self._journal = plan, layout, settings, journal
        self._skip, self._workers = skip, workers
        notes = dict(journal.notes)
        self._sizes = notes.pop("sizes", {})
        self.progress = Progress(**notes)
        self._skipped = Skipped(journal.folder, self._sizes.get(GROWING, 0))

    def run(self) -> list[tuple[int, str, str]]:
        """Write everything that is missing; (position, name, problem) of the images left out.

        Raises:
            ValueError: a bad image that is not to be skipped, no image left, or a disk that takes no more.
        """
        try:
            self._files()
            return self._finish()
        except OSError as error:
            raise ValueError(
                f"{self._journal.output}: {error.strerror or error} after {self.progress.done} of {len(self._plan)} "
                "images; mend that and start again with the same arguments: it goes on from there"
            ) from None
        finally:
            self._skipped.close()

    def _files(self) -> None:
        start, function = self.progress.done, functools.partial(convert, self._settings)
        tasks = (self._plan.task(position) for position in range(start, len(self._plan)))
        results = ordered_map(function, tasks, self._workers)
        bar = tqdm(total=len(self._plan), initial=start, unit=" images", disable=None, smoothing=0.05)
        try:
            for file in self._layout.files[self.progress.files :]:
                self._file(*file, results, bar)
        finally:
            bar.close()
            results.close()

    def _file(self, stem: str, start: int, end: int, results: Iterator[Result], bar: tqdm) -> None:
        folder, tar = self._journal.folder, self._layout.tar
        sink = TarSink(folder, stem, self._sizes) if tar else RecordSink(folder, stem, self._sizes, self._layout.ranges)
        try:
            for position in range(max(start, self.progress.done), end):
                self._take(sink, position, next(results))
                bar.update()
                if self._journal.due():
                    self._note(sink)
            sink.finish(self._counts())
            sink.sync()
            self.progress = self.progress._replace(files=self.progress.files + 1)
            self._note()
        finally:
            sink.close()
        self._sizes = {}

    def _take(self, sink: RecordSink | TarSink, position: int, result: Result) -> None:
        now = self.progress
        if result.problem is None:
            sink.write(now.written, int(self._plan.labels[position]), result.data)
            self.progress = now._replace(
                done=position + 1, written=now.written + 1, encoded=now.encoded + result.encoded
            )
            return
        if not self._skip:
            self._note(sink)  # nothing of this image was written; after other exceptions that is not sure
            raise ValueError(
                f"{self._plan.task(position).where()}: {result.problem}; mend it and start again, "
                "or leave such images out with --bad skip"
            )
        self._skipped.add(position, self._plan.name(position), result.problem)
        self.progress = now._replace(done=position + 1)

    def _note(self, sink: RecordSink | TarSink | None = None) -> None:
        sizes = {} if sink is None else sink.sync()
        self._journal.note(self.progress._asdict(), {**sizes, **self._skipped.sync()})

    def _counts(self) -> np.ndarray:
        lost = [position for position, _, _ in self._skipped.rows()]
        return np.bincount(np.delete(self._plan.labels, lost), minlength=self._plan.num_classes)

    def _finish(self) -> list[tuple[int, str, str]]:
        """The small files beside the images; then everything can go to its place."""
        plan, lost = self._plan, self._skipped.rows()
        if not self.progress.written:
            raise ValueError(f"none of the {len(plan)} images can be used; the first: {lost[0][1]}: {lost[0][2]}")
        gone = {position for position, _, _ in lost}
        kept = [[at for at in range(start, end) if at not in gone] for _, start, end in self._layout.files]
        names = self._tar_index(kept) if self._layout.tar else self._lists(kept)
        self._journal.finish(self._skipped.finish() + names, self.progress._asdict())
        return lost

    def _lists(self, kept: list[list[int]]) -> list[str]:
        """A `.lst` for each `.rec`, and `property`; the files' names, the `.rec` last."""
        folder, plan, stems = self._journal.folder, self._plan, [stem for stem, _, _ in self._layout.files]
        for stem, positions in zip(stems, kept, strict=True):
            write_list(folder / f"{stem}.lst", (Entry(plan.name(at), int(plan.labels[at])) for at in positions))
        write_property(folder / "property", plan.num_classes, self._settings.side)
        return ["property", *(f"{stem}.{suffix}" for suffix in ("lst", "idx", "rec") for stem in stems)]

    def _tar_index(self, kept: list[list[int]]) -> list[str]:
        """`train.json`, which webdataset's `wids` reads; the files' names, itself last."""
        files = [f"{stem}.tar" for stem, _, _ in self._layout.files]
        shards = [{"url": name, "nsamples": len(positions)} for name, positions in zip(files, kept, strict=True)]
        content = {"wids_version": 1, "shardlist": shards, "num_classes": self._plan.num_classes}
        text = json.dumps({**content, "side": self._settings.side}, indent=1) + "\n"
        (self._journal.folder / "train.json").write_text(text)
        return [*files, "train.json"]
