"""Images of a protocol that are files of a folder: listed, checked, decoded and aligned as they are read."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np

from eval.embed import fit
from utils import jpeg
from utils.align import AlignError, align
from utils.images import is_image
from utils.landmarks import read_landmarks
from utils.lists import text_lines

LANDMARKS = "landmarks.txt"


class ImageFiles:
    """A protocol's images (`eval.features.Images`), by the paths of their files.

    An image with landmarks is aligned by them. One without is taken as aligned already: resized to 112 x 112, and
    first cut to the square at its centre where it is not square; `uncropped` counts those.

    Args:
        root: the folder.
        names: n paths below it, with slashes; the caller has seen that they are there.
        landmarks: (n, 5, 2) float32 x, y in pixels, as `utils.align.align` takes them, a row of NaN for an image that
            has none; None: no image has.
    """

    def __init__(self, root: Path | str, names: Sequence[str], landmarks: np.ndarray | None = None):
        self.root, self.names, self.landmarks = Path(root), list(names), landmarks
        self._aligned = np.zeros(len(names), bool) if landmarks is None else ~np.isnan(landmarks).any(axis=(1, 2))

    def __len__(self) -> int:
        return len(self.names)

    def read(self, start: int, end: int) -> np.ndarray:
        """(end - start, 112, 112, 3) uint8 RGB.

        Raises:
            ValueError: a file that cannot be read or is no whole image, landmarks that fit no face; names the file.
        """
        images = np.empty((end - start, 112, 112, 3), np.uint8)
        for index in range(start, end):
            data = self._bytes(index)
            try:
                image = jpeg.decode(data)
                points = self.landmarks[index] if self.landmarks is not None and self._aligned[index] else None
                images[index - start] = fit(image) if points is None else align(image, points)
            except (jpeg.ImageError, AlignError) as error:
                raise self._unusable(index, error) from None
        return images

    def digest(self) -> str:
        """SHA-256 (hex) of names, contents and landmarks; the files are read once.

        Raises:
            ValueError: a file that cannot be read, is no image or is cut; names it.
        """
        return self._contents[0]

    @property
    def uncropped(self) -> int:
        """Images that are not square and have no landmarks; raises as `digest`, which reads them too."""
        return self._contents[1]

    @cached_property
    def _contents(self) -> tuple[str, int]:
        total = hashlib.sha256(b"" if self.landmarks is None else np.ascontiguousarray(self.landmarks).tobytes())
        uncropped = 0
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for name, (content, square) in zip(self.names, pool.map(self._content, range(len(self))), strict=True):
                total.update(name.encode(errors="surrogateescape") + b"\0" + content)
                uncropped += not square
        return total.hexdigest(), uncropped

    def _content(self, index: int) -> tuple[bytes, bool]:
        """Digest of a file, and whether its image needs no cut."""
        data = self._bytes(index)
        try:
            width, height = jpeg.check(data)
        except jpeg.ImageError as error:
            raise self._unusable(index, error) from None
        return hashlib.sha256(data).digest(), width == height or bool(self._aligned[index])

    def _bytes(self, index: int) -> bytes:
        try:
            return (self.root / self.names[index]).read_bytes()
        except OSError as error:
            raise self._unusable(index, error.strerror or error) from None

    def _unusable(self, index: int, reason: object) -> ValueError:
        return ValueError(f"{self.root / self.names[index]} cannot be used ({reason}); put a whole image in its place")


def list_images(folder: Path | str) -> list[str]:
    """Of `list_files` those that are images."""
    return [name for name in list_files(folder) if is_image(name)]


def list_files(folder: Path | str) -> list[str]:
    """Paths below `folder`, with slashes, of the files in it and its folders, in name order; hidden ones not."""
    names = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent).relative_to(folder)
        names += [(below / file).as_posix() for file in files if not file.startswith(".")]
    return sorted(names)


def find_landmarks(folder: Path | str, names: Sequence[str]) -> np.ndarray | None:
    """(n, 5, 2) float32 from `folder/landmarks.txt` (`path x1 y1 ... x5 y5`, paths below the folder), NaN for images it
    does not hold; None without that file.

    Raises:
        ValueError: as `read_landmarks`, or a path that is not there; names the file and the line.
    """
    path = Path(folder) / LANDMARKS
    if not path.is_file():
        return None
    found = read_landmarks(path)
    for name in found:
        if not (path.parent / name).is_file():
            line = next(number for number, line in text_lines(path) if name in line)
            raise ValueError(f"{path}: line {line}: {name} is not below {folder}")
    none = np.full((5, 2), np.nan)
    return np.array([found.get(name, none) for name in names], np.float32).reshape(-1, 5, 2)


def alignment_note(images: ImageFiles) -> tuple[str, ...]:
    """A warning where images are neither aligned nor have landmarks. It reads every file, so that damage is found
    before a model works on them.

    Raises:
        ValueError: as `ImageFiles.digest`.
    """
    if not images.uncropped:
        return ()
    return (
        f"{images.uncropped} of {len(images)} images are not square and not in {LANDMARKS}: cut to the square at their "
        "centre, not aligned; published numbers are those of aligned faces",
    )
