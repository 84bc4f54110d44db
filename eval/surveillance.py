"""Surveillance pictures out of any set of faces: clean probes and those of `eval.camera` against a clean gallery.

As SCface, without its licence. Gallery: the first image of each identity, in the order of the set, as it is. Probes:
all other images, each four times: as it is (`clean`), and as a camera has it at d3 (near), d2 and d1 (far).
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from eval import camera, degrade
from eval.distances import identify
from eval.embed import fit
from eval.features import Features, expect, labelled_digest
from eval.protocol import Result
from utils import jpeg

GALLERY, CLEAN = -1, 0  # besides the distances
LEVELS = {"clean": CLEAN, "d1": 1, "d2": 2, "d3": 3}


class Faces(Protocol):
    """A source of labelled encoded faces, as training reads them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[bytes, int]: ...

    def labels(self) -> np.ndarray: ...

    def where(self, index: int) -> str: ...


OpenFaces = Callable[[Path], Faces]


class CameraImages:
    """Images of a set, as they are or as the camera has them.

    Args:
        faces: the set.
        chosen: (n,) indices of faces.
        level: (n,) int8: GALLERY or CLEAN, as it is; 1 to 3: distance.

    Raises:
        ValueError: a face of the set that is none or is cut; all are looked at, so that damage is found before a model
            works for them.
    """

    def __init__(self, faces: Faces, chosen: np.ndarray, level: np.ndarray):
        self._faces, self._chosen, self._level = faces, chosen, level
        said = {GALLERY: "gallery"} | {at: name for name, at in LEVELS.items()}
        self.names = [f"{index}@{said[at]}" for index, at in zip(chosen.tolist(), level.tolist(), strict=True)]
        sha = hashlib.sha256(repr((camera.VERSION, degrade.VERSION)).encode() + chosen.tobytes() + level.tobytes())
        for index in range(len(faces)):
            data = faces[index][0]
            try:
                jpeg.check(data)
            except jpeg.ImageError as error:
                raise self._unusable(index, error) from None
            sha.update(len(data).to_bytes(8, "little") + data)
        self._digest = sha.hexdigest()

    def __len__(self) -> int:
        return len(self._chosen)

    def read(self, start: int, end: int) -> np.ndarray:
        """(end - start, 112, 112, 3) uint8 RGB.

        Raises:
            ValueError: an image cannot be decoded; names it.
        """
        images = np.empty((end - start, degrade.SIDE, degrade.SIDE, 3), np.uint8)
        for row, at in enumerate(range(start, end)):
            index, level = int(self._chosen[at]), int(self._level[at])
            try:
                image = fit(jpeg.decode(self._faces[index][0]))
            except jpeg.ImageError as error:
                raise self._unusable(index, error) from None
            images[row] = image if level in (GALLERY, CLEAN) else camera.photograph(image, index, level)
        return images

    def digest(self) -> str:
        """Of the encoded images, of which are chosen, and of what is done to them."""
        return self._digest

    def _unusable(self, index: int, error: Exception) -> ValueError:
        return ValueError(f"{self._faces.where(index)} cannot be used ({error}); put a whole image in its place")


class Surveillance:
    """The protocol on one set of faces.

    Args:
        faces: the set.
        name: of the target, as `surveillance:celeba_test`.

    Raises:
        ValueError: fewer than two identities, no identity with two images, a face that is none or is cut.
    """

    version = 1

    def __init__(self, faces: Faces, name: str):
        self.name = name
        labels = np.asarray(faces.labels())
        people, first = np.unique(labels, return_index=True)
        probes = np.setdiff1d(np.arange(len(labels)), first)
        if len(people) < 2 or not len(probes):
            raise ValueError(
                f"{name}: {len(labels)} images of {len(people)} identities; expected two identities or more, and "
                "more than one image of at least one of them: the first is its gallery image, the others are probes"
            )
        chosen = np.concatenate([first, *[probes] * len(LEVELS)])
        counts = [len(first), *[len(probes)] * len(LEVELS)]
        self.level = np.repeat(np.array([GALLERY, *LEVELS.values()], np.int8), counts)
        self.identity = labels[chosen].astype(np.int32)
        self.images = CameraImages(faces, chosen, self.level)

    def score(self, features: Features) -> Result:
        """`clean`, `d1`, `d2`, `d3`: rank-1 rates; `d1_rank5` ...; `average` of d1 to d3. See `identify`.

        Evidence has each probe's `distance` too, 0 for a clean one.

        Raises:
            ValueError: features of other images.
        """
        expect(features, len(self.images), self.name)
        levels = {name: self.level == level for name, level in LEVELS.items()}
        result = identify(features, self.is_gallery, self.identity, levels)
        return result._replace(evidence=result.evidence | {"distance": self.level[~self.is_gallery]})

    @property
    def is_gallery(self) -> np.ndarray:
        """(n,) bool of `images`."""
        return self.level == GALLERY

    def digest(self) -> str:
        """Of the images and of whom they show at which distance."""
        return labelled_digest(self.images, self.identity, self.level)


def find_faces(root: Path, name: str) -> Path | None:
    """`root/name`, a folder of faces or a `.rec` file, or `root/name.rec`; None: not there."""
    return next((path for path in (root / name, root / f"{name}.rec") if name and path.exists()), None)
