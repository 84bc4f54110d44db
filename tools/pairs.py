"""Pairs of faces for a verification set: read from a list, or drawn from labelled faces.

Order is part of a set: InsightFace's protocols take 10 folds by position.
"""

import math
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

FOLDS = 10
SUFFIXES = (".jpg", ".png")  # of LFW's `name_0001`
_FLAGS = {"1": True, "true": True, "0": False, "false": False}
_EXPECTED = "expected 'path1 path2 flag' (flag 1 or 0, between spaces, tabs or commas)"


class DrawnPairs(NamedTuple):
    """`index` (n, 2) int64 into the labels, `same` (n,) bool, in folds of equal length; `disjoint`: no identity is in
    two folds.
    """

    index: np.ndarray
    same: np.ndarray
    disjoint: bool


def read_list(path: Path, root: Path) -> tuple[list[Path], list[bool]]:
    """A pairs list: LFW's `pairs.txt` (its first line is one or two counts), or lines of `path1 path2 flag`.

    LFW's: `folds<TAB>pairs` or `pairs`, then `name i j` for a matched and `name1 i name2 j` for a mismatched pair of
    `root/name/name_0001.jpg` (or .png). Plain lists: paths below `root` or absolute; with spaces in them, tabs or
    commas must be between the fields.

    Returns:
        The 2n files, pair i being 2i and 2i + 1, all of them there; n flags, True for one person.

    Raises:
        ValueError: a line that is no pair, another number of lines than the first one states, a missing image.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as text ({getattr(error, 'strerror', None) or error})") from None
    numbered = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise ValueError(f"{path} is empty: {_EXPECTED}, or LFW's pairs.txt")
    counts = numbered[0][1].split()
    lfw = len(counts) <= 2 and all(_is_count(field) for field in counts)
    pairs = [(number, *(_lfw_pair if lfw else _plain_pair)(line, f"{path}: line {number}"))
             for number, line in numbered[lfw:]]  # fmt: skip
    if lfw:
        stated = 2 * int(counts[0]) * int(counts[-1] if len(counts) == 2 else 1)
        if stated != len(pairs):
            what = f"{counts[0]} folds of {counts[1]}" if len(counts) == 2 else counts[0]
            raise ValueError(
                f"{path}: line {numbered[0][0]} states {what} matched and as many mismatched pairs, {stated} in all; "
                f"{len(pairs)} lines follow: the list is cut, or its first line is wrong"
            )
    return _found(path, root, pairs), [same for _, _, _, same in pairs]


def _is_count(field: str) -> bool:
    return field.isascii() and field.isdigit() and len(field) < 9 and int(field) > 0


def _fields(line: str) -> list[str]:
    if "\t" in line:
        return [field.strip() for field in line.split("\t")]
    return [field.strip() for field in line.split(",")] if line.count(",") == 2 else line.split()


def _plain_pair(line: str, where: str) -> tuple[str, str, bool]:
    fields = _fields(line)
    if len(fields) != 3 or not all(fields):
        hint = "; paths with spaces need tabs or commas" if len(fields) > 3 else ""
        raise ValueError(f"{where}: {len(fields)} fields in {line[:80]!r}: {_EXPECTED}{hint}")
    if fields[2].lower() not in _FLAGS:
        raise ValueError(f"{where}: flag {fields[2][:40]!r}: expected 1 or true (one person), 0 or false (two)")
    return fields[0], fields[1], _FLAGS[fields[2].lower()]


def _lfw_pair(line: str, where: str) -> tuple[str, str, bool]:
    """Paths without their suffix."""
    fields = _fields(line)
    same = len(fields) == 3
    if same:
        fields = [*fields[:2], fields[0], fields[2]]
    if len(fields) != 4 or not all(fields) or not (_is_count(fields[1]) and _is_count(fields[3])):
        raise ValueError(f"{where}: {line[:80]!r}: expected LFW's 'name 1 2' or 'name1 1 name2 2'")
    if not same and fields[0] == fields[2]:
        raise ValueError(f"{where}: {line[:80]!r} is one person twice, written as two: expected 'name 1 2'")
    one, other = (f"{name}/{name}_{int(number):04d}" for name, number in (fields[:2], fields[2:]))
    return one, other, same


def _found(path: Path, root: Path, pairs: list[tuple[int, str, str, bool]]) -> list[Path]:
    """The files of all pairs.

    Raises:
        ValueError: names the first that is missing, and how many more are.
    """
    found: dict[str, Path | None] = {}
    missing = {}
    for number, *names, _ in pairs:
        if names[0] == names[1]:
            raise ValueError(f"{path}: line {number} pairs the image {names[0]} with itself")
        for name in names:
            if name not in found:
                candidates = [root / name, *(root / (name + suffix) for suffix in SUFFIXES)]
                found[name] = next((file for file in candidates if file.is_file()), None)
                if found[name] is None:
                    missing[name] = number
    if missing:
        name, number = next(iter(missing.items()))
        more = f", and {len(missing) - 1} more images" if len(missing) > 1 else ""
        raise ValueError(
            f"{path}: line {number}: no image {root / name}{' (.jpg, .png)' if not Path(name).suffix else ''}{more}; "
            "--root says which folder the paths start from"
        )
    return [found[name] for _, *names, _ in pairs for name in names]


def draw(labels: np.ndarray, count: int, seed: int) -> DrawnPairs:
    """Random pairs in 10 folds, each n/20 matched and then n/20 mismatched; no pair of images comes twice.

    Identities count alike, however many images they have. No identity is in two folds, if each fold's share of the
    identities has pairs enough; otherwise all folds draw from all identities.

    Args:
        labels: (m,) int identity of each image.
        count: n, a multiple of 20.
        seed: same seed, same pairs.

    Raises:
        ValueError: a count that fills no folds, or more pairs than the images have.
    """
    if count < 1 or count % (2 * FOLDS):
        raise ValueError(f"--pairs {count}: expected a multiple of {2 * FOLDS} ({FOLDS} folds, half of each matched)")
    rng, half = np.random.default_rng(seed), count // (2 * FOLDS)
    members = _split(labels)
    order = sorted(rng.permutation(len(members)).tolist(), key=lambda identity: -len(members[identity]))
    # dealt from the largest down, there and back, so that the folds are alike
    turns = [*range(FOLDS), *reversed(range(FOLDS))]
    groups = [[members[identity] for place, identity in enumerate(order) if turns[place % len(turns)] == fold]
              for fold in range(FOLDS)]  # fmt: skip
    disjoint = all(min(_capacity(group)) >= half for group in groups)
    if not disjoint:
        matched, mismatched = _capacity(members)
        if min(matched, mismatched) < half * FOLDS:
            raise ValueError(
                f"--pairs {count}: the data has {matched} matched and {mismatched} mismatched pairs of images, half of "
                f"--pairs is taken of each; expected at most {min(matched, mismatched) // FOLDS * 2 * FOLDS}"
            )
        same, other = _matched(members, half * FOLDS, rng), _mismatched(members, half * FOLDS, rng)
        parts = [part[fold * half : (fold + 1) * half] for fold in range(FOLDS) for part in (same, other)]
    else:
        parts = [take(group, half, rng) for group in groups for take in (_matched, _mismatched)]
    return DrawnPairs(np.concatenate(parts), np.tile(np.repeat([True, False], half), FOLDS), disjoint)


def _split(labels: np.ndarray) -> list[np.ndarray]:
    """The images of each identity."""
    labels = np.asarray(labels)
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def _capacity(members: list[np.ndarray]) -> tuple[int, int]:
    """Matched and mismatched pairs of images that there are."""
    sizes = [len(images) for images in members]
    matched = sum(math.comb(size, 2) for size in sizes)
    return matched, math.comb(sum(sizes), 2) - matched


def _matched(members: list[np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 2) different pairs of one identity each, as evenly from all of them as they allow."""
    room = np.array([math.comb(len(images), 2) for images in members])
    taken, left = np.zeros_like(room), count
    while left:
        open_ = rng.permutation(np.flatnonzero(taken < room))[:left]
        step = max(1, left // len(open_))
        grown = np.minimum(step, room[open_] - taken[open_])
        taken[open_] += grown
        left -= int(grown.sum())
    pairs = []
    for images, many in zip(members, taken.tolist(), strict=True):
        if many:
            pairs.append(images[_below_diagonal(rng.choice(math.comb(len(images), 2), many, replace=False))])
    return rng.permutation(np.concatenate(pairs))


def _below_diagonal(number: np.ndarray) -> np.ndarray:
    """0, 1, 2, 3 ... -> rows (0, 1), (0, 2), (1, 2), (0, 3) ...; exact below 2^50."""
    row = ((1 + np.sqrt(1 + 8 * number)) / 2).astype(np.int64)
    return np.stack([number - row * (row - 1) // 2, row], 1)


def _mismatched(members: list[np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 2) different pairs of two identities each."""
    if 4 * count >= _capacity(members)[1]:  # nearly all there are: list them
        every = [np.stack(np.meshgrid(one, other), -1).reshape(-1, 2)
                 for place, one in enumerate(members) for other in members[:place]]  # fmt: skip
        return rng.permutation(np.concatenate(every))[:count]
    pairs, used = [], defaultdict(set)
    while len(pairs) < count:
        one, other = (members[identity] for identity in rng.choice(len(members), 2, replace=False))
        a, b = int(rng.choice(one)), int(rng.choice(other))
        if max(a, b) not in used[min(a, b)]:
            used[min(a, b)].add(max(a, b))
            pairs.append((a, b))
    return np.array(pairs)
