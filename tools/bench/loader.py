"""The loader against the peers' ways, against decoding alone, and against itself: `python -m tools.bench loader`.

A file of 20,000 faces of 112 x 112 pixels, one process, one thread, in turn, medians. Ours makes uint8 batches with
flips, crops, jitter, rotation, low resolution and JPEG; "normalised too" adds, on the CPU, what a GPU does with them
later. The peers make float tensors, one image at a time.
"""

import itertools
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import torch

from recognition.data.augment import PRESETS, Augment
from recognition.data.loader import Loader, ViewBatches, normalise
from recognition.data.recordio import Header, RecordWriter, pack
from recognition.data.sampler import GlobalBatchSampler
from recognition.data.sources import open_source
from tools.bench.faces import IDENTITIES, noisy_jpegs
from tools.bench.loader_peers import Peer
from tools.bench.measure import Row, Step, peak_mib, seconds

BATCH, SPACING = 128, 512
ONE, TWO = ("original",), ("original", "augmented")


def rows(quick: bool) -> list[Row]:
    """Every case; `quick` takes small files."""
    cv2.setNumThreads(1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    images, entries, runs = (1_000, 20_000, 2) if quick else (20_000, 10_000_000, 15)
    try:
        with tempfile.TemporaryDirectory() as folder:
            faces, index = Path(folder) / "faces", Path(folder) / "index"
            write_faces(faces, images)
            write_index(index, entries)
            # mxnet's threads do not outlive a fork: the workers come first
            return [
                *workers(faces, runs=2 if quick else 7),
                *one_process(faces, images, runs),
                *start_up(index, entries),
            ]
    finally:
        torch.set_num_threads(threads)


def write_faces(folder: Path, images: int) -> None:
    """Drawn faces as records."""
    folder.mkdir()
    with RecordWriter(folder / "train.rec", folder / "train.idx") as writer:
        for key, image in enumerate(noisy_jpegs(images)):
            writer.write(key, pack(Header(0, float(key % IDENTITIES), key, 0), image))
    (folder / "property").write_text(f"{IDENTITIES},112,112")


def write_index(folder: Path, entries: int) -> None:
    """The index of so many records, as InsightFace writes it, beside a `.rec` of holes with the records read first."""
    folder.mkdir()
    first = entries - IDENTITIES
    with RecordWriter(folder / "few.rec", folder / "few.idx") as writer:
        writer.write(0, pack(Header(2, [first, entries], 0, 0), b""))
        writer.write(1, pack(Header(0, 0.0, 1, 0), b"image"))
    few = (folder / "few.rec").read_bytes()
    second = int((folder / "few.idx").read_text().split()[-1])
    with (folder / "train.rec").open("wb") as rec, (folder / "train.idx").open("w") as idx:
        for key, record in ((0, few[:second]), (1, few[second:]), (first - 1, few[second:])):
            rec.seek(key * SPACING)
            rec.write(record)
        rec.truncate(entries * SPACING)
        for start in range(1, entries, 100_000):
            idx.writelines(f"{key}\t{key * SPACING}\n" for key in range(start, min(start + 100_000, entries)))
        idx.write("0\t0\n")


def one_process(folder: Path, images: int, runs: int) -> list[Row]:
    """Images, or pairs of views, a second of one process."""
    source, device = open_source(folder), torch.device("cpu")
    one, two = (ViewBatches(source, Augment("qgface"), views, 0) for views in (ONE, TWO))

    def walk(make: Callable[[np.ndarray], object]) -> Step:
        """Each step takes the next batch of the file; in turn, all of them take the same ones."""
        starts = itertools.cycle(range(0, images - BATCH + 1, BATCH))
        return lambda: make(np.arange(BATCH) + next(starts))

    steps = {
        "decoding alone": walk(lambda batch: [simplejpeg.decode_jpeg(source[i][0]) for i in batch.tolist()]),
        "one view": walk(lambda batch: one[0, batch]),
        "two views": walk(lambda batch: two[0, batch]),
        "one view, normalised too": walk(lambda batch: normalise(one[0, batch].images, device)),
        "two views, normalised too": walk(lambda batch: normalise(two[0, batch].images, device)),
    }
    against = [("one view", "InsightFace's", 8.0), ("two views", "the paper's", 9.0)]
    if find_spec("mxnet"):
        print("the peers' transforms:", "torchvision's" if find_spec("torchvision") else "written out, no torchvision")
        for (_, peer, _), parameters in zip(against, (None, PRESETS["qgface"]), strict=True):
            steps[peer] = walk(Peer(str(folder / "train.rec"), str(folder / "train.idx"), parameters))
    else:
        print("mxnet is not installed: no comparison with the peers, whose ways need it")
    took = {name: time / BATCH for name, time in seconds(steps, runs).items()}
    rows = []
    for views, peer, target in against if find_spec("mxnet") else ():
        for ours, least in ((views, target), (f"{views}, normalised too", None)):
            rows.append(Row(f"{ours}, against {peer}", "1/s", 1 / took[peer], 1 / took[ours], least, higher=True))
    for views, most in (("one view", 1.5), ("two views", 3.0)):
        floor = took["decoding alone"]
        rows.append(Row(f"{views}, against decoding alone", "us", 1e6 * floor, 1e6 * took[views], most))
    return rows


def workers(folder: Path, runs: int) -> list[Row]:
    """Pairs of views a second with two worker processes against one; the first batches wait for the start: left out."""
    source = open_source(folder)
    batches, rates = ViewBatches(source, Augment("qgface"), TWO, 0), {1: [], 2: []}
    loaders = {count: Loader(batches, GlobalBatchSampler(len(source), BATCH, 0), count) for count in rates}
    for epoch in range(runs):
        for count, loader in loaders.items():
            stream = loader.epoch(epoch)
            for _ in range(3):
                next(stream)
            start = time.perf_counter()
            taken = sum(len(batch.labels) for batch in stream)
            rates[count].append(taken / (time.perf_counter() - start))
    one, two = (float(np.median(rates[count])) for count in (1, 2))
    return [Row("two views, 2 workers against 1", "1/s", one, two, 1.7, higher=True)]


def start_up(folder: Path, entries: int) -> list[Row]:
    """Opening a data set, against what it may take."""
    took = seconds({"ours": lambda: open_source(folder)}, 3, 1)["ours"]
    needs = peak_mib(lambda: open_source(folder))
    case = f"start-up on {entries:,} entries, against the limit"
    return [Row(case, "s", 5.0, took, 1.0), Row(case, "MiB", 200.0, needs, 1.0)]
