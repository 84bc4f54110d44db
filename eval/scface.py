"""SCface: faces of surveillance cameras at three distances against mugshots (Grgic, Delac and Grgic, 2011).

130 identities. Gallery: one frontal mugshot each. Probes: cameras 1 to 5 by daylight at d1 (4.2 m), d2 (2.6 m) and d3
(1.0 m): 650 for each distance. Cameras 6 and 7 are the night pictures of two of them, camera 8 took infrared mugshots;
the protocol leaves them out. docs/evaluation.md shows the folders.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval.distances import identify
from eval.features import Features, expect, labelled_digest
from eval.image_files import ImageFiles, alignment_note, find_landmarks, list_images
from eval.protocol import Result

FOLDERS = ("scface", "scface_database", "scface_aligned")
IDENTITIES, CAMERAS, DISTANCES = 130, (1, 2, 3, 4, 5), (1, 2, 3)

_MUGSHOT = re.compile(r"(\d{1,9})_frontal", re.IGNORECASE)
_PROBE = re.compile(r"(\d{1,9})_cam(\d)_([123])", re.IGNORECASE)
_INFRARED = re.compile(r"(\d{1,9})_cam([678])(_[123])?", re.IGNORECASE)
# the owners' folders that hold the same pictures, the one to take first
_MUGSHOT_FOLDERS = ("mugshot_frontal_cropped_all", "mugshot_frontal_original_all", "mugshot_rotation_all")
_PROBE_FOLDERS = ("surveillance_cameras_distance_", "surveillance_cameras_all")


class SCface(NamedTuple):
    """The protocol as a target. `identity` (n,) int32 and `distance` (n,) int8 of each image, distance 0: mugshot."""

    images: ImageFiles
    identity: np.ndarray
    distance: np.ndarray
    notes: tuple[str, ...] = ()
    name: str = "scface"
    version: int = 1

    def score(self, features: Features) -> Result:
        """`d1`, `d2`, `d3`: rank-1 rates of each distance; `d1_rank5`, `d1_rank10` ...; `average` of the three. See
        `identify`; evidence has each probe's `distance` too.

        Raises:
            ValueError: features of other images, or that are not finite.
        """
        expect(features, len(self.images), self.name)
        gallery = self.distance == 0
        result = identify(features, gallery, self.identity, {f"d{d}": self.distance == d for d in DISTANCES})
        return result._replace(evidence=result.evidence | {"distance": self.distance[~gallery]}, notes=self.notes)

    def digest(self) -> str:
        """Of the images and of whom they show at which distance."""
        return labelled_digest(self.images, self.identity, self.distance)


def find_scface(root: Path | str) -> Path | None:
    """The folder of SCface: `root/scface`, `root/SCface_database` (in any case) or `root` itself; None: not there."""
    root = Path(root)
    if not root.is_dir():
        return None
    folders = sorted(path for path in root.iterdir() if path.name.lower() in FOLDERS and path.is_dir())
    if folders:
        return folders[0]
    itself = any(path.name.lower() in _MUGSHOT_FOLDERS or _MUGSHOT.fullmatch(path.stem) for path in root.iterdir())
    return root if itself else None


def open_scface(folder: Path | str) -> SCface:
    """Find the mugshots and probes below `folder` by their file names.

    Raises:
        ValueError: no mugshots or no probes, two files of one mugshot or probe, a probe without a mugshot, landmarks
            of images that are not there, an image that is damaged; names the file.
    """
    folder = Path(folder)
    names = list_images(folder)
    mugshots = _unique(folder, _taken(names, _MUGSHOT, _MUGSHOT_FOLDERS), lambda match: int(match[1]))
    taken = _taken(names, _PROBE, _PROBE_FOLDERS)
    daylight = {name: match for name, match in taken.items() if int(match[2]) in CAMERAS}
    probes = _unique(folder, daylight, lambda match: (int(match[3]), int(match[1]), int(match[2])))
    if not mugshots or not probes:
        raise ValueError(
            f"{folder} holds {len(mugshots)} frontal mugshots and {len(probes)} probes of SCface; expected mugshots "
            "named 001_frontal.jpg and probes named 001_cam1_1.jpg (identity, camera 1 to 5, distance 1 to 3)"
        )
    for (_, identity, _), name in probes.items():
        if identity not in mugshots:
            raise ValueError(
                f"{folder / name}: identity {identity} has no mugshot; "
                f"expected {identity:03d}_frontal.jpg below {folder}"
            )
    gallery, probes = dict(sorted(mugshots.items())), dict(sorted(probes.items()))
    used = [*gallery.values(), *probes.values()]
    identity = np.array([*gallery, *(identity for _, identity, _ in probes)], np.int32)
    distance = np.array([0] * len(gallery) + [distance for distance, _, _ in probes], np.int8)
    images = ImageFiles(folder, used, find_landmarks(folder, used))
    notes = (*_incomplete(gallery, probes), *alignment_note(images), *_left_out(names, len(used)))
    return SCface(images, identity, distance, notes)


def _taken(names: list[str], pattern: re.Pattern, folders: tuple[str, ...]) -> dict[str, re.Match]:
    """The names that match, of those in the folder to take first: any other folder comes before `folders`."""

    def place(name: str) -> int:
        parents = [part.lower() for part in Path(name).parts[:-1]]
        return next((i for i, folder in enumerate(folders) if any(p.startswith(folder) for p in parents)), -1)

    matches = {name: match for name in names if (match := pattern.fullmatch(Path(name).stem))}
    first = min(map(place, matches), default=-1)
    return {name: match for name, match in matches.items() if place(name) == first}


def _unique(folder: Path, matches: dict[str, re.Match], key: Callable[[re.Match], object]) -> dict:
    """Key -> name."""
    found: dict = {}
    for name, match in matches.items():
        other = found.setdefault(key(match), name)
        if other != name:
            raise ValueError(f"{folder / other} and {folder / name} are the same picture of SCface; keep one of them")
    return found


def _left_out(names: list[str], used: int) -> tuple[str, ...]:
    infrared = sum(bool(_INFRARED.fullmatch(Path(name).stem)) for name in names)
    others = len(names) - used - infrared
    if infrared == others == 0:
        return ()
    return (f"left out: {infrared} pictures of cameras 6 to 8 (infrared) and {others} of other views or other copies",)


def _incomplete(gallery: dict, probes: dict) -> tuple[str, ...]:
    """A warning where this is not all of SCface."""
    wanted = [(d, identity, camera) for d in DISTANCES for identity in gallery for camera in CAMERAS]
    missing = [
        f"{identity:03d}_cam{camera}_{d}" for d, identity, camera in wanted if (d, identity, camera) not in probes
    ]
    if len(gallery) == IDENTITIES and not missing:
        return ()
    counts = [f"{sum(d == distance for distance, _, _ in probes)} probes at d{d}" for d in DISTANCES]
    absent = f"; missing: {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}" if missing else ""
    return (
        f"not the whole SCface: {len(gallery)} mugshots of {IDENTITIES}, {', '.join(counts)} of "
        f"{IDENTITIES * len(CAMERAS)}{absent}; its numbers cannot be compared with published ones",
    )
