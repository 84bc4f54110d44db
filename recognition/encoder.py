"""`FaceEncoder`: photos in, unit features and norms out, with any model that `open_model` reads.

    from recognition import FaceEncoder

    encoder = FaceEncoder.open("work_dirs/demo/model.pt")
    u, z = encoder.encode(["a.jpg", "b.jpg"])
    encoder.similarity(u[0], u[1])

Shapes: n photos, D dimension of the model's features. Features and norms are numpy arrays of float32.
"""

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from recognition.embedder import Embedder
from recognition.models import Model, open_model
from recognition.photos import Detector, Photo, faces, name_of
from recognition.quality import NormStatistics
from utils import parallel
from utils.align import TEMPLATE_SIDE

AMP = {None: None, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Unusable(NamedTuple):
    """A photo that could not be used: its path, or "image 3" of an array, and why. As text both, in one line."""

    name: str
    problem: str

    def __str__(self) -> str:
        return f"{self.name} cannot be used: {self.problem}"


class Batch(NamedTuple):
    """What `FaceEncoder.stream` gives for photos that follow each other.

    `places` (k,) int64: of those that could be used, among all photos; `u` (k, D) and `z` (k,): theirs. `bad`: those
    that could not, by their places. `end`: one more than the last photo's place; the next batch begins there.
    """

    places: np.ndarray
    u: np.ndarray
    z: np.ndarray
    bad: dict[int, Unusable]
    end: int


class FaceEncoder:
    """A face model for use: one object for files, arrays, batches and streams.

    A photo is a file (JPEG, PNG, BMP) or an array (H, W, 3) uint8 RGB. With landmarks it is aligned by them. Without,
    one of 112 x 112 is taken as aligned; from any other the detector takes the largest face, and without a detector it
    is refused: a face that was only resized gives a feature that is worth little, and nothing would say so.

    Args:
        model: what `open_model` returns; `FaceEncoder.open` reads it from a file.
        device: "auto" (a GPU where there is one), "cpu" or "cuda". onnxruntime chooses an .onnx model's own device.
        amp: "float16" or "bfloat16": autocast; None: float32. An .onnx model computes as it was exported.
        batch_size: images in a forward pass. Another one changes features by rounding only.
        detector: (H, W, 3) uint8 RGB -> landmarks (5, 2) of a face or None, called from several threads;
            `recognition.yunet.YuNet` is one.

    Attributes:
        model: with channels, mean, std, digest and so on.
        embed: aligned images (n, 112, 112, 3) uint8 RGB, n >= 1 -> u and z as tensors: what protocols take.
        dimension: D.

    Raises:
        ValueError: a device that is not there, another `amp`, a batch size below 1.
    """

    def __init__(
        self,
        model: Model,
        device: str | torch.device = "auto",
        amp: str | None = None,
        batch_size: int = 64,
        detector: Detector | None = None,
    ):
        if amp not in AMP:
            raise ValueError(f"amp={amp!r}: expected 'float16', 'bfloat16' or None")
        device = device if isinstance(device, torch.device) else parallel.choose_device(device)
        self.model, self.dimension, self.detector = model, model.embedding_size, detector
        self.embed = Embedder(model.backbone, device, model.channels, model.mean, model.std, batch_size, AMP[amp])
        self.batch_size = batch_size

    @classmethod
    def open(
        cls,
        path: str | Path,
        channels: str | None = None,
        mean: float | None = None,
        std: float | None = None,
        device: str | torch.device | None = None,
        amp: str | None = None,
        batch_size: int = 64,
        detector: Detector | None = None,
        network: str | None = None,
        embedding_size: int | None = None,
    ) -> "FaceEncoder":
        """A model from its file: ours, arcface_torch's, AdaFace's, CVLface's, .safetensors, .onnx. Nothing in it runs.

        Args:
            path: the file.
            channels, mean, std, network, embedding_size: where the file does not say it, see `open_model`.
            device, amp, batch_size, detector: as `FaceEncoder`; device None: "auto".

        Raises:
            ValueError: as `open_model`, or as `FaceEncoder`.
        """
        model = open_model(path, network, embedding_size, channels, mean, std)
        return cls(model, "auto" if device is None else device, amp, batch_size, detector)

    def encode(
        self, photos: Iterable[Photo], landmarks: Iterable[np.ndarray | None] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Unit features and norms of photos, in their order.

        Files are decoded and aligned by threads while the network works; of the images no more than a few batches are
        in memory.

        Args:
            photos: files and arrays, also mixed; or one array (n, H, W, 3). No photos give empty arrays.
            landmarks: for each photo (5, 2) x, y in its pixels, or None: eyes, nose, corners of the mouth, first those
                on the image's left.

        Returns:
            u (n, D) float32 of length 1; a feature of zeros stays zeros. z (n,) float32, the features' norms.

        Raises:
            ValueError: the first photo that cannot be used, by its path or place, and why; NaN or infinity in its
                feature; another number of landmarks than photos.
        """
        parts = []
        with closing(self.stream(photos, landmarks)) as batches:
            for batch in batches:
                for bad in batch.bad.values():
                    raise ValueError(str(bad))
                parts.append((batch.u, batch.z))
        return self._joined(parts)

    def encode_usable(
        self, photos: Iterable[Photo], landmarks: Iterable[np.ndarray | None] | None = None
    ) -> tuple[np.ndarray, np.ndarray, dict[int, Unusable]]:
        """`encode`, but photos that cannot be used do not stop it: their rows are NaN.

        Returns:
            u (n, D) and z (n,) as `encode`, and the photos that could not be used by their places, which
            `np.isnan(z)` marks too.

        Raises:
            ValueError: another number of landmarks than photos.
        """
        parts, start = [], 0
        unusable: dict[int, Unusable] = {}
        for batch in self.stream(photos, landmarks):
            u = np.full((batch.end - start, self.dimension), np.nan, np.float32)
            z = np.full(batch.end - start, np.nan, np.float32)
            u[batch.places - start], z[batch.places - start] = batch.u, batch.z
            parts.append((u, z))
            unusable |= batch.bad
            start = batch.end
        return *self._joined(parts), unusable

    def stream(
        self, photos: Iterable[Photo], landmarks: Iterable[np.ndarray | None] | None = None
    ) -> Generator[Batch, None, None]:
        """Batch after batch, for more photos than memory holds features of; photos may be endless.

        Args:
            photos, landmarks: as `encode`, taken as they are needed.

        Raises:
            ValueError: another number of landmarks than photos, or no collection of photos. Never for a bad photo.
        """
        images = np.empty((self.batch_size, TEMPLATE_SIDE, TEMPLATE_SIDE, 3), np.uint8)
        places: list[int] = []
        names: list[str] = []
        bad: dict[int, Unusable] = {}
        end = 0
        for photo, face in faces(_each(photos), landmarks, self.detector, self.batch_size):
            name = name_of(photo, end)
            if face.image is None:
                bad[end] = Unusable(name, face.problem)
            else:
                images[len(places)] = face.image
                places.append(end)
                names.append(name)
            end += 1
            if self.batch_size in (len(places), len(bad)):
                yield self._batch(images, places, names, bad, end)
                places, names, bad = [], [], {}
        if places or bad:
            yield self._batch(images, places, names, bad, end)

    def indicator(self, z: np.ndarray) -> np.ndarray:
        """The quality indicator z_hat (Eq. 1) of norms: (n,) float32 in [-1, 1], low for low quality.

        Raises:
            ValueError: the model carries no statistics of its norms, as only models of our training do.
        """
        mean, std = self.model.norm_mean, self.model.norm_std
        if mean is None or std is None:
            raise ValueError("this model carries no statistics of its feature norms; only models trained here do")
        return NormStatistics(mean=mean, std=std).indicator(torch.as_tensor(np.asarray(z, np.float32))).numpy()

    @staticmethod
    def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Cosines in [-1, 1] of unit features: (n, D) and (m, D) -> (n, m) float32; a single (D,) drops its axis.

        Raises:
            ValueError: other shapes, or features of different dimensions.
        """
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        if not {a.ndim, b.ndim} <= {1, 2} or a.shape[-1] != b.shape[-1]:
            raise ValueError(f"features {a.shape} and {b.shape}: expected (n, D) or (D,), of one D")
        return np.clip(a @ b.T, -1, 1)

    def _batch(
        self, images: np.ndarray, places: list[int], names: list[str], bad: dict[int, Unusable], end: int
    ) -> Batch:
        u, z = np.empty((0, self.dimension), np.float32), np.empty(0, np.float32)
        if places:
            u, z = (part.numpy() for part in self.embed(images[: len(places)]))
        finite = np.isfinite(z)
        for row in np.flatnonzero(~finite):
            bad[places[row]] = Unusable(names[row], "its feature holds NaN or infinity")
        return Batch(np.array(places, np.int64)[finite], u[finite], z[finite], dict(sorted(bad.items())), end)

    def _joined(self, parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        if not parts:
            return np.empty((0, self.dimension), np.float32), np.empty(0, np.float32)
        u, z = zip(*parts, strict=True)
        return np.concatenate(u), np.concatenate(z)


def _each(photos: Iterable[Photo]) -> Iterator[Photo]:
    """The photos one by one.

    Raises:
        ValueError: one photo instead of several, something that is none.
    """
    if isinstance(photos, (str, os.PathLike)):
        raise ValueError(f"photos={photos!r} is one path: expected a list, [{os.fspath(photos)!r}]")
    if isinstance(photos, torch.Tensor):
        photos = photos.numpy(force=True)
    if isinstance(photos, np.ndarray) and photos.dtype != object and photos.ndim != 4:
        raise ValueError(
            f"photos of shape {photos.shape}: expected (n, height, width, 3) uint8 RGB, or a list of photos"
        )
    for index, photo in enumerate(photos):
        if not isinstance(photo, (str, os.PathLike, np.ndarray)):
            raise ValueError(f"photo {index} is a {type(photo).__name__}: expected a path or a numpy array")
        yield photo
