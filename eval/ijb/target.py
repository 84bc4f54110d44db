"""IJB-B and IJB-C as a target: 1:1 on the list of template pairs, 1:N on the galleries and mixed probes."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval.confidence import interval
from eval.features import Features
from eval.identification import TIE, rank_rates
from eval.ijb.identification import NAMES, RANKS, identify
from eval.ijb.images import FaceImages
from eval.ijb.intervals import subject_numbers, verification_replicates
from eval.ijb.meta import LISTS, TARGETS, list_path, read_faces, read_pairs
from eval.ijb.pooling import pool
from eval.ijb.scores import pair_scores
from eval.ijb.subjects import read_search, search_paths
from eval.protocol import Result
from eval.roc import insightface_tar, roc_points, strict_tar
from utils.files import file_digest

FARS = {f"1e-{k}": 10**-k for k in range(6, 0, -1)}
ALIKE = 1e-6  # a spread of templates below which their scores are rounding
WHOLE = {"ijbb": (227_630, 12_115, 8_010_270), "ijbc": (469_375, 23_124, 15_658_489)}  # images, templates, pairs


class Templates(NamedTuple):
    """`u` (T, D) float64 unit features; `notes` says what is wrong with them."""

    u: np.ndarray
    notes: tuple[str, ...]


class IJB:
    """IJB-B or IJB-C; the lists are read and checked, and all images are there.

    Args:
        folder: InsightFace's, with `meta/` and `loose_crop/`.
        target: "IJBB" or "IJBC".
        use_norm_score: False: each image's feature is brought to unit length before they are pooled.
        use_detector_score: weigh each image by its detector score.
        with_images: False: for features made elsewhere; `images` is None, landmarks are not read.

    Raises:
        MetaError: a list is missing or damaged, or contradicts another; names file and line.
        ValueError: images are missing, another target.
    """

    version = 1

    def __init__(
        self,
        folder: Path | str,
        target: str,
        use_norm_score: bool = True,
        use_detector_score: bool = True,
        with_images: bool = True,
    ):
        self.name, self.folder = target.lower(), Path(folder)
        self.use_norm_score, self.use_detector_score = use_norm_score, use_detector_score
        self.faces = read_faces(self.folder, target, landmarks=with_images)
        self.pairs = read_pairs(self.folder, target, self.faces.templates)
        self.search = read_search(self.folder, target, self.faces.templates)
        self.images: FaceImages = None  # type: ignore[assignment]  # nobody asks for them without `with_images`
        if self.faces.landmarks is not None:
            listed = list_path(self.folder, target, LISTS[1])
            self.images = FaceImages(self.folder / "loose_crop", self.faces.names, self.faces.landmarks, listed)

    def digest(self) -> str:
        """SHA-256 in hex of the names and bytes of all lists: landmarks, scores, templates, pairs and labels, 1:N.

        A copy of the folder has the same one, with images or without. What the image files hold is not in it: the names
        of the faces are, and `FaceImages.digest` tells when a file of this folder changes. Reads the lists anew.
        """
        lists = [list_path(self.folder, self.name.upper(), name) for name in LISTS]
        if self.search is not None:
            lists += search_paths(self.folder, self.name.upper())
        facts = "".join(f"{path.name} {file_digest(path)}\n" for path in lists)
        return hashlib.sha256(facts.encode()).hexdigest()

    def templates(self, h: np.ndarray) -> Templates:
        """Pool (n, D) float32 features of the images.

        Raises:
            ValueError: features of another number of images.
        """
        faces = self.faces
        if len(h) != len(faces.names):
            raise ValueError(f"features of {len(h)} images, but {self.name} has {len(faces.names)}")
        weights = self.use_norm_score, self.use_detector_score
        u = pool(h, faces.score, faces.template, faces.media, *weights)
        notes = self._incomplete()
        zero = np.flatnonzero(~u.any(axis=1))
        if len(zero):
            first = faces.templates[zero[0]]
            notes.append(f"{len(zero)} of {len(u)} templates are zero, the first is {first}: they score 0")
        if np.ptp(u, axis=0).max() < ALIKE:
            notes.append(f"all templates are the same within {ALIKE:g}: the numbers are made of rounding")
        return Templates(u, tuple(notes))

    def _incomplete(self) -> list[str]:
        """A warning where the lists are not the whole set's."""
        counts = len(self.faces.names), len(self.faces.templates), len(self.pairs.issame)
        if counts == WHOLE[self.name]:
            return []
        shown = [
            f"{count:,} {what} of {whole:,}"
            for count, what, whole in zip(counts, ("images", "templates", "pairs"), WHOLE[self.name], strict=True)
        ]
        return [
            f"not the whole {self.name.upper()}: {', '.join(shown)}; its numbers cannot be compared with published ones"
        ]

    def pair_scores(self, templates: Templates) -> np.ndarray:
        """(pairs,) float64 scores in the list's order."""
        return pair_scores(templates.u, self.pairs.first, self.pairs.second)

    def score(self, features: Features) -> Result:
        """1:1 and, where its lists are there, 1:N.

        Metrics: `tar@far=1e-6` ... `1e-1` by InsightFace's choice of the nearest point of the ROC, `strict_tar@far=...`
        without exceeding the FAR; those of `eval.ijb.identification.identify`; `pairs`, and `xnorm` (mean norm).
        Intervals (bootstrap over subjects) are those of ranks and, where the lists of 1:N name every subject, of
        `strict_tar@far=1e-6` ... `1e-3`; `tar@far=...` has none, the nearest point being another estimate.

        Raises:
            ValueError: features of another number of images, or not finite.
        """
        templates = self.templates(features.h)
        scores = self.pair_scores(templates)
        result = verification(scores, self.pairs.issame)
        result.metrics.update(pairs=len(scores), xnorm=float(features.z.mean(dtype=np.float64)))
        replicates = verification_replicates(scores, self.pairs, subject_numbers(self.search, len(templates.u)))
        result.evidence.update({f"replicates/{name}": draws for name, draws in replicates.items()})
        defined = {name: draws for name, draws in replicates.items() if not np.isnan(draws).all()}
        result.intervals.update({name: interval(draws) for name, draws in defined.items()})
        if self.search is None:
            return result._replace(notes=(*templates.notes, f"no 1:N: no lists of it in {self.folder / 'meta'}"))
        found, rank = identify(templates.u, self.search)
        ranks = rank_rates(rank, self.search.probes.subject, RANKS)
        result.metrics.update(found)
        result.intervals.update(ranks.intervals)
        result.evidence.update({"rank": rank, "identity": self.search.probes.subject, **ranks.evidence})
        return result._replace(headline=(*result.headline, *NAMES), notes=templates.notes)


def verification(scores: np.ndarray, issame: np.ndarray) -> Result:
    """TAR at IJB's FARs from (p,) scores and flags; see `IJB.score`. A genuine pair that is above an impostor one by no
    more than rounding ties with it, and does not count in the strict rates.
    """
    genuine, impostor = scores[issame], np.sort(scores[~issame])
    nearest, _ = insightface_tar(genuine, impostor, list(FARS.values()))
    strict = strict_tar(genuine - TIE, impostor, list(FARS.values()))
    metrics = {f"tar@far={far}": float(tar) for far, tar in zip(FARS, nearest, strict=True)}
    metrics |= {f"strict_tar@far={far}": float(tar) for far, tar in zip(FARS, strict, strict=True)}
    far, tar = roc_points(genuine, impostor)
    headline = (*(f"tar@far={far}" for far in FARS), "strict_tar@far=1e-4")
    return Result(metrics, headline, {}, {"far": far, "tar": tar})


def find_ijb(root: Path | str, name: str) -> Path | None:
    """The folder of "ijbb" or "ijbc": `root/IJBB`, `root/ijbb`, or `root` where it has one of its lists; else None.

    Raises:
        ValueError: an unknown name.
    """
    if name.upper() not in TARGETS:
        raise ValueError(f"{name!r}: expected {' or '.join(target.lower() for target in TARGETS)}")
    for folder in (Path(root) / name.upper(), Path(root) / name.lower()):
        if folder.is_dir():
            return folder  # whatever is in it: what is wrong there is said when it is opened
    return Path(root) if any(Path(root).glob(f"meta/{name.lower()}_*")) else None
