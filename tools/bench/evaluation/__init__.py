"""`python -m tools.bench eval`: every protocol against the way of the scripts it is compared with, on equal numbers.

Synthetic features of the real shapes, one process. Times are shown as evaluations a second, so that a ratio is how many
times faster ours is.
"""

import tempfile
from pathlib import Path

import numpy as np

from eval.features import unit
from eval.identification import cmc, search
from eval.metrics import fold_accuracies, tar_at_far
from tools.bench.evaluation import folds_peer, ijb, images, search_peer
from tools.bench.measure import Row, compare_speed

D = 512


def rows(quick: bool) -> list[Row]:
    """Every case. mxnet, which the last one needs, leaves torch one thread."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "faces.bin"
        images.write_set(path, 400 if quick else 12_000)
        return [
            *folds(pairs=600 if quick else 6_000, runs=1 if quick else 3),
            *(row for network, count in (("small", 1_024), ("r18", 256))[: 1 if quick else 2]
              for row in images.extraction(path, network, 128 if quick else count, 1 if quick else 3)),
            *ijb.rows(quick),
            *tinyface(*(40, 2_000) if quick else (3_728, 157_871)),
            *images.opening(path, runs=1),
        ]  # fmt: skip


def folds(pairs: int, runs: int) -> list[Row]:
    """From unit features to fold accuracies and TAR at FAR 1e-3."""
    draw = np.random.default_rng(0)
    issame = np.tile(np.repeat([True, False], pairs // 20), 10)
    first = draw.standard_normal((pairs, D))
    second = np.where(issame[:, None], first + 1.6 * draw.standard_normal((pairs, D)), draw.standard_normal((pairs, D)))
    first, second = unit(first), unit(second)

    def ours() -> tuple[np.ndarray, tuple[float, float, float]]:
        dist = np.square(first - second).sum(axis=1)
        return fold_accuracies(dist, issame)[0], tar_at_far(dist, issame)

    def peer() -> tuple[np.ndarray, tuple[float, float, float]]:
        return folds_peer.verification(first, second, issame)

    if not np.array_equal(ours()[0], peer()[0]) or ours()[1] != peer()[1]:
        raise AssertionError(f"the two differ: {ours()} and {peer()}")
    return compare_speed(f"10 folds and TAR@FAR, {pairs:,} pairs", ours, peer, runs, 100)[:1]


def tinyface(probes: int, gallery: int) -> list[Row]:
    """Rank 1, 5 and 20 of probes that have one mate each."""
    draw = np.random.default_rng(0)
    u = draw.standard_normal((gallery, D), dtype=np.float32)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    h = u[:probes] + 0.25 * draw.standard_normal((probes, D), dtype=np.float32)  # some 5 times as much noise as signal
    h /= np.linalg.norm(h, axis=1, keepdims=True)
    labels = np.arange(gallery)
    found = []

    def ours() -> None:
        found.append(cmc(search(h, u, labels[:probes], labels).rank, 20)[[0, 4, 19]])

    def peer() -> None:
        found.append(search_peer.identify(h, u, labels[:probes], labels))

    result = compare_speed(f"TinyFace's ranks, {probes:,} x {gallery:,}", ours, peer, 1, 6, 1 / 10)
    if not all(np.array_equal(found[0], rates) for rates in found):
        raise AssertionError(f"the rates differ: {found}")
    return result
