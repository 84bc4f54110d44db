"""The same batches with the JPEGs decoded on a GPU by NVIDIA DALI (package nvidia-dali-cuda120 or -cuda130).

DALI's decoder differs from libjpeg by a level here and there, so runs with and without it are alike, not equal. The
order of the samples and the flips are ours.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from recognition.data.augment import Augment
from recognition.data.loader import Batch
from recognition.data.sampler import GlobalBatchSampler
from utils import jpeg, rng


class DaliLoader:
    """As `Loader`, for the original view: its images are on `device` already.

    Args:
        source: `source[i] -> (encoded image, label)`, and `source.where(i)` names a sample in messages.
        sampler: which samples, in which order.
        views: ("original",): the augmentations are made on the CPU.
        seed: of the flips.
        size: S, the side every image must have.
        device: the GPU ("cpu" decodes there, for tests).
        num_threads: of DALI.

    Raises:
        ValueError: DALI is not installed, other views.
    """

    def __init__(
        self,
        source,
        sampler: GlobalBatchSampler,
        views: Sequence[str],
        seed: int,
        size: int,
        device: torch.device,
        num_threads: int,
    ):
        if tuple(views) != ("original",):
            raise ValueError(f"dali=True with views={tuple(views)}: DALI makes ('original',) only; use dali=False")
        self.dali, self.original = _dali(), Augment("none")
        self.source, self.sampler, self.seed, self.size = source, sampler, seed, size
        self.device, self.num_threads = device, max(1, num_threads)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from `start_step` on.

        Raises:
            ValueError: bad data; the message names it.
        """
        pipeline = self._pipeline(self._encoded(epoch, start_step))
        for step, (_, indices) in enumerate(self.sampler.batches(epoch, start_step), start_step):
            try:
                images, labels = pipeline.run()
            except RuntimeError:
                self._name_damage(epoch, step)
                raise
            pixels = torch.from_dlpack(images.as_tensor()).clone()  # DALI writes the next batch into its own memory
            labels = torch.from_dlpack(labels.as_tensor()).flatten().clone()
            if self.device.type == "cuda":  # it does not know PyTorch's stream, and would not wait for these copies
                torch.get_device_module(self.device).current_stream().synchronize()
            yield Batch(pixels[:, None], labels, torch.from_numpy(indices), [])

    def _name_damage(self, epoch: int, step: int) -> None:
        """DALI counts the samples of a batch, and works on the next ones already: look for what it cannot decode."""
        for _, indices in itertools.islice(self.sampler.batches(epoch, step), 3):
            for index in indices.tolist():
                try:
                    jpeg.decode(self.source[index][0])
                except ValueError as error:
                    raise ValueError(f"{self.source.where(index)}: {error}") from None

    def _encoded(self, epoch: int, start_step: int) -> Iterator[tuple[list, list, list]]:
        """Encoded images, whether to flip, labels."""
        for _, indices in self.sampler.batches(epoch, start_step):
            draws = rng.uniforms(self.seed, epoch, indices, rng.Purpose.ORIGINAL, self.original.draws)
            samples = [self._checked(index) for index in indices.tolist()]
            yield (
                [np.frombuffer(encoded, np.uint8) for encoded, _ in samples],
                [np.int32(flip) for flip in draws[:, 0] < self.original.parameters.flip_probability],
                [np.array([label], np.int64) for _, label in samples],
            )

    def _checked(self, index: int) -> tuple[bytes, int]:
        """A cut image or one of another size would end the process or the batch without its name."""
        encoded, label = self.source[index]
        try:
            width, height = jpeg.check(encoded)
        except ValueError as error:
            raise ValueError(f"{self.source.where(index)}: {error}") from None
        if (width, height) != (self.size, self.size):
            raise ValueError(
                f"{self.source.where(index)} has {width} x {height} pixels, expected {self.size} x {self.size}"
            )
        return encoded, label

    def _pipeline(self, batches: Iterator):
        """One for an epoch: it ends with the samples."""
        fn, on_gpu = self.dali.fn, self.device.type == "cuda"
        device = (self.device.index or 0) if on_gpu else None
        pipeline = self.dali.Pipeline(self.sampler.part_size, self.num_threads, device)
        with pipeline:
            encoded, flips, labels = fn.external_source(source=batches, num_outputs=3, batch=True)
            decoded = fn.decoders.image(encoded, device="mixed" if on_gpu else "cpu", output_type=self.dali.types.RGB)
            pipeline.set_outputs(fn.flip(decoded, horizontal=flips), labels)
        pipeline.build()
        return pipeline


def _dali():
    try:
        import nvidia.dali
    except ImportError as error:
        raise ValueError(
            f"dali=True: NVIDIA DALI cannot be imported ({error}); pip install nvidia-dali-cuda120, or use dali=False"
        ) from None
    import nvidia.dali.fn
    import nvidia.dali.types

    return nvidia.dali
