"""Training images that a verification set has too: what a model was trained on cannot measure it."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from tools.doctor import duplicates, neighbours, scan
from tools.doctor.findings import Findings
from tools.doctor.readers import Spec, opened
from tools.doctor.scan import Scan


def find_bins(root: Path, words: list[Path] | None) -> list[Path]:
    """The `.bin` files of `words` (files and folders); without them those in `root`.

    Raises:
        ValueError: a word is no such thing.
    """
    found = []
    for word in [root] if words is None else words:
        if word.is_dir():
            here = sorted(word.glob("*.bin"))
            if not here and words is not None:
                raise ValueError(f"--bins {word}: no .bin file is in this folder")
            found += here
        elif word.is_file():
            found.append(word)
        else:
            raise ValueError(f"--bins {word} does not exist; expected .bin files or folders of them")
    return list(dict.fromkeys(found))


def check_overlap(
    spec: Spec, trained: Scan, path: Path, side: int, thresholds: np.ndarray, workers: int, findings: Findings
) -> None:
    """Images of the `.bin` at `path`, as they are and mirrored, against those of the training set."""
    tests = Spec("bin", str(path))
    try:
        reader = opened(tests)
    except ValueError as error:
        findings.add("test set", "error", str(error), [path.name])
        return
    exact, near = defaultdict(list), defaultdict(list)
    for mirrored in (False, True):
        found = scan.scan(tests, side, thresholds, workers, mirrored)
        if not mirrored:
            for index, _, said in found.faults:
                findings.add("test set", "error", f"{reader.where(index)}: {said}", [reader.key(index)])
        same = _places(found.facts)
        for one, other in _exact(trained.facts, found.facts):
            exact[one, mirrored] += same[other]
        pairs = _near(trained.facts, found.facts)
        alike = duplicates.correlations(spec, tests, pairs, workers, mirrored)
        for (one, other), correlation in zip(pairs.tolist(), alike, strict=True):
            if correlation >= duplicates.ALIKE and not set(same[other]) & set(exact[one, mirrored]):
                near[one, mirrored] += same[other]
    _report(opened(spec), reader, trained, exact, "overlap with test set", "error", findings)
    _report(opened(spec), reader, trained, near, "near overlap with test set", "warning", findings)


def _places(facts: np.ndarray) -> dict[int, list[int]]:
    """First index of each picture -> all of its indexes: the pairs of a set share their images."""
    images, places, first = np.flatnonzero(facts["state"] == scan.IMAGE), defaultdict(list), {}
    for index, digest in zip(images.tolist(), facts["pixels"][images].tolist(), strict=True):
        places[first.setdefault(digest, index)].append(index)
    return places


def _exact(trained: np.ndarray, tested: np.ndarray) -> list[tuple[int, int]]:
    ours, theirs = duplicates.distinct(trained), duplicates.distinct(tested)
    _, one, other = np.intersect1d(trained["pixels"][ours], tested["pixels"][theirs], True, True)
    return list(zip(ours[one].tolist(), theirs[other].tolist(), strict=True))


def _near(trained: np.ndarray, tested: np.ndarray) -> np.ndarray:
    ours, theirs = duplicates.distinct(trained), duplicates.distinct(tested)
    pairs = neighbours.between(trained["hash"][ours], tested["hash"][theirs])
    return np.stack([ours[pairs[:, 0]], theirs[pairs[:, 1]]], axis=1)


def _report(ours, theirs, trained: Scan, found: dict, check: str, severity: str, findings: Findings) -> None:
    for (one, mirrored), places in found.items():
        if not places:
            continue
        names = [theirs.where(place) for place in sorted(places)]
        said = f"{ours.where(one)} (identity {trained.facts['label'][one]:g}) = {names[0]}"
        said += f" and {len(names) - 1} more" if len(names) > 1 else ""
        said += ", mirrored" if mirrored else ""
        findings.add(check, severity, said, [ours.key(one)], tests=names, mirrored=mirrored)
