"""What every protocol is: images to embed, and a function from their features to numbers."""

from typing import NamedTuple, Protocol

import numpy as np

from eval.embed import Embed
from eval.features import Features, Images, extract
from eval.hardest import sheets


class Result(NamedTuple):
    """What a protocol found out.

    `metrics`: name -> number; rates are fractions. `headline`: the metrics that a table shows, in order.
    `intervals`: metric -> its 95 % interval, where one is known. `evidence`: arrays that plots and the comparison of
    two models need. `notes`: warnings for the user, a line each.

    Evidence has the same names everywhere. For the comparison of two models: `replicates/METRIC` (draws,) of the
    bootstrap, or `right/METRIC` (n,) bool, which pairs were right, where the metric is their mean and no pair is known
    to go with another. For plots: `dist` (n,) float32 and `issame` (n,) bool of verification (`dist/METRIC` where there
    are several); `rank` (probes,) int32, 1 is best, `identity` (probes,), and where there are distances (SCface,
    surveillance) `distance` (0: a clean probe), `matched/d1` and `unmatched/d1`: cosines of d1's probes with their own
    gallery image and with the most similar other one; `far` and `tar`, a
    ROC curve; `discarded` and `fnmr`, an error-versus-discard curve; `z/GRADE` (images,), norms by grade. For pictures:
    `hard/GROUP` and `sheet/low`, `sheet/high`, see `eval.hardest`.
    """

    metrics: dict[str, float]
    headline: tuple[str, ...]
    intervals: dict[str, tuple[float, float]]
    evidence: dict[str, np.ndarray]
    notes: tuple[str, ...] = ()


class Target(Protocol):
    """A protocol on its data, opened and checked: lists and images are there. `version` is the protocol's."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def images(self) -> Images: ...

    def score(self, features: Features) -> Result:
        """The numbers of a model that gives these features of `images`.

        Raises:
            ValueError: features of another number of images.
        """

    def digest(self) -> str:
        """SHA-256 in hex of what is measured: images, labels, lists; equal for a copy of the data elsewhere."""


def evaluate(embed: Embed, target: Target, fusion: str = "sum") -> Result:
    """Embed a target's images and score them; with several ranks each embeds its share.

    Raises:
        ValueError: an image cannot be used, features that are not finite.
    """
    return scored(target, extract(embed, target.images, fusion))


def scored(target: Target, features: Features) -> Result:
    """The target's result; where there are images, its evidence also names those of the lowest and highest norms.

    Raises:
        ValueError: features of another number of images.
    """
    result = target.score(features)
    return result if target.images is None else result._replace(evidence=result.evidence | sheets(features.z))


def file_stem(name: str) -> str:
    """A target's name as a part of file names."""
    return name.replace(":", "_")
