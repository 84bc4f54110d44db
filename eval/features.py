"""Features of a target's images: read in threads while the backbone works, shared out over the ranks.

Shapes: n images, D dimension.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch

from eval.embed import Embed, fused
from utils import parallel
from utils.read_ahead import read_ahead

CHUNK = 256  # images read and embedded at a time: 10 MB
MAX_READERS = 8  # threads; JPEG decoding and warping let go of the interpreter's lock


class Images(Protocol):
    """What a target embeds."""

    @property
    def names(self) -> Sequence[str]:  # as the target's list has them, or numbers
        ...

    def __len__(self) -> int: ...

    def read(self, start: int, end: int) -> np.ndarray:
        """(end - start, 112, 112, 3) uint8 RGB; called from several threads.

        Raises:
            ValueError: names the image that cannot be used.
        """

    def digest(self) -> str:
        """SHA-256 in hex that changes when the pixels do: the key under which features are kept."""


class Features(NamedTuple):
    """Of n images, in their order.

    `h` (n, D) float32, finite, not normalised: what `eval.embed.fused` makes. `z` (n,) float32: the norm that the image
    itself has, the mean of two where its mirror image was embedded too.
    """

    h: np.ndarray
    z: np.ndarray


def extract(
    embed: Embed, images: Images, fusion: str = "sum", progress: Callable[[int], object] | None = None
) -> Features:
    """Embed all images; with several ranks each embeds its share, and all of them get everything.

    Args:
        embed: (n, 112, 112, 3) uint8 RGB -> unit features u (n, D) and norms z (n,).
        fusion: of the features of an image and its mirror image, see `eval.embed.fused`.
        progress: is told the number of images after each chunk.

    Raises:
        ValueError: an image that cannot be read, on whatever rank; no images; features that are not finite.
    """
    if not len(images):
        raise ValueError("no images to embed: expected one or more")
    first, end = parallel.share(len(images), parallel.rank(), parallel.world_size())
    parts, trouble = [], None
    try:
        for chunk in chunks(images, first, end):
            h, z = fused(embed, torch.from_numpy(chunk), fusion)
            parts.append((h.numpy(), z.numpy()))
            if progress:
                progress(len(chunk))
    except (ValueError, OSError) as error:
        trouble = error  # the other ranks must hear of it before this one leaves
    shares = parallel.objects((parts, trouble and str(trouble)))
    for _, said in shares:
        if said:
            raise trouble or ValueError(said)
    of_h, of_z = zip(*(part for parts, _ in shares for part in parts), strict=True)
    return checked(np.concatenate(of_h), np.concatenate(of_z))


def checked(h: np.ndarray, z: np.ndarray | None = None) -> Features:
    """Features as float32, proven finite; without `z`, the norms are those of `h`.

    Raises:
        ValueError: another shape or type, NaN or infinity; the message names the first image.
    """
    h = np.asarray(h)
    if h.ndim != 2 or h.dtype.kind != "f" or not h.size:
        raise ValueError(f"features {h.shape} {h.dtype}: expected (images, dimension) of floating point numbers")
    h = h.astype(np.float32, copy=False)
    # a row's sum is finite where the row is, but for sums beyond float32: those rows are looked at again
    with np.errstate(over="ignore", invalid="ignore"):
        suspects = np.flatnonzero(~np.isfinite(h.sum(axis=1)))
    bad = suspects[~np.isfinite(h[suspects]).all(axis=1)]
    if len(bad):
        raise ValueError(
            f"the features of {len(bad)} of {len(h)} images hold NaN or infinity, the first is image {bad[0]}"
        )
    return Features(h, np.linalg.norm(h, axis=1) if z is None else np.asarray(z, dtype=np.float32))


def expect(features: Features, images: int, name: str) -> None:
    """Raise ValueError unless the features are of so many images."""
    if len(features.h) != images:
        raise ValueError(f"features of {len(features.h)} images, but {name} has {images}")


def labelled_digest(images: Images, *labels: np.ndarray) -> str:
    """SHA-256 in hex of the images and of what a protocol knows of them."""
    return hashlib.sha256(images.digest().encode() + b"".join(array.tobytes() for array in labels)).hexdigest()


def unit(h: np.ndarray) -> np.ndarray:
    """(n, D) -> float64 (n, D) of length 1; rows of zeros stay zeros."""
    h = h.astype(np.float64)
    return h / np.maximum(np.linalg.norm(h, axis=1, keepdims=True), np.finfo(np.float64).tiny)


def chunks(images: Images, first: int, end: int) -> Iterator[np.ndarray]:
    """Images `first` to `end` in order, `CHUNK` at a time, a few chunks read ahead by threads."""
    readers = max(1, min(MAX_READERS, (os.cpu_count() or 1) // parallel.world_size()))
    starts = range(first, end, CHUNK)
    yield from read_ahead(lambda start: images.read(start, min(start + CHUNK, end)), starts, readers)
