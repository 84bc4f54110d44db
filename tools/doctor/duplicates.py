"""Images that are there twice: the same pixels, or the same photo after recompression, resizing or a brighter copy.

Near duplicates are found in two steps: hashes at most RADIUS of 64 bits apart (tools/doctor/neighbours.py), then, as
faces that merely resemble each other may have such hashes, the correlation of the two grey 32 x 32 thumbnails.

Measured on 17,085 faces of 889 identities (CelebA): of 146 million pairs 252 have such hashes. Different people whose
hashes are up to 10 bits apart correlate at 0.967 at most; what lies above 0.975 is, by eye, always one photo. Copies at
JPEG quality 30 or half the size correlate above 0.99; of those enlarged from 28 x 28 pixels 1 % stay below 0.975.
"""

import functools
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from tools.doctor import neighbours, scan
from tools.doctor.findings import Findings
from tools.doctor.readers import Spec, opened
from tools.doctor.scan import PART, Scan
from utils.workers import ordered_map

ALIKE = 0.975  # correlation of thumbnails
_PAIRS = 1 << 14  # candidates whose thumbnails are held at a time: 130 MB at most


def check_exact(spec: Spec, found: Scan, findings: Findings) -> None:
    """Each image whose pixels an earlier one has; an error where no earlier one is of the same identity."""
    reader, facts = opened(spec), found.facts
    images = np.flatnonzero(facts["state"] == scan.IMAGE)
    pixels = facts["pixels"][images]
    order = images[np.argsort(pixels, kind="stable")]
    pixels = facts["pixels"][order]
    twice = np.flatnonzero(pixels[1:] == pixels[:-1]) + 1
    first = {}  # of a digest, and of a digest and identity
    for at in twice.tolist():
        digest, before, index = int(pixels[at]), int(order[at - 1]), int(order[at])
        if digest not in first:
            first[digest] = first[digest, float(facts["label"][before])] = before
        own = digest, float(facts["label"][index])
        severity = "warning" if own in first else "error"
        _add(findings, "exact duplicate", severity, reader, facts, first.get(own, first[digest]), index)
        first.setdefault(own, index)


def _add(findings, check: str, severity: str, reader, facts: np.ndarray, one: int, other: int, **more) -> None:
    labels = facts["label"][[one, other]]
    if labels[0] == labels[1]:
        said = f"{reader.where(one)} = {reader.where(other)}, both identity {labels[0]:g}"
    else:
        said = f"{reader.where(one)} (identity {labels[0]:g}) = {reader.where(other)} (identity {labels[1]:g})"
        check += " across identities"
    said += f", correlation {more['correlation']:.3f}" if more else ""
    findings.add(check, severity, said, [reader.key(one), reader.key(other)], **more)


def check_near(spec: Spec, found: Scan, workers: int, findings: Findings) -> int:
    """Pairs of one photo that differ in pixels; returns the number of candidates whose thumbnails were compared."""
    reader, facts = opened(spec), found.facts
    pairs = candidates(facts)
    for (one, other), alike in zip(pairs.tolist(), correlations(spec, spec, pairs, workers), strict=True):
        if alike >= ALIKE:
            _add(findings, "near duplicate", "warning", reader, facts, one, other, correlation=round(alike, 4))
    return len(pairs)


def candidates(facts: np.ndarray) -> np.ndarray:
    """(m, 2) int64 pairs of images with hashes at most RADIUS bits apart; of equal pixels only the first takes part."""
    single = distinct(facts)
    values, first, which = np.unique(facts["hash"][single], return_index=True, return_inverse=True)
    first, which = single[first], which.reshape(-1)
    repeated = single[single != first[which]]
    same = np.stack([first[which[single != first[which]]], repeated], axis=1)
    return np.concatenate([same, np.sort(first[neighbours.within(values)].reshape(-1, 2), axis=1)])


def distinct(facts: np.ndarray) -> np.ndarray:
    """(k,) ascending indexes: the first image of each pixel digest."""
    images = np.flatnonzero(facts["state"] == scan.IMAGE)
    return np.sort(images[np.unique(facts["pixels"][images], return_index=True)[1]])


def correlations(left: Spec, right: Spec, pairs: np.ndarray, workers: int, mirrored: bool = False) -> Iterator[float]:
    """Of the thumbnails of `left[i]` and `right[j]` (mirrored, where asked), in [-1, 1], for each row of `pairs`.

    Thumbnails are made anew: of millions of images only the candidates' are needed.
    """
    with tqdm(total=len(pairs), unit="pair", desc="thumbnails", disable=None if len(pairs) else True) as bar:
        for start in range(0, len(pairs), _PAIRS):
            block = pairs[start : start + _PAIRS]
            lefts, at_left = np.unique(block[:, 0], return_inverse=True)
            rights, at_right = np.unique(block[:, 1], return_inverse=True)
            ours, theirs = _thumbnails(left, lefts, workers), _thumbnails(right, rights, workers, mirrored)
            for one, other in zip(at_left.reshape(-1).tolist(), at_right.reshape(-1).tolist(), strict=True):
                yield float((ours[one] * theirs[other]).mean())
            bar.update(len(block))


def _thumbnails(spec: Spec, indexes: np.ndarray, workers: int, mirrored: bool = False) -> np.ndarray:
    pieces = [indexes[start : start + PART].tolist() for start in range(0, len(indexes), PART)]
    work = functools.partial(scan.thumbnails_part, spec, mirrored=mirrored)
    return np.concatenate(list(ordered_map(work, pieces, workers if len(pieces) > 1 else 0, chunk=1)))
