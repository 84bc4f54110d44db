"""IJB 1:1 from image features and lists to the table: ours against the way of InsightFace's `eval_ijbc.py`.

The peer, written from what it does: lists into int64 arrays (there by pandas; here our faster reader stands in, so that
no further package is needed), the landmark list line by line, a search of all images for each template, float64 scores
of 100,000 pairs at a time from gathered features, sklearn's `roc_curve`. Data is synthetic, in the real sizes.

Shapes: n images, T templates, p pairs, D dimension.
"""

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.preprocessing import normalize

from eval.ijb.columns import map_pieces
from eval.ijb.target import FARS, IJB
from eval.roc import insightface_tar
from tools.bench.evaluation.folds_peer import ijb_table
from tools.bench.measure import Row, compare_speed, peak_mib

D = 512


class Shape(NamedTuple):
    """Sizes of a target. Genuine pairs are one for each probe template but the last ones."""

    target: str
    images: int
    galleries: int
    probes: int
    pairs: int
    genuine: int


IJBB = Shape("IJBB", 227_630, 1_845, 10_270, 8_010_270, 10_270)
IJBC = Shape("IJBC", 469_375, 3_531, 19_593, 15_658_489, 19_557)
SMALL = Shape("IJBB", 4_000, 60, 300, 9_000, 300)


def write(folder: Path, shape: Shape, seed: int = 0) -> np.ndarray:
    """Write the lists of 1:1 and 1:N; the features h (n, D) float32 of the images.

    Templates show several media of some frames. A template's subject is a random direction, each image adds noise of 3
    to 16 times its length, by template, so that TAR at 1e-6 to 1e-1 spans most of 0 to 1.
    """
    generator = np.random.default_rng(seed)
    meta, name = folder / "meta", shape.target.lower()
    meta.mkdir(parents=True, exist_ok=True)
    templates = shape.galleries + shape.probes
    template = np.sort(np.append(np.arange(templates), generator.integers(0, templates, shape.images - templates)))
    media = np.cumsum(generator.random(shape.images) < 0.33)
    points = ["".join(f" {x:.3f}" for x in generator.uniform(20, 200, 10)) for _ in range(997)]
    score = generator.uniform(0.5, 1, shape.images).tolist()
    ids = zip(template.tolist(), media.tolist(), strict=True)
    (meta / f"{name}_face_tid_mid.txt").write_text("".join(f"{i}.jpg {t + 1} {m}\n" for i, (t, m) in enumerate(ids)))
    lines = (f"{i}.jpg{points[i % 997]} {s:.4f}\n" for i, s in enumerate(score))
    (meta / f"{name}_name_5pts_score.txt").write_text("".join(lines))
    subject = np.append(np.arange(shape.galleries), generator.integers(0, shape.galleries, shape.probes))
    _write_pairs(meta / f"{name}_template_pair_label.txt", shape, subject, generator)
    _write_subjects(meta, name, shape, subject)
    h = generator.standard_normal((shape.images, D), dtype=np.float32)
    noise = generator.uniform(3, 16, templates).astype(np.float32)
    centres = generator.standard_normal((shape.galleries, D), dtype=np.float32)
    for start in range(0, len(h), 4096):
        part = slice(start, start + 4096)
        h[part] *= noise[template[part], None]
        h[part] += centres[subject[template[part]]]
    return h


def _write_pairs(path: Path, shape: Shape, subject: np.ndarray, generator: np.random.Generator) -> None:
    probes = np.arange(shape.probes)
    mate = subject[shape.galleries :]
    lines = {
        label: np.array([f" {shape.galleries + 1 + p} {label}\n".encode() for p in probes], object) for label in (0, 1)
    }
    cells = shape.galleries * shape.probes
    chosen = np.zeros((shape.galleries, shape.probes), bool)
    wanted = shape.pairs - shape.genuine
    chosen.ravel()[generator.permutation(cells)[: wanted + shape.probes]] = True
    chosen[mate, probes] = False
    surplus = np.flatnonzero(chosen)
    chosen.ravel()[surplus[: len(surplus) - wanted]] = False
    chosen[mate[: shape.genuine], probes[: shape.genuine]] = True
    with path.open("wb") as file:
        for gallery, row in enumerate(chosen):
            text = np.where(mate[row] == gallery, lines[1][row], lines[0][row])
            file.write(f"{gallery + 1}".encode().join([b"", *text]))


def _write_subjects(meta: Path, name: str, shape: Shape, subject: np.ndarray) -> None:
    half, letter = shape.galleries // 2, "S" if shape.target == "IJBB" else "G"
    parts = {
        f"gallery_{letter}1": range(half),
        f"gallery_{letter}2": range(half, shape.galleries),
        "probe_mixed": range(shape.galleries, len(subject)),
    }
    for part, rows in parts.items():
        lines = "".join(f"{row + 1},{subject[row]}\n" for row in rows)
        (meta / f"{name}_1N_{part}.csv").write_text("TEMPLATE_ID,SUBJECT_ID\n" + lines)


def ours(folder: Path, shape: Shape, h: np.ndarray) -> list[str]:
    """TAR at FAR as printed."""
    target = IJB(folder, shape.target, with_images=False)
    scores = target.pair_scores(target.templates(h))
    issame = target.pairs.issame
    tar, _ = insightface_tar(scores[issame], scores[~issame], list(FARS.values()))
    return [f"{100 * value:.2f}" for value in tar]


def peer(folder: Path, shape: Shape, h: np.ndarray) -> list[str]:
    """The same, the peer's way."""
    meta = folder / "meta"
    name = shape.target.lower()
    template, media = _integers(meta / f"{name}_face_tid_mid.txt", (1, 2))
    first, second, label = _integers(meta / f"{name}_template_pair_label.txt", (0, 1, 2))
    score = []
    for line in (meta / f"{name}_name_5pts_score.txt").open():
        fields = line.strip().split(" ")
        np.array([float(x) for x in fields[1:-1]], np.float32).reshape(5, 2)
        score.append(fields[-1])
    h = h * np.array(score).astype(np.float32)[:, None]
    unique = np.unique(template)
    u = _pooled(h, template, media, unique)
    scores = _scored(u, unique, first, second)
    return [f"{100 * value:.2f}" for value in ijb_table(label, scores, list(FARS.values()))[0]]


def _integers(path: Path, columns: tuple[int, ...]) -> list[np.ndarray]:
    """Columns of a list as int64."""
    parts = map_pieces(path, 3, "", lambda piece: np.stack([piece.integers(c) for c in columns]).astype(np.int64))
    return list(np.concatenate(parts, axis=1))


def _pooled(h: np.ndarray, template: np.ndarray, media: np.ndarray, unique: np.ndarray) -> np.ndarray:
    pooled = np.zeros((len(unique), h.shape[1]))
    for row, number in enumerate(unique):
        (images,) = np.where(template == number)
        of_template, its_media = h[images], media[images]
        parts = []
        for one, frames in zip(*np.unique(its_media, return_counts=True), strict=True):
            (same,) = np.where(its_media == one)
            part = of_template[same]
            parts.append(part if frames == 1 else np.mean(part, axis=0, keepdims=True))
        pooled[row] = np.sum(np.array(parts), axis=0)
    return normalize(pooled)


def _scored(u: np.ndarray, unique: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    row_of = np.zeros((unique.max() + 1, 1), int)
    row_of[unique, 0] = np.arange(len(unique))
    scores = np.zeros(len(first))
    pairs = np.arange(len(first))
    for start in range(0, len(pairs), 100_000):
        part = pairs[start : start + 100_000]
        scores[part] = np.sum(u[row_of[first[part]]] * u[row_of[second[part]]], -1).ravel()
    return scores


def rows(quick: bool) -> list[Row]:
    """IJB-B against the peer; IJB-C's time for a pair against IJB-B's, and its memory in all against 8 GiB."""
    small, large = (SMALL, SMALL) if quick else (IJBB, IJBC)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        h = write(folder, small)
        printed = ours(folder, small, h), peer(folder, small, h)
        if printed[0] != printed[1]:
            raise AssertionError(f"the tables differ: ours {printed[0]}, the peer's {printed[1]}")
        case = f"{small.target} 1:1, {small.images:,} images, {small.pairs:,} pairs"
        result = compare_speed(case, lambda: ours(folder, small, h), lambda: peer(folder, small, h), 1, 15, 1 / 2)
        per_pair = _seconds(folder, small, h) / small.pairs
        del h
        folder = Path(root) / "large"
        h = write(folder, large)
        case = f"{large.target} 1:1, {large.pairs:,} pairs"
        result.append(Row(f"{case}, for a pair against {small.target}'s", "us", 1e6 * per_pair,
                          1e6 * _seconds(folder, large, h) / large.pairs, 1.25))  # fmt: skip
        needed = peak_mib(lambda: ours(folder, large, h)) + h.nbytes / 2**20
        result.append(Row(f"{case}, memory with the features", "MiB", 8192.0, needed, 1.0))
    return result


def _seconds(folder: Path, shape: Shape, h: np.ndarray) -> float:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        ours(folder, shape, h)
        times.append(time.perf_counter() - start)
    return min(times)
