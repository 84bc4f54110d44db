"""The order of samples: one global permutation per epoch, the same for any number of ranks."""

from collections.abc import Iterator, Sequence

import numpy as np

from utils import rng
from utils.parallel import share


class GlobalBatchSampler:
    """This rank's part of each global batch.

    Epoch e is a permutation of all samples, a function of (seed, e). Global batch t is its slice
    [t * G, (t + 1) * G); rank r takes the contiguous part `share(G, r, world_size)`: sizes differ by one at most.
    The incomplete batch at the end of an epoch is dropped (as in arcface_torch): other samples in each epoch.

    Args:
        num_samples: samples in the data set.
        batch_size: G, samples per step over all ranks (an image with two views is one sample).
        seed: of the order.
        rank, world_size: this process and how many there are.
        shard_sizes: samples of each shard, where the data set has shards; their sum is `num_samples`.
        window: so many shards, drawn at random, are mixed at a time: for data that comes from object storage shard by
            shard. None: all samples are mixed.

    Raises:
        ValueError: a batch larger than the data set or smaller than the number of ranks; a window without shards.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        shard_sizes: Sequence[int] | None = None,
        window: int | None = None,
    ):
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size} processes: expected 0 <= rank < world size")
        if batch_size < world_size:
            raise ValueError(
                f"the total batch size {batch_size} is smaller than the number of processes {world_size}: "
                f"expected at least one image for each"
            )
        if batch_size > num_samples:
            raise ValueError(
                f"the total batch size {batch_size} is larger than the data set of {num_samples} images: "
                f"expected batch_size <= {num_samples} in total over {world_size} processes"
            )
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        if window is not None and (shard_sizes is None or sum(shard_sizes) != num_samples):
            raise ValueError(f"shuffle_shards={window}: the data has no shards; leave the key out")
        self.rank, self.world_size, self.window = rank, world_size, window
        self.ends = np.cumsum([num_samples] if shard_sizes is None else shard_sizes)

    @property
    def steps_per_epoch(self) -> int:
        """Whole global batches in an epoch."""
        return self.num_samples // self.batch_size

    @property
    def part_size(self) -> int:
        """Samples of this rank's part of a global batch."""
        start, stop = share(self.batch_size, self.rank, self.world_size)
        return stop - start

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """(epoch, indices) for the steps from `start_step` to the end of the epoch; indices are int64 (p,).

        Raises:
            ValueError: `start_step` is not within the epoch (its end is allowed: nothing is left).
        """
        if epoch < 0 or not 0 <= start_step <= self.steps_per_epoch:
            raise ValueError(
                f"epoch {epoch}, step {start_step}: expected epoch >= 0 and a step between 0 and "
                f"{self.steps_per_epoch}, the steps of an epoch of {self.num_samples} images"
            )
        order = self._order(epoch)
        start, stop = share(self.batch_size, self.rank, self.world_size)
        firsts = range(start_step * self.batch_size, self.steps_per_epoch * self.batch_size, self.batch_size)
        return ((epoch, order[first + start : first + stop]) for first in firsts)

    def _order(self, epoch: int) -> np.ndarray:
        """(n,) int64 permutation of all samples."""
        stream = rng.generator(self.seed, epoch, 0, rng.Purpose.ORDER)
        if self.window is None:
            return stream.permutation(self.num_samples)
        shards, starts = stream.permutation(len(self.ends)), np.concatenate([[0], self.ends])
        parts = []
        for at in range(0, len(shards), self.window):
            window = [np.arange(starts[shard], starts[shard + 1]) for shard in shards[at : at + self.window]]
            parts.append(stream.permutation(np.concatenate(window)))
        return np.concatenate(parts)
