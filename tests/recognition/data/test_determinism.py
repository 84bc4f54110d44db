"""The same global batches, bit for bit, whoever makes them: any ranks, any workers, after a resume at any step."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from recognition.data import augment
from recognition.data.augment import PRESETS, Augment
from recognition.data.loader import Loader, ViewBatches
from recognition.data.recordio import Header, RecordWriter, pack
from recognition.data.sampler import GlobalBatchSampler
from recognition.data.sources import open_source
from tests.tars import write_set
from utils import jpeg

SIDE, COUNT, CLASSES, BATCH, SEED = 16, 23, 5, 5, 11
BOTH = ("original", "augmented")
Step = tuple[bytes, list[int], list[int]]  # images, labels, index of a global batch


def face(index: int) -> np.ndarray:
    coarse = np.random.default_rng(index).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


IMAGES = [jpeg.encode(face(index)) for index in range(COUNT)]
LABELS = [index % CLASSES for index in range(COUNT)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The same samples as one record file, as shards of records and as tar shards."""
    root = tmp_path_factory.mktemp("faces")
    for name, ends in (("records", [COUNT]), ("shards", [4, 10, 11, COUNT]), ("tars", [4, 10, 11, COUNT])):
        (root / name).mkdir()
        (root / name / "property").write_text(f"{CLASSES},{SIDE},{SIDE}")
        starts = [0, *ends[:-1]]
        if name == "tars":
            sizes = [end - start for start, end in zip(starts, ends, strict=True)]
            write_set(root / name, IMAGES, LABELS, sizes, side=SIDE)
            continue
        for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
            base = root / name / ("train" if name == "records" else f"train-{place:05}")
            with RecordWriter(base.with_suffix(".rec"), base.with_suffix(".idx")) as writer:
                for key in range(start, end):
                    writer.write(key, pack(Header(0, LABELS[key], key, 0), IMAGES[key]))
    return root


def steps(folder, world_size=1, workers=0, epochs=(0,), start=0, window=None, name="records", **options) -> list[Step]:
    """The global batches, put together from the ranks' parts."""
    source = open_source(folder / name)
    augmented = Augment(options.pop("preset", "qgface"), **options.pop("overrides", {}))
    batches = ViewBatches(source, augmented, options.pop("views", BOTH), SEED, SIDE, **options)
    sizes = getattr(source, "shard_sizes", None)
    parts = []
    for rank in range(world_size):
        loader = Loader(batches, GlobalBatchSampler(COUNT, BATCH, SEED, rank, world_size, sizes, window), workers)
        parts.append([batch for epoch in epochs for batch in loader.epoch(epoch, start)])
    return [
        (
            b"".join(batch.images.numpy().tobytes() for batch in step),
            [label for batch in step for label in batch.labels.tolist()],
            [index for batch in step for index in batch.index.tolist()],
        )
        for step in zip(*parts, strict=True)
    ]


@pytest.fixture(scope="module")
def alone(folder) -> list[Step]:
    return steps(folder, epochs=(0, 1, 2))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 1, 2, 4])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_ranks_and_workers_change_no_bit(folder, alone, world_size, workers):
    """5 samples a step do not divide by 2, 3 or 4."""
    assert len(alone) == 3 * (COUNT // BATCH)
    assert steps(folder, world_size, workers, epochs=(0, 1, 2)) == alone


@pytest.mark.parametrize("world_size, workers", [(1, 0), (3, 2)])
def test_a_resume_at_any_step(folder, alone, world_size, workers):
    for start in range(5):
        assert steps(folder, world_size, workers, epochs=(1,), start=start) == alone[4 + start : 8]


def test_the_labels_are_those_of_the_images(folder, alone):
    """An image that is told from the others by its pixels, decoded by hand."""
    plain = {jpeg.decode(image).tobytes(): label for image, label in zip(IMAGES, LABELS, strict=True)}
    views = {"views": ("original",), "preset": "none", "overrides": {}}
    for images, labels, index in steps(folder, **views):
        size = len(images) // BATCH
        for row in range(BATCH):
            pixels = np.frombuffer(images[row * size : (row + 1) * size], np.uint8).reshape(SIDE, SIDE, 3)
            either = [plain.get(one.tobytes()) for one in (pixels, pixels[:, ::-1])]
            assert labels[row] in either and labels[row] == LABELS[index[row]]


@pytest.mark.parametrize("name", ["shards", "tars"])
def test_the_form_of_the_data_changes_nothing(folder, alone, name):
    assert steps(folder, 2, 1, epochs=(0, 1, 2), name=name) == alone


@pytest.mark.parametrize("name", ["shards", "tars"])
@pytest.mark.parametrize("world_size, workers", [(1, 2), (2, 0), (3, 1)])
def test_windows_of_shards_are_alike_too(folder, name, world_size, workers):
    expected = steps(folder, epochs=(0, 1), window=2, name="shards")
    assert steps(folder, world_size, workers, epochs=(0, 1), window=2, name=name) == expected
    assert expected != steps(folder, epochs=(0, 1))
    assert {label for _, labels, _ in expected for label in labels} == set(range(CLASSES))


def views_by_sample(steps: list[Step], views: int = 2) -> dict[int, list[bytes]]:
    """index -> its views."""
    size, found = SIDE * SIDE * 3, {}
    for images, _, index in steps:
        for row, sample in enumerate(index):
            at = row * views * size
            found[sample] = [images[at + view * size : at + (view + 1) * size] for view in range(views)]
    return found


def test_each_epoch_augments_anew(alone):
    epochs = [views_by_sample(alone[4 * epoch : 4 * epoch + 4]) for epoch in range(3)]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        common = epochs[first].keys() & epochs[second].keys()
        assert len(common) >= 2 * 4 * BATCH - COUNT
        assert all(epochs[first][sample][1] != epochs[second][sample][1] for sample in common)
        same = sum(epochs[first][sample][0] == epochs[second][sample][0] for sample in common)
        assert 0 < same < len(common)  # the original is flipped in one of two, and nothing else


OVERRIDES = {
    "flip_probability": 0.0,
    "crop_probability": 0.0,
    "rotation_probability": 1.0,
    "jitter_probability": 1.0,
    "downsample_probability": 0.0,
    "rotation_degrees": 10.0,
    "downsample_ratio": (0.9, 1.0),
    "jpeg_quality": 20,
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_one_parameter_leaves_the_other_draws_alone(name, monkeypatch):
    """Which operations are done, and by how much, is written down: only the operation of that parameter differs."""
    operations = ("flip", "crop", "rotation", "jitter", "downsample")
    usual, changed = (record(monkeypatch, overrides) for overrides in ({}, {name: OVERRIDES[name]}))
    own = "downsample" if name == "jpeg_quality" else name.partition("_")[0]
    for operation in operations:
        alike = [first[operation] == second[operation] for first, second in zip(usual, changed, strict=True)]
        assert all(alike) if operation != own else not all(alike), operation


def record(monkeypatch, overrides: dict) -> list[dict]:
    """What was done to each sample: the arguments of the operations, the images apart."""
    done: list[dict] = []

    def spied(name, function, module):
        def spy(image, *arguments, **keywords):
            plain = [one for one in arguments if not isinstance(one, np.ndarray)]
            done[-1][name] = (plain, keywords)
            return function(image, *arguments, **keywords)

        monkeypatch.setattr(module, function.__name__, spy)

    with monkeypatch.context() as monkeypatch:
        for name, function in (("crop", augment.crop), ("rotation", augment.rotate), ("jitter", augment.jitter)):
            spied(name, function, augment)
        spied("downsample", augment.downsample, augment)
        spied("flip", cv2.flip, cv2)

        class Listing(Augment):
            def __call__(self, image, draws, out=None):
                done.append(dict.fromkeys(("flip", "crop", "rotation", "jitter", "downsample")))
                return super().__call__(image, draws, out)

        batches = ViewBatches(InMemory(), Listing("qgface", **overrides), ("augmented",), SEED, SIDE)
        for epoch in range(20):
            batches[epoch, np.arange(COUNT)]
    assert PRESETS["qgface"].crop_probability > 0  # one that is changed to 0 takes fewer numbers
    return done


class InMemory:
    def __len__(self):
        return COUNT

    def where(self, index):
        return f"sample {index}"

    def __getitem__(self, index):
        return IMAGES[index], LABELS[index]
