"""Which channel order a model takes: the one in which it separates the pairs of a verification set better.

A model that gets its channels in the wrong order still works, a little worse, and no error says so. Both orders see the
same images and folds, so their difference is judged fold by fold: what all folds share falls out.

Shapes: n pairs, D dimension, F folds.
"""

from collections.abc import Callable

import numpy as np

from eval.confidence import standard_error
from eval.embed import Embed
from eval.features import Images, chunks
from eval.metrics import fold_accuracies

ORDERS = ("rgb", "bgr")
SURE = 2  # standard errors: about 95 % of a normal distribution lie within
LEAST = 1e-9  # of a deviation of distances, far below float32's rounding: a perfect set has a finite separation


def check_color(images: Images, issame: np.ndarray, embed_of: Callable[[str], Embed], folds: int = 10) -> dict:
    """Evaluate a set in both channel orders, without mirrored images.

    Args:
        images: 2n faces, pair i being images 2i and 2i + 1; `read(start, end)` gives (end - start, 112, 112, 3) uint8
            RGB.
        issame: (n,) bool, true where a pair shows one person.
        embed_of: "rgb" or "bgr" -> embed, which takes (m, 112, 112, 3) uint8 RGB and turns the channels itself.
        folds: F, contiguous as in `fold_accuracies`.

    Returns:
        `rgb` and `bgr`: `accuracy` (folds' mean, a fraction) and `separation` (d') of each; `difference`, rgb minus
        bgr, and `standard_error` of both numbers; `better`: "rgb" or "bgr" where the accuracies, or else the
        separations, differ by more than twice their standard error, otherwise "neither".

    Raises:
        ValueError: not two images for each flag, fewer pairs than folds, matched or mismatched pairs only, features
            that are not finite.
    """
    issame = np.asarray(issame)
    if len(images) != 2 * len(issame) or not 0 < issame.sum() < len(issame):
        raise ValueError(
            f"{len(images)} images for {len(issame)} pairs, {int(issame.sum())} of them matched: expected two images "
            f"for each pair, and matched and mismatched pairs"
        )
    dist = _distances(images, {channels: embed_of(channels) for channels in ORDERS})
    accuracy = np.stack([fold_accuracies(dist[channels], issame, folds)[0] for channels in ORDERS])
    d_prime, error = _separations(dist, issame, folds)
    result: dict = {
        channels: {"accuracy": float(row.mean()), "separation": d}
        for channels, row, d in zip(ORDERS, accuracy, d_prime, strict=True)
    }
    by_fold = accuracy[0] - accuracy[1]
    result["difference"] = {"accuracy": float(by_fold.mean()), "separation": d_prime[0] - d_prime[1]}
    result["standard_error"] = {"accuracy": standard_error(by_fold), "separation": error}
    result["better"] = _better(result["difference"], result["standard_error"])
    return result


def separation(dist: np.ndarray, issame: np.ndarray) -> float:
    """d' of distances (n,): between the two means, in deviations: |mean_same - mean_different| / sqrt(mean variance).

    A constant embedding has 0.
    """
    same, different = dist[issame], dist[~issame]
    within = np.sqrt((same.var() + different.var()) / 2)
    return float(abs(same.mean() - different.mean()) / max(within, LEAST))


def verdict(result: dict, used: str) -> str:
    """One line for the user, who evaluates in the order `used`."""
    shown = [f"{name} {result[name]['accuracy']:.2%} (d' {result[name]['separation']:.3f})" for name in ORDERS]
    difference, error = result["difference"]["accuracy"], result["standard_error"]["accuracy"]
    numbers = f"channels: {', '.join(shown)}, difference {difference:+.2%} with a standard error of {error:.2%}"
    better = result["better"]
    if better == "neither":
        return f"{numbers}: the set does not tell the orders apart"
    advice = "as used" if better == used else f"but {used} is used; --channels {better} changes that"
    return f"{numbers}: {better} separates better, {advice}"


def _distances(images: Images, embeds: dict[str, Embed]) -> dict[str, np.ndarray]:
    """(n,) float64 squared distances in each order; an image is read once, both of a pair in one chunk."""
    dist: dict[str, list[np.ndarray]] = {channels: [] for channels in embeds}
    for pixels in chunks(images, 0, len(images)):
        for channels, embed in embeds.items():
            u = np.asarray(embed(pixels)[0], dtype=np.float64)
            dist[channels].append(np.square(u[0::2] - u[1::2]).sum(axis=1))
    return {channels: np.concatenate(parts) for channels, parts in dist.items()}


def _separations(dist: dict[str, np.ndarray], issame: np.ndarray, folds: int) -> tuple[list[float], float]:
    """d' in each order, and the standard error of their difference by the jackknife, which leaves out a fold at a time:
    a fold of matched pairs only has no d', all the others together have one."""
    d_prime = [separation(dist[channels], issame) for channels in ORDERS]
    differences = []
    for part in np.array_split(np.arange(len(issame)), folds):
        rgb, bgr = (separation(np.delete(dist[channels], part), np.delete(issame, part)) for channels in ORDERS)
        differences.append(rgb - bgr)
    return d_prime, float(np.std(differences) * np.sqrt(folds - 1))


def _better(difference: dict[str, float], error: dict[str, float]) -> str:
    for name in ("accuracy", "separation"):
        if abs(difference[name]) > SURE * error[name]:
            return "rgb" if difference[name] > 0 else "bgr"
    return "neither"
