"""Every image read and decoded once, by several processes; some 30 bytes of each stay."""

import contextlib
import functools
import os
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from tools.doctor import hashes
from tools.doctor.readers import Spec, opened
from utils.jpeg import decode
from utils.workers import ordered_map

PART = 128  # items that a process takes at a time
IMAGE, SPAN, UNREADABLE, UNDECODABLE = range(4)  # `state`
GREY, RED, BLUE = range(3)  # `colour`: all channels alike; mean R > B in the face's centre; not so
FACTS = np.dtype(
    [("label", "f4"), ("pixels", "u8"), ("hash", "u8"), ("stored", "u4"), ("state", "u1"), ("colour", "u1")]
)


class Scan(NamedTuple):
    """What is known of n items.

    `facts` is (n,) FACTS; `spans` maps the indexes of header and identity records to [first key, end key); `faults` is
    (index, kind, message) with kind `record`, `image` or `size`.
    """

    facts: np.ndarray
    spans: dict[int, tuple[float, float]]
    faults: list[tuple[int, str, str]]


def parts(count: int) -> list[range]:
    """[0, count) in pieces of work."""
    return [range(start, min(start + PART, count)) for start in range(0, count, PART)]


def scan(spec: Spec, side: int, thresholds: np.ndarray, workers: int, mirrored: bool = False) -> Scan:
    """Read and decode everything that `spec` names.

    Args:
        side: pixels that every image should have on both sides.
        thresholds: (64,) float32 of `hashes.bits`.
        workers: processes; 0 works in this one.
        mirrored: take each image's mirror image instead.
    """
    count, spans, faults = len(opened(spec)), {}, []
    facts = np.zeros(count, FACTS)
    work = functools.partial(_scan_part, spec, side, thresholds, mirrored)
    with tqdm(total=count, unit="img", desc=os.path.basename(spec.path), disable=None) as bar:
        for part, (found, some_spans, some_faults) in zip(
            parts(count), ordered_map(work, parts(count), workers, chunk=1), strict=True
        ):
            facts[part.start : part.stop] = found
            spans.update(some_spans)
            faults += some_faults
            bar.update(len(part))
    return Scan(facts, spans, faults)


def _scan_part(spec: Spec, side: int, thresholds: np.ndarray, mirrored: bool, part: range) -> Scan:
    reader, facts, spans, faults = opened(spec), np.zeros(len(part), FACTS), {}, []
    coefficients = np.zeros((len(part), hashes.BITS), np.float32)
    for row, index in enumerate(part):
        fact = facts[row]
        try:
            item = reader[index]
        except (ValueError, OSError) as error:
            fact["state"], fact["label"] = UNREADABLE, np.nan
            faults.append((index, "record", str(error)))
            continue
        fact["label"], fact["stored"] = item.label, item.stored
        if item.span is not None:
            fact["state"], spans[index] = SPAN, item.span
            continue
        try:
            image = decode(item.image)
        except ValueError as error:
            fact["state"] = UNDECODABLE
            faults.append((index, "image", str(error)))
            continue
        if image.shape[:2] != (side, side):
            faults.append((index, "size", f"{image.shape[1]} x {image.shape[0]} pixels, expected {side} x {side}"))
        image = image[:, ::-1] if mirrored else image
        fact["pixels"], fact["colour"] = hashes.pixel_digest(image), _colour(image)
        coefficients[row] = hashes.coefficients(hashes.thumbnail(image))
    facts["hash"] = hashes.bits(coefficients, thresholds)
    return Scan(facts, spans, faults)


def _colour(image: np.ndarray) -> int:
    """Of the middle half of both sides, where an aligned face has nose and cheeks."""
    if (image[0, :, 0] == image[0, :, 2]).all() and (image == image[..., :1]).all():  # one row tells of most
        return GREY
    height, width = image.shape[:2]
    red, _, blue, _ = cv2.mean(image[height // 4 : height - height // 4, width // 4 : width - width // 4])
    return RED if red > blue else BLUE


def sample_thresholds(spec: Spec, workers: int) -> np.ndarray:
    """(64,) float32 `hashes.thresholds` of at most SAMPLE images, evenly spread."""
    count = len(opened(spec))
    chosen = np.unique(np.linspace(0, count - 1, min(count, hashes.SAMPLE)).astype(int)).tolist()
    work = functools.partial(_coefficients_part, spec)
    pieces = [chosen[start : start + PART] for start in range(0, len(chosen), PART)]
    found = [part for part in ordered_map(work, pieces, workers, chunk=1) if len(part)]
    return hashes.thresholds(np.concatenate(found) if found else np.zeros((0, hashes.BITS), np.float32))


def _coefficients_part(spec: Spec, indexes: list[int]) -> np.ndarray:
    thumbnails = thumbnails_part(spec, indexes)
    return np.array([hashes.coefficients(t) for t in thumbnails if t.any()], np.float32).reshape(-1, hashes.BITS)


def thumbnails_part(spec: Spec, indexes: list[int], mirrored: bool = False) -> np.ndarray:
    """(n, 32, 32) float32 `hashes.thumbnail`s; zero where an image cannot be had."""
    reader, found = opened(spec), np.zeros((len(indexes), hashes.SIDE, hashes.SIDE), np.float32)
    for row, index in enumerate(indexes):
        with contextlib.suppress(ValueError, OSError):
            image = decode(reader[index].image)
            found[row] = hashes.thumbnail(image[:, ::-1] if mirrored else image)
    return found
