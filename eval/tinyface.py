"""TinyFace: 1:N identification of faces of about 20 x 16 pixels among many strangers (Cheng, Zhu and Gong, 2018).

3,728 probes; gallery: 4,443 images of the same identities and 153,428 distractors. Two MATLAB lists name the probes and
the gallery images and give their identities; the distractors are whatever is in their folder. docs/evaluation.md shows
the folders.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.io import loadmat

from eval.confidence import interval, mean_replicates
from eval.features import Features, expect, labelled_digest
from eval.hardest import hardest_probes
from eval.identification import rank_rates, search
from eval.image_files import ImageFiles, alignment_note, find_landmarks, list_images
from eval.protocol import Result

PROBES, MATCHES, DISTRACTORS = 3728, 4443, 153428
DISTRACTOR = -1  # identity of all distractors

_PROBE_LIST, _GALLERY_LIST = "probe_img_ID_pairs.mat", "gallery_match_img_ID_pairs.mat"
_LIST_FOLDERS = ("", "Testing_Set", "tinyface/Testing_Set", "Face_Identification_Evaluation")
_LARGEST_LIST = 64 << 20  # bytes


class TinyFace(NamedTuple):
    """The protocol as a target. The images are probes, gallery matches, distractors; `identity` (n,) int32."""

    images: ImageFiles
    identity: np.ndarray
    probes: int
    notes: tuple[str, ...] = ()
    name: str = "tinyface"
    version: int = 1

    def score(self, features: Features) -> Result:
        """`rank1`, `rank5`, `rank20` and `map`: fractions.

        Raises:
            ValueError: features of other images, or that are not finite.
        """
        expect(features, len(self.images), self.name)
        h, identity, probes = features.h, self.identity, self.probes
        found = search(h[:probes], h[probes:], identity[:probes], identity[probes:])
        rates = rank_rates(found.rank, identity[:probes], {f"rank{k}": k for k in (1, 5, 20)})
        replicates = mean_replicates(found.precision, identity[:probes])
        metrics = rates.metrics | {
            "map": float(found.precision.mean()),
            "probes": probes,
            "xnorm": float(features.z.mean(dtype=np.float64)),
        }
        evidence = rates.evidence | {"rank": found.rank, "identity": identity[:probes], "replicates/map": replicates}
        at = np.arange(probes), np.arange(probes, len(h))
        evidence |= hardest_probes("probes", h, *at, identity, found.rank)
        intervals = rates.intervals | {"map": interval(replicates)}
        return Result(metrics, (*rates.headline, "map"), intervals, evidence, self.notes)

    def digest(self) -> str:
        """Of the images and of whom they show."""
        return labelled_digest(self.images, self.identity)


def find_tinyface(root: Path | str) -> Path | None:
    """The folder of TinyFace: `root` with the lists in it, or `root/tinyface` (in any case); None: not there."""
    root = Path(root)
    if not root.is_dir():
        return None
    if _lists(root):
        return root
    folders = sorted(path for path in root.iterdir() if path.name.lower() == "tinyface" and path.is_dir())
    return folders[0] if folders else None


def open_tinyface(folder: Path | str) -> TinyFace:
    """Read the lists and find every image: the aligned ones (`aligned*/Probe` ...) where there are, else the owners'.

    Raises:
        ValueError: no lists, a damaged one, entries that name no image or one twice, a probe whose identity is not in
            the gallery, several folders of aligned images, an image that is damaged; names the file and the entry.
    """
    folder = Path(folder)
    lists = _lists(folder)
    if lists is None:
        raise ValueError(
            f"{folder} has no {_PROBE_LIST}; expected it there, in Testing_Set or in tinyface/Testing_Set, with "
            f"{_GALLERY_LIST} beside it"
        )
    root = _image_root(folder, lists)
    probes, probe_ids = _listed(lists / _PROBE_LIST, "probe", root, "Probe")
    matches, match_ids = _listed(lists / _GALLERY_LIST, "gallery", root, "Gallery_Match")
    known = set(match_ids.tolist())
    for entry, identity in enumerate(probe_ids.tolist(), 1):
        if identity not in known:
            raise ValueError(
                f"{lists / _PROBE_LIST}: entry {entry}, {probes[entry - 1]}: "
                f"identity {identity} is not in {_GALLERY_LIST}"
            )
    distractors = [f"Gallery_Distractor/{name}" for name in list_images(root / "Gallery_Distractor")]
    names = [*probes, *matches, *distractors]
    identity = np.concatenate([probe_ids, match_ids, np.full(len(distractors), DISTRACTOR)]).astype(np.int32)
    images = ImageFiles(root, names, find_landmarks(root, names))
    notes = _incomplete(len(probes), len(matches), len(distractors)) + alignment_note(images)
    return TinyFace(images, identity, len(probes), notes)


def _lists(folder: Path) -> Path | None:
    """The folder that holds the lists."""
    return next((folder / below for below in _LIST_FOLDERS if (folder / below / _PROBE_LIST).is_file()), None)


def _image_root(folder: Path, lists: Path) -> Path:
    """The folder that holds Probe, Gallery_Match and Gallery_Distractor."""
    aligned = _aligned({folder, lists, lists if lists == folder else lists.parent})
    if not aligned and folder.name.lower() == "tinyface":
        aligned = _aligned({folder.parent})
    if len(aligned) > 1:
        raise ValueError(f"{' and '.join(map(str, sorted(aligned)))} both hold aligned images; keep one of them")
    candidates = [*aligned, lists, folder / "Testing_Set", folder / "tinyface/Testing_Set"]
    return next((path for path in candidates if (path / "Probe").is_dir()), lists)


def _aligned(parents: set[Path]) -> set[Path]:
    return {path for parent in parents for path in parent.glob("aligned*") if (path / "Probe").is_dir()}


def _listed(path: Path, kind: str, root: Path, below: str) -> tuple[list[str], np.ndarray]:
    """Names below `root` and identities (n,) of a list's entries; an image may have another extension than there."""
    entries, identities = _read_pairs(path, kind)
    there: dict[str, str] = {}
    for name in list_images(root / below):
        other = there.setdefault(_stem(name), name)
        if other != name:
            raise ValueError(
                f"{root / below / other} and {root / below / name} are one image of {path}; keep one of them"
            )
    used: dict[str, int] = {}
    for number, entry in enumerate(entries, 1):
        if _stem(entry) not in there:
            raise ValueError(f"{path}: entry {number} names {entry[:80]!r}, which is not in {root / below}")
        if used.setdefault(_stem(entry), number) != number:
            raise ValueError(f"{path}: entry {number} names {entry!r}, as entry {used[_stem(entry)]} does")
    return [f"{below}/{there[stem]}" for stem in used], identities


def _stem(name: str) -> str:
    return os.path.splitext(os.path.basename(name))[0]


def _read_pairs(path: Path, kind: str) -> tuple[list[str], np.ndarray]:
    """File names and identities (n,) of `probe_set` and `probe_ids`, or `gallery_set` and `gallery_ids`."""
    try:
        if path.stat().st_size > _LARGEST_LIST:
            raise ValueError(f"larger than {_LARGEST_LIST} bytes")
        content = loadmat(path, variable_names=[f"{kind}_set", f"{kind}_ids"])
        names = [str(np.ravel(cell)[0]).strip() for cell in np.ravel(content[f"{kind}_set"])]
        ids = np.ravel(content[f"{kind}_ids"]).astype(np.float64)
        if not len(names) or len(names) != len(ids):
            raise ValueError(f"{len(names)} names and {len(ids)} identities")
        if not ((ids >= 0) & (ids < 2**31) & (ids == np.floor(ids))).all():
            raise ValueError("identities that are no whole numbers from 0 on")
    except Exception as error:  # damaged bytes make loadmat raise almost anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{path} is no list of TinyFace ({reason}); expected MATLAB 5 data with {kind}_set (file names) and "
            f"{kind}_ids"
        ) from None
    return names, ids.astype(np.int64)


def _incomplete(probes: int, matches: int, distractors: int) -> tuple[str, ...]:
    """A warning where this is not all of TinyFace."""
    if (probes, matches, distractors) == (PROBES, MATCHES, DISTRACTORS):
        return ()
    without = "without distractors the search is much easier; " if not distractors else ""
    return (
        f"not the whole TinyFace: {probes} probes of {PROBES}, {matches} gallery images of {MATCHES}, {distractors} "
        f"distractors of {DISTRACTORS}; {without}its numbers cannot be compared with published ones",
    )
