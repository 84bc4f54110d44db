"""Whether an exported model gives what the model in PyTorch gives, on faces."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from eval.bins import load_bin
from eval.embed import fit
from eval.image_files import ImageFiles, find_landmarks, list_images
from eval.verification import BinImages
from recognition.data.sources import open_source
from recognition.data.synthetic.draw import draw
from recognition.embedder import Embedder
from recognition.models import Model
from utils import jpeg
from utils.rng import Purpose, generator

FACES = 64  # of all the data, spread evenly
DRAWN = 16


class Difference(NamedTuple):
    """Of two models on the same faces.

    Attributes:
        feature: largest |du| of one dimension of the unit features.
        cosine: smallest one of a face's two features.
        norm: largest |dz| / z.
    """

    feature: float
    cosine: float
    norm: float

    def __str__(self) -> str:
        return f"max |du| {self.feature:.1e}, cosine at least {self.cosine:.6f}, |dz|/z at most {self.norm:.1e}"


def read_faces(places: list[Path]) -> np.ndarray:
    """(n, 112, 112, 3) uint8 RGB: `FACES` of `.bin` sets, records, and folders of images, spread evenly.

    Raises:
        ValueError: a place that is none of them, or damaged.
    """
    return np.concatenate([_read(place, -(-FACES // len(places))) for place in places])


def _read(place: Path, count: int) -> np.ndarray:
    images: BinImages | ImageFiles
    if place.suffix == ".rec" or any(place.glob("*.rec")):
        source = open_source(place)
        return np.stack([fit(jpeg.decode(source[index][0])) for index in _spread(len(source), count)])
    if place.suffix == ".bin":
        images = BinImages(load_bin(place))
    else:
        names = list_images(place)
        if not names:
            raise ValueError(f"{place}: expected a verification set (.bin), records (.rec) or a folder of images")
        images = ImageFiles(place, names, find_landmarks(place, names))
    return np.concatenate([images.read(index, index + 1) for index in _spread(len(images), count)])


def _spread(images: int, count: int) -> list[int]:
    return np.unique(np.linspace(0, images - 1, count).round().astype(int)).tolist()


def drawn_faces() -> np.ndarray:
    """(2 DRAWN, 112, 112, 3) uint8 RGB: faces drawn by code, and pixels drawn at random."""
    faces = np.stack([draw(1, identity, 0) for identity in range(DRAWN)])
    return np.concatenate([faces, generator(1, 0, 0, Purpose.SYNTHETIC).integers(0, 256, faces.shape, np.uint8)])


def difference(model: Model, exported: Model, faces: np.ndarray) -> Difference:
    """The models on the faces, in batches of 1, of 2 and of all others."""
    (u, z), (other_u, other_z) = (_embed(one, faces) for one in (model, exported))
    if u.shape != other_u.shape:
        raise ValueError(f"the exported model's features are {tuple(other_u.shape)}, expected {tuple(u.shape)}")
    if not (u.isfinite().all() and other_u.isfinite().all()):
        raise ValueError("the model, or the exported one, gives features that are not finite")
    cosine = torch.nn.functional.cosine_similarity(u.double(), other_u.double()).min()
    norm = ((other_z - z).abs() / z.clamp_min(torch.finfo(z.dtype).tiny)).max()
    return Difference(float((u - other_u).abs().max()), float(cosine), float(norm))


def _embed(model: Model, faces: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Each model by its own colour contract."""
    embed = Embedder(model.backbone, "cpu", model.channels, model.mean, model.std)
    parts = [embed(batch) for batch in np.split(faces, [1, 3]) if len(batch)]
    return torch.cat([u for u, _ in parts]), torch.cat([z for _, z in parts])
