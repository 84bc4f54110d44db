"""Which images go into a set, in which order, with which labels: all decided before the first is read."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recognition.data.sources import MAX_CLASSES
from tools.pack.sources import Faces, Task
from utils.lists import text_lines

MERGES = ("separate", "names", "labels")


class Subset(NamedTuple):
    """What is kept of all images; None keeps everything."""

    only: Path | None = None
    without: Path | None = None
    min_images: int = 1
    max_images: int | None = None
    take: int | None = None
    seed: int = 0


class Plan:
    """The images of a set in the order of the file.

    Attributes:
        source, index: (n,) int64: which source, which of its images.
        labels: (n,) int64 in [0, num_classes).
        identities: the classes' names.
    """

    def __init__(self, sources: list[Faces], merge: str, subset: Subset, shuffle: int | None):
        self.sources, self.merge = sources, merge
        self.source = np.repeat(np.arange(len(sources)), [len(faces.labels) for faces in sources])
        self.index = np.concatenate([np.arange(len(faces.labels)) for faces in sources])
        labels, names = _merged(sources, merge)
        kept = _select(labels, names, subset)
        used, labels = np.unique(labels[kept], return_inverse=True)
        self.identities = [names[number] for number in used]
        order = np.argsort(labels, kind="stable")
        if shuffle is not None:
            order = np.argsort(np.random.default_rng(shuffle).random(len(order)), kind="stable")
        self.source, self.index, self.labels = self.source[kept][order], self.index[kept][order], labels[order]
        self.landmarks: dict[int, np.ndarray] = {}
        if self.num_classes > MAX_CLASSES:
            raise ValueError(f"{self.num_classes} identities: float32 labels tell {MAX_CLASSES} apart; --take fewer")

    @property
    def num_classes(self) -> int:
        return len(self.identities)

    def __len__(self) -> int:
        return len(self.labels)

    def task(self, position: int) -> Task:
        task = self.sources[self.source[position]].task(int(self.index[position]))
        found = self.landmarks.get(position)
        return task if found is None else task._replace(landmarks=found)

    def name(self, position: int) -> str:
        """The image's name in the new list. Of several sources each has its number in front, of the identity's folder
        or, where identities are shared, of the file, so that no two names are the same. What is no .jpg gets that
        ending, since every image is one in the set.
        """
        name = self.sources[self.source[position]].names[self.index[position]]
        if not name.lower().endswith((".jpg", ".jpeg")):
            name += ".jpg"
        if len(self.sources) == 1:
            return name
        number = self.source[position] + 1
        if self.merge == "separate":
            return f"{number}-{name.lstrip('/')}"
        identity = self.identities[self.labels[position]]
        folder, _, file = name.rpartition("/")
        return f"{identity}/{number}-{file if folder.endswith(identity) else name.replace('/', '_')}"

    def use_landmarks(self, found: dict[str, np.ndarray], path: Path) -> None:
        """Give the images the landmarks of a list that knows them by name, path, or absolute path.

        Raises:
            ValueError: the list knows none of them.
        """
        for position in range(len(self)):
            for alias in self.sources[self.source[position]].aliases(int(self.index[position])):
                if alias in found:
                    self.landmarks[position] = found[alias]
                    break
        if not self.landmarks:
            raise ValueError(
                f"--landmarks {path}: none of its {len(found)} paths is an image here; it has {next(iter(found))!r}, "
                f"the first image is {next(iter(self.sources[0].aliases(0)))!r}"
            )

    def stamp(self) -> Iterator[bytes]:
        """What tells this plan from others, for a digest."""
        yield "\n".join(faces.stamp for faces in self.sources).encode()
        yield from (np.ascontiguousarray(array) for array in (self.source, self.index, self.labels))
        for position, points in self.landmarks.items():
            yield b"%d" % position + points.tobytes()


def digest(plan: Plan, settings: object) -> str:
    """Alike for the same images in the same order, made with the same settings."""
    total = hashlib.blake2b(repr(settings).encode(), digest_size=16)
    for part in plan.stamp():
        total.update(part)
    return total.hexdigest()


def _merged(sources: list[Faces], merge: str) -> tuple[np.ndarray, list[str]]:
    """Labels over all sources, and the identities' names."""
    if merge == "separate" or len(sources) == 1:
        starts = np.cumsum([0] + [len(faces.identities) for faces in sources])
        parts = [faces.labels + start for faces, start in zip(sources, starts[:-1], strict=True)]
        return np.concatenate(parts), [name for faces in sources for name in faces.identities]
    if merge == "labels":
        numbers = np.unique(np.concatenate([faces.numbers for faces in sources]))
        parts = [np.searchsorted(numbers, faces.numbers)[faces.labels] for faces in sources]
        return np.concatenate(parts), [str(number) for number in numbers]
    known: dict[str, int] = {}  # in the order in which the sources name them
    parts = []
    for faces in sources:
        own = np.array([known.setdefault(name, len(known)) for name in faces.identities])
        parts.append(own[faces.labels])
    return np.concatenate(parts), list(known)


def _select(labels: np.ndarray, names: list[str], subset: Subset) -> np.ndarray:
    """(n,) bool: the images that stay."""
    wanted = np.ones(len(names), bool)
    if subset.only is not None:
        wanted &= _listed(subset.only, "--only", names)
    if subset.without is not None:
        wanted &= ~_listed(subset.without, "--without", names)
    wanted &= np.bincount(labels, minlength=len(names)) >= subset.min_images
    candidates = np.flatnonzero(wanted)
    rng = np.random.default_rng(subset.seed)
    if subset.take is not None:
        if subset.take > len(candidates):
            raise ValueError(f"--take {subset.take}: only {len(candidates)} identities are left to choose from")
        chosen = np.argsort(rng.random(len(candidates)), kind="stable")[: subset.take]
        wanted = np.isin(np.arange(len(names)), candidates[chosen])
    kept = wanted[labels]
    if subset.max_images is not None:
        kept &= _rank_in_group(labels, rng) < subset.max_images
    if not kept.any():
        raise ValueError("nothing is left: --only, --without and --min-images leave no identity")
    return kept


def _rank_in_group(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n,) the place of each image in a random order of its identity's."""
    order = np.lexsort((rng.random(len(labels)), labels))
    starts = np.searchsorted(labels[order], labels[order])
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - starts
    return rank


def _listed(path: Path, option: str, names: list[str]) -> np.ndarray:
    listed = {line for _, line in text_lines(path)}
    if unknown := sorted(listed - set(names)):
        raise ValueError(
            f"{option} {path}: {len(unknown)} of its {len(listed)} identities are in no source, for example "
            f"{unknown[0]!r}; they are named like {names[0]!r}, one on each line"
        )
    return np.array([name in listed for name in names])
