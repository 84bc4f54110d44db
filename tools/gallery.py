"""A folder of features: what `tools.encode` writes and `tools.search` reads.

    features.npy     (n, D) float32, of length 1; a plain numpy array, which can be mapped into memory
    norms.npy        (n,) float32
    indicators.npy   (n,) float32 in [-1, 1], the quality indicator; where the model carries statistics of its norms
    names.txt        n paths, one on each line
    skipped.txt      path<TAB>problem of photos that were left out; where there are any
    encoding.json    the model (digest, channels, mean, std), counts, detector and landmarks by their digests

Row i of each array belongs to line i of names.txt.
"""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recognition.encoder import Batch, FaceEncoder
from tools.pack.journal import Growing, Journal
from tools.pack.skipped import FINAL, GROWING, Skipped

FORMAT = 1
FEATURES, NORMS, INDICATORS = "features.npy", "norms.npy", "indicators.npy"
NAMES, FACTS = "names.txt", "encoding.json"
FILES = (FEATURES, NORMS, INDICATORS, NAMES, FINAL, FACTS)
HEADER = 128  # bytes before the numbers


class Gallery(NamedTuple):
    """n features (n, D), mapped into memory, and their names; `model` is `Model.key()`, None where nothing says it."""

    u: np.ndarray
    names: Sequence[str]
    model: dict[str, object] | None


class GalleryWriter:
    """Features on their way into a journal's folder, from where an earlier run was.

    Args:
        journal: of the output folder.
        encoder: the features are its.
        paths: of all photos.

    Attributes:
        done: photos that are behind; `written` of them gave features.
    """

    def __init__(self, journal: Journal, encoder: FaceEncoder, paths: Sequence[str]):
        self._journal, self._encoder, self._paths = journal, encoder, paths
        notes, folder = journal.notes, journal.folder
        sizes = notes.get("sizes", {})
        self.done, self.written = notes.get("done", 0), notes.get("written", 0)
        self._start = self.done
        self._files = {name: Growing(folder / name, sizes.get(name, 0)) for name in (FEATURES, NORMS, NAMES)}
        self._skipped = Skipped(folder, sizes.get(GROWING, 0))
        for name in (FEATURES, NORMS):
            if not sizes.get(name):
                self._files[name].write(bytes(HEADER))

    def write(self, batch: Batch) -> None:
        """Take the next batch of the stream that began at photo `done` of the earlier run."""
        for place, bad in batch.bad.items():
            self._skipped.add(self._start + place, bad.name, bad.problem)
        self._files[FEATURES].write(batch.u.tobytes())
        self._files[NORMS].write(batch.z.tobytes())
        names = "".join(f"{self._paths[self._start + place]}\n" for place in batch.places)
        self._files[NAMES].write(names.encode(errors="surrogateescape"))
        self.done, self.written = self._start + batch.end, self.written + len(batch.places)
        if self._journal.due():
            sizes = {name: file.sync() for name, file in self._files.items()}
            self._journal.note({"done": self.done, "written": self.written}, {**sizes, **self._skipped.sync()})

    def finish(self, facts: dict[str, object]) -> None:
        """Everything is written: the arrays learn their lengths, the small files are made.

        Raises:
            ValueError: no photo could be used.
        """
        rows = self._skipped.rows()
        if not self.written:
            raise ValueError(
                f"none of the {len(self._paths)} photos can be used; the first: {rows[0][1]}: {rows[0][2]}"
            )
        folder, encoder = self._journal.folder, self._encoder
        shapes = {FEATURES: (self.written, encoder.dimension), NORMS: (self.written,)}
        for name, shape in shapes.items():
            self._files[name].patch(0, _header(shape))
        for file in self._files.values():
            file.sync()
        names = [FEATURES, NORMS, NAMES]
        if encoder.model.norm_mean is not None and encoder.model.norm_std is not None:
            np.save(folder / INDICATORS, encoder.indicator(np.load(folder / NORMS)))
            names.append(INDICATORS)
        content = {"format": FORMAT, "photos": self.written, "skipped": len(rows), "dimension": encoder.dimension}
        content |= {"model": encoder.model.key(), "network": encoder.model.network, **facts}
        (folder / FACTS).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        counts = {"done": self.done, "written": self.written, "left_out": len(rows)}
        self._journal.finish([*names, *self._skipped.finish(), FACTS], counts)

    def close(self) -> None:
        """Let go of the files."""
        for file in (*self._files.values(), self._skipped):
            file.close()


def _header(shape: tuple[int, ...]) -> bytes:
    """Of a .npy file of float32 (NumPy's format 1.0), filled up to HEADER bytes: the shape is known at the end only."""
    said = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little") + said.ljust(HEADER - 11) + b"\n"


def open_gallery(path: Path) -> Gallery:
    """Features in a folder of `tools.encode`, or a .npy array (n, D) made elsewhere, whose names are row numbers.

    Raises:
        ValueError: neither is there, or it is damaged; names the file.
    """
    if path.is_file():
        u = _features(path)
        return Gallery(u, range(len(u)), None)
    if not (path / FACTS).is_file():
        raise ValueError(f"{path} holds no features: expected a folder that tools.encode wrote, or a .npy array (n, D)")
    u, facts = _features(path / FEATURES), {}
    with contextlib.suppress(ValueError):
        facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
    if not isinstance(facts, dict) or facts.get("format") != FORMAT or not isinstance(facts.get("model"), dict):
        raise ValueError(f"{path / FACTS} is damaged or of another format; encode the photos again")
    names = (path / NAMES).read_bytes().decode(errors="surrogateescape").split("\n")[:-1]
    if len(names) != len(u):
        raise ValueError(f"{path}: {len(u)} features and {len(names)} names; encode the photos again")
    return Gallery(u, names, facts["model"])


def _features(path: Path) -> np.ndarray:
    """A mapped array; a copy in memory is made of what is written to, so nothing reaches the file."""
    try:
        u = np.load(path, mmap_mode="c", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} cannot be read as features ({error}); expected a .npy array (n, D)") from None
    if not isinstance(u, np.ndarray) or u.ndim != 2 or u.dtype.kind != "f" or not u.size:
        given = f"{u.shape} {u.dtype}" if isinstance(u, np.ndarray) else "an archive"
        raise ValueError(f"{path} is {given}: expected a .npy array (n, D) of floating point numbers")
    return u
