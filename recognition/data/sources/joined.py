"""Several sources as one: data sets side by side, or the shards of one data set."""

from pathlib import Path

import numpy as np

from recognition.data.recordio import RecordError
from recognition.data.sources.digest import digest
from recognition.data.sources.places import Places
from recognition.data.sources.records import MAX_CLASSES, RecordSource, read_property


class Joined:
    """The samples of `sources`, one after the other.

    Args:
        sources: at least one; each as `recognition.data.sources` describes it.
        name: in messages.
        num_classes: None: every source has identities of its own, and their labels follow each other. A number: the
            sources share one set of labels in [0, num_classes).

    Raises:
        RecordError: images of different sizes, more classes than labels can tell apart, or a source with more classes
            than are shared.
    """

    def __init__(self, sources: list, name: str, num_classes: int | None = None):
        self.sources, self.name, self.side = sources, name, sources[0].side
        self._places = Places([len(source) for source in sources])
        counts = [source.num_classes for source in sources]
        if num_classes is None:
            self.first_labels = [sum(counts[:place]) for place in range(len(counts))]
            self.num_classes = sum(counts)
        else:
            self.first_labels, self.num_classes = [0] * len(counts), num_classes
        for source in sources:
            if source.side != self.side:
                raise RecordError(f"{source.name} has images of {source.side} pixels, {sources[0].name} of {self.side}")
            if num_classes is not None and source.num_classes > num_classes:
                raise RecordError(f"{source.name} has {source.num_classes} classes, expected at most {num_classes}")
        if self.num_classes > MAX_CLASSES:
            raise RecordError(f"{name}: {self.num_classes} classes; the labels tell {MAX_CLASSES} apart")

    def __len__(self) -> int:
        return len(self._places)

    @property
    def note(self) -> str | None:
        """What the sources have to say of files that they do not read."""
        return "; ".join(note for source in self.sources if (note := getattr(source, "note", None))) or None

    @property
    def shard_sizes(self) -> list[int]:
        """Samples of each shard, in their order."""
        return [size for source in self.sources for size in getattr(source, "shard_sizes", [len(source)])]

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        """Encoded image and label of a sample.

        Raises:
            ValueError: as the source it comes from.
        """
        place, within = self._places[index]
        encoded, label = self.sources[place][within]
        return encoded, label + self.first_labels[place]

    def where(self, index: int) -> str:
        place, within = self._places[index]
        return self.sources[place].where(within)

    def labels(self) -> np.ndarray:
        """(n,) int64 labels of all samples."""
        parts = zip(self.sources, self.first_labels, strict=True)
        return np.concatenate([source.labels() + first for source, first in parts])

    def digest(self) -> str:
        return digest(str(self.first_labels), *(source.digest() for source in self.sources))


def open_shards(folder: Path, shards: list[Path], backend: str, corrupt: str) -> Joined:
    """`train-00000.rec`, `train-00001.rec` ... of one data set: their labels are those of the whole.

    Raises:
        RecordError: no `property` that states the number of classes, or a damaged shard.
    """
    if not (folder / "property").exists():
        raise RecordError(
            f"{folder} holds {len(shards)} shards and no property file; expected one with 'classes,height,width', as "
            "the labels of a shard do not tell how many classes there are"
        )
    num_classes, _ = read_property(folder / "property")
    return Joined([RecordSource(shard, backend, corrupt) for shard in shards], str(folder), num_classes)
