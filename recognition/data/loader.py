"""From encoded images to batches of views: decoded and augmented in workers, normalised on the device.

Shapes: `p` samples of this rank's batch, `V` views, `S` side of the aligned face (112).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from recognition.data.augment import Augment
from recognition.data.batch_workers import BatchWorkers
from recognition.data.index import StorageError
from recognition.data.sampler import GlobalBatchSampler
from utils import rng
from utils.jpeg import decode

PURPOSES = {"original": rng.Purpose.ORIGINAL, "augmented": rng.Purpose.AUGMENTED}


TRIES = 16  # samples drawn in the place of a damaged one; if they are all damaged too, the data set is


class Batch(NamedTuple):
    """This rank's part of a global batch."""

    images: torch.Tensor  # RGB uint8 (p, V, S, S, 3)
    labels: torch.Tensor  # int64 (p,)
    index: torch.Tensor  # type: ignore[assignment]  # in place of tuple's method; int64 (p,): which samples of the source these are
    damaged: list[str]  # what was wrong with samples in whose place others are


class _View(NamedTuple):
    make: Augment
    purpose: rng.Purpose


class ViewBatches:
    """Whole batches by (epoch, indices): each image is decoded once and gives one picture per view.

    What is drawn for a view depends on (seed, epoch, index of the sample, view) only: not on the rank, the
    worker, the batch, or whether there is another view.

    Args:
        source: `source[i] -> (encoded image, label)`, and `source.where(i)` names a sample in messages.
        augment: makes the augmented view.
        views: "original" (flipped only), "augmented", or both; their order is that of the V axis.
        seed: of the augmentation.
        size: S, the side every image must have.
        corrupt: what a damaged sample does: "stop" raises, "skip" takes another sample, image and label, in its place.
            Which one depends on (seed, epoch, index) only, so all ranks and workers agree without a word. What cannot
            be fetched is not damaged, and stops.

    Raises:
        ValueError: views that are not known, repeated or none, or another policy.
    """

    def __init__(
        self, source, augment: Augment, views: Sequence[str], seed: int, size: int = 112, corrupt: str = "stop"
    ):
        if corrupt not in ("stop", "skip"):
            raise ValueError(f"corrupt={corrupt!r}: expected 'stop' or 'skip'")
        if not views or len(set(views)) < len(views) or not set(views) <= PURPOSES.keys():
            expected = "('original',), ('augmented',) or ('original', 'augmented')"
            raise ValueError(f"views={views!r}: expected {expected}")
        makers = {"original": Augment("none"), "augmented": augment}
        self.views = [_View(makers[view], PURPOSES[view]) for view in views]
        self.source, self.seed, self.size, self.corrupt = source, seed, size, corrupt
        self.shape = (len(views), size, size, 3)  # of a sample's images

    def __getitem__(self, item: tuple[int, np.ndarray]) -> Batch:
        """The batch of `indices` (int64 (p,)) in `epoch`.

        Raises:
            ValueError: an image that cannot be decoded or is not S x S, or a damaged record; the message names it.
        """
        images = torch.empty((len(item[1]), *self.shape), dtype=torch.uint8)
        _, labels, taken, damaged = self.fill(item, images.numpy())
        return Batch(images, torch.tensor(labels), torch.tensor(taken), damaged)

    def fill(self, item: tuple[int, np.ndarray], images: np.ndarray) -> tuple[int, list[int], list[int], list[str]]:
        """Write a batch into uint8 `images`, of p rows or more; returns p, its labels, indices and damages.

        Raises:
            ValueError: as above.
        """
        epoch, indices = item
        labels, taken = [], []
        damaged: list[str] = []
        draws = [self._draws(epoch, indices, view) for view in self.views]
        for row, index in enumerate(indices.tolist()):
            other, face, label = self._sample(epoch, index, damaged)
            for place, view in enumerate(self.views):
                numbers = draws[place][row] if other == index else self._draws(epoch, np.array([other]), view)[0]
                view.make(face, numbers, images[row, place])
            labels.append(label)
            taken.append(other)
        return len(indices), labels, taken, damaged

    def sharpness(self, epoch: int, indices: np.ndarray) -> np.ndarray:
        """(p, V) float32 in (0, 1]: what `Augment.sharpness` tells of each view, as it was made in `epoch`."""
        draws = [self._draws(epoch, indices, view) for view in self.views]
        pairs = zip(self.views, draws, strict=True)
        return np.array([[view.make.sharpness(row) for row in rows] for view, rows in pairs], np.float32).T

    def _draws(self, epoch: int, indices: np.ndarray, view: "_View") -> list[list[float]]:
        return rng.uniforms(self.seed, epoch, indices, view.purpose, view.make.draws).tolist()

    def _sample(self, epoch: int, index: int, damaged: list[str]) -> tuple[int, np.ndarray, int]:
        """The sample of that index, or another one where it is damaged: its own index, face and label."""
        try:
            return index, *self._decoded(index)
        except StorageError:
            raise
        except ValueError as error:
            if self.corrupt == "stop":
                raise
            damaged.append(str(error))
        draws = rng.uniforms(self.seed, epoch, np.array([index]), rng.Purpose.SUBSTITUTE, TRIES)[0]
        for other in (draws * len(self.source)).astype(int).tolist():
            try:
                return other, *self._decoded(other)
            except StorageError:
                raise
            except ValueError:
                continue
        raise ValueError(f"{damaged[-1]}; so are {TRIES} other samples: python -m tools.doctor tells what is left")

    def _decoded(self, index: int) -> tuple[np.ndarray, int]:
        try:
            encoded, label = self.source[index]
        except OSError as error:
            raise StorageError(f"{self.source.where(index)} cannot be read: {error.strerror or error}") from None
        try:
            face = decode(encoded)
        except ValueError as error:
            raise ValueError(f"{self.source.where(index)}: {error}") from None
        if face.shape != (self.size, self.size, 3):
            raise ValueError(
                f"{self.source.where(index)} has {face.shape[1]} x {face.shape[0]} pixels, expected "
                f"{self.size} x {self.size}: align the faces and store them at that size"
            )
        return face, label


class Loader:
    """Batches in the sampler's order, made by worker processes that live as long as the loader.

    Args:
        batches: makes a batch of (epoch, indices).
        sampler: which samples, in which order.
        num_workers: processes; 0 makes the batches in this one.
        pin_memory: put the batches where a GPU can fetch them.

    Raises:
        ValueError: a negative number of workers.
    """

    def __init__(self, batches: ViewBatches, sampler: GlobalBatchSampler, num_workers: int, pin_memory: bool = False):
        if num_workers < 0:
            raise ValueError(f"num_workers={num_workers}: expected 0 (no worker processes) or more")
        self.batches, self.sampler, self.num_workers, self.pin_memory = batches, sampler, num_workers, pin_memory
        self._workers: BatchWorkers | None = None

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from `start_step` on; one epoch at a time.

        Raises:
            ValueError: bad data, whichever process met it; or a start that is not within the epoch.
        """
        for batch in self._made(self.sampler.batches(epoch, start_step)):
            yield batch._replace(images=batch.images.pin_memory()) if self.pin_memory else batch

    def sharpness(self, epoch: int, batch: Batch, device: torch.device) -> torch.Tensor:
        """(p, V) float32: what share of its side each view of the batch has kept; see `Augment.sharpness`."""
        return torch.from_numpy(self.batches.sharpness(epoch, batch.index.numpy())).to(device)

    def _made(self, tasks: Iterator[tuple[int, np.ndarray]]) -> Iterator[Batch]:
        if self.num_workers == 0:
            yield from map(self.batches.__getitem__, tasks)
            return
        if self._workers is None:
            shape = (self.sampler.part_size, *self.batches.shape)
            self._workers = BatchWorkers(self.batches.fill, shape, self.num_workers)
        for images, (_, labels, taken, damaged) in self._workers.run(tasks):
            yield Batch(images, torch.tensor(labels), torch.tensor(taken), damaged)


def normalise(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """RGB uint8 (p, V, S, S, 3) -> float32 (p * V, 3, S, S) in [-1, 1] on `device`, sample by sample.

    The bytes are copied as they are (asynchronously from pinned memory) and become (x - 127.5) / 127.5 there.
    The result has channels_last memory format, which is the order the images come in.
    """
    pixels = images.to(device, non_blocking=True).flatten(0, 1).permute(0, 3, 1, 2)
    return pixels.to(torch.float32).sub_(127.5).div_(127.5)
