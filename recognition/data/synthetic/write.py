"""The demo's data folder: drawn faces in InsightFace's own formats."""

import json
import tempfile
from pathlib import Path

import numpy as np

from recognition.data.lists import Entry, write_list, write_property
from recognition.data.recordio import Header, RecordWriter, pack
from recognition.data.synthetic.draw import SIZE, draw
from utils import jpeg
from utils.bins import write_bin
from utils.rng import Purpose, generator

VERSION = 2  # of the drawings and the folder: a change that draws other faces, or encodes others, counts it up
FILES = ("train.rec", "train.idx", "train.lst", "property", "demo.bin", "demo_lq.bin", "demo.json")
FOLDS = 10
QUALITY = 92  # of the stored JPEGs; the drawn cameras' own artefacts are in the pixels already


def write_demo(root: Path, seed: int, identities: int, photos: int, test_identities: int, pairs: int) -> None:
    """Write a training set and two verification sets of drawn faces, unless the folder holds just these already.

    `train.rec`, `train.idx`, `train.lst` and `property` as mxnet and InsightFace write them; `demo.bin`, pairs of
    people who are not in the training set, and `demo_lq.bin`, the same pairs with their second photo in low quality;
    `demo.json`, the arguments. The folder appears whole or not at all, and several processes may call this at once.
    A demo folder of other arguments or of another version is replaced.

    Args:
        root: the folder.
        seed: the world.
        identities: people to train on.
        photos: photos of each of them, and the range that the test pairs' photos are drawn from.
        test_identities: people of the verification sets.
        pairs: pairs of each verification set, half of them matched; 10 folds.

    Raises:
        ValueError: a count that makes no set, or `root` holds something else.
        OSError: the folder cannot be written.
    """
    root = Path(root)
    counts = {"identities": identities, "photos": photos, "test_identities": test_identities, "pairs": pairs}
    for name, least in {"identities": 1, "photos": 2, "test_identities": 2, "pairs": 2 * FOLDS}.items():
        if counts[name] < least:
            raise ValueError(f"{name}={counts[name]}: expected at least {least}")
    if pairs % (2 * FOLDS):
        raise ValueError(f"pairs={pairs}: expected a multiple of {2 * FOLDS} ({FOLDS} folds, half of each matched)")
    stamp = {"version": VERSION, "seed": seed, **counts}
    if _holds(root, stamp):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as beside:
        whole = Path(beside) / "new"
        whole.mkdir()
        _write_train(whole, seed, identities, photos)
        _write_pairs(whole, seed, identities, photos, test_identities, pairs)
        (whole / "demo.json").write_text(json.dumps(stamp, indent=1) + "\n")
        _put(whole, root, stamp)


def _holds(root: Path, stamp: dict) -> bool:
    """Whether `root` is the whole demo folder of this stamp.

    Raises:
        ValueError: it is a file, or a folder with something else in it.
    """
    if not root.exists():
        return False
    if not root.is_dir() or (any(root.iterdir()) and not (root / "demo.json").is_file()):
        raise ValueError(f"{root} holds something other than demo data; choose another folder, or move it away")
    try:
        found = json.loads((root / "demo.json").read_text())
    except (OSError, ValueError):
        return False
    return found == stamp and all((root / name).is_file() for name in FILES)


def _put(whole: Path, root: Path, stamp: dict) -> None:
    """Rename `whole` to `root`; if another process was faster, keep what it wrote."""
    try:
        whole.rename(root)  # works where nothing, or an empty folder, is in the way
    except OSError:
        if not root.exists():
            raise
        if not _holds(root, stamp):
            root.rename(whole.with_name("old"))
            whole.rename(root)


def _write_train(folder: Path, seed: int, identities: int, photos: int) -> None:
    """Record 0: flag 2, the identity records' range; then the images; then each identity's range of images."""
    first = 1 + identities * photos
    entries = []
    with RecordWriter(folder / "train.rec", folder / "train.idx") as writer:
        writer.write(0, pack(Header(2, np.array([first, first + identities]), 0, 0), b""))
        for key in range(1, first):
            identity, photo = divmod(key - 1, photos)
            image = jpeg.encode(draw(seed, identity, photo), QUALITY)
            writer.write(key, pack(Header(0, float(identity), key, 0), image))
            entries.append(Entry(f"{identity:05d}/{photo:03d}.jpg", identity))
        for identity in range(identities):
            start, key = 1 + identity * photos, first + identity
            writer.write(key, pack(Header(2, np.array([start, start + photos]), key, 0), b""))
    write_list(folder / "train.lst", entries)
    write_property(folder / "property", identities, SIZE)


def _write_pairs(folder: Path, seed: int, identities: int, photos: int, test_identities: int, pairs: int) -> None:
    """Both verification sets, in the order of `lfw.bin`: in each fold the matched pairs, then the others."""
    rng = generator(seed, 0xFFFFFFFF, 0, Purpose.SYNTHETIC)  # no photo has this number
    issame = [pair % (pairs // FOLDS) < pairs // FOLDS // 2 for pair in range(pairs)]
    high: list[bytes] = []
    low: list[bytes] = []
    for same in issame:
        people = identities + rng.choice(test_identities, 2, replace=False)
        first, second = (people[0], people[0] if same else people[1])
        shots = rng.choice(photos, 2, replace=False)
        here = _encoded(seed, first, shots[0], False)
        high += [here, _encoded(seed, second, shots[1], False)]
        low += [here, _encoded(seed, second, shots[1], True)]
    write_bin(folder / "demo.bin", high, issame)
    write_bin(folder / "demo_lq.bin", low, issame)


def _encoded(seed: int, identity: np.integer, photo: np.integer, low_quality: bool) -> bytes:
    return jpeg.encode(draw(seed, int(identity), int(photo), low_quality), QUALITY)
