"""A small InsightFace folder of coloured patterns that stand for faces: enough to train on for some steps."""

from pathlib import Path

import cv2
import numpy as np

from recognition.data.recordio import Header, RecordWriter, pack
from utils.bins import write_bin
from utils.jpeg import encode


def photo(identity: int, number: int) -> np.ndarray:
    """(112, 112, 3) uint8: the identity's smooth pattern with the photo's own noise."""
    pattern = np.random.default_rng(identity).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = cv2.resize(pattern, (112, 112), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    noise = np.random.default_rng((identity, number)).normal(0, 12, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def write_records(root: Path, identities: int = 11, photos: int = 8) -> None:
    """train.rec, train.idx and property as InsightFace has them."""
    root.mkdir(parents=True, exist_ok=True)
    count = identities * photos
    with RecordWriter(root / "train.rec", root / "train.idx") as writer:
        writer.write(0, pack(Header(2, np.array([count + 1, count + 1 + identities]), 0, 0), b""))
        for key in range(1, count + 1):
            identity, number = divmod(key - 1, photos)
            writer.write(key, pack(Header(0, float(identity), key, 0), encode(photo(identity, number), 90)))
        for identity in range(identities):
            first = identity * photos + 1
            label = np.array([first, first + photos])
            writer.write(count + 1 + identity, pack(Header(2, label, count + 1 + identity, 0), b""))
    (root / "property").write_text(f"{identities},112,112")


def write_pairs(path: Path, pairs: int = 40, identities: int = 10) -> None:
    """A `.bin` of identities that `write_records` does not hold, half of the pairs matched."""
    images, same = [], []
    for pair in range(pairs):
        matched, one = pair % 2 == 0, 100 + pair % identities
        other = one if matched else 100 + (pair + 1) % identities
        images += [encode(photo(one, pair)), encode(photo(other, 1000 + pair))]
        same.append(matched)
    write_bin(path, images, same)


def write_run(root: Path) -> Path:
    """What a run needs: records, the set `pairs.bin`, and `run.py`, a config that changes nothing. Returns `root`."""
    write_records(root)
    write_pairs(root / "pairs.bin")
    (root / "run.py").write_text("from easydict import EasyDict as edict\n\nconfig = edict()\n")
    return root
