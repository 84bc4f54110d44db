"""Features kept on disk, so that a second protocol on the same images, or the same one again, costs seconds."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from eval.embed import Embed
from eval.features import Features, checked, extract
from eval.protocol import Target, file_stem
from utils.files import replacing

VERSION = 1  # of how images become features: alignment, fitting, fusion


def embedded(embed: Embed, target: Target, fusion: str, model: dict[str, object], folder: Path | None) -> Features:
    """Features of a target's images, with a progress bar, out of the cache where they are there.

    Args:
        model: what tells models apart, as the digest and the colour contract. JSON.
        folder: the cache; None: none.
    """

    def make() -> Features:
        options = {"dynamic_ncols": True, "mininterval": 1 if sys.stderr.isatty() else 60}
        with tqdm(total=len(target.images), desc=target.name, unit="image", **options) as bar:
            return extract(embed, target.images, fusion, bar.update)

    if folder is None:
        return make()
    key = {"version": VERSION, "model": model, "images": target.images.digest(), "fusion": fusion}
    features, kept = cached(folder, target.name, key, make)
    if kept:
        print(f"{target.name}: features kept in {folder}")
    return features


def read_features(path: Path, size: int | None = None, flip: bool = True) -> Features:
    """Features made elsewhere: an array (n, D), or (n, 2 `size`) as InsightFace keeps image beside mirror image.

    Args:
        flip: add the halves; False: the first one alone.

    Raises:
        ValueError: no such array, NaN or infinity in it, no second half to leave out.
        OSError: it cannot be read.
    """
    try:
        h = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no array of features: {error}") from None
    if not isinstance(h, np.ndarray):
        raise ValueError(f"{path} is an archive; expected one array (images, dimension)")
    features = checked(h)
    h = features.h
    halves = size is not None and h.shape[1] == 2 * size
    if not flip and not halves:
        raise ValueError(f"{path} has {h.shape[1]} columns: no mirror image's half to leave out")
    if not halves:
        return features
    return checked(h[:, :size] + h[:, size:] if flip else np.ascontiguousarray(h[:, :size]))


def cached(folder: Path, name: str, key: dict[str, object], make: Callable[[], Features]) -> tuple[Features, bool]:
    """Features from the cache, or made and put there.

    Args:
        folder: the cache.
        name: what the files' names begin with.
        key: everything that the features depend on: digests of model and data, options. JSON.
        make: makes them.

    Returns:
        the features, and whether they came from the cache. Files that are damaged are made again.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
    path = folder / f"{file_stem(name)}-{digest}.npz"
    found = _read(path)
    if found is not None:
        return found, True
    features = make()
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(file, h=features.h, z=features.z)
    return features, False


def _read(path: Path) -> Features | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:  # each array carries a checksum
            return checked(arrays["h"], arrays["z"])
    except Exception:  # zipfile, zlib and numpy raise whatever they stumble over
        return None
