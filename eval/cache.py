"""Features kept on disk, so that a second protocol on the same images, or the same one again, costs seconds."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from eval.features import Features, checked
from utils.files import replacing


def cached(
    folder: Path | None, name: str, key: dict[str, object], make: Callable[[], Features]
) -> tuple[Features, bool]:
    """Features from the cache, or made and put there.

    Args:
        folder: the cache; None: none.
        name: what the files' names begin with.
        key: everything that the features depend on: digests of model and data, options. JSON.
        make: makes them.

    Returns:
        the features, and whether they came from the cache. Files that are damaged are made again.
    """
    if folder is None:
        return make(), False
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
    path = folder / f"{name.replace(':', '_')}-{digest}.npz"
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
