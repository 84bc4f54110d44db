"""What a damaged sample does to its batch: it stops the run, or another sample takes its place."""

import re
import struct

import numpy as np
import pytest

from recognition.data.augment import Augment
from recognition.data.index import StorageError
from recognition.data.loader import TRIES, Loader, ViewBatches
from recognition.data.recordio import Header, RecordWriter, pack
from recognition.data.sampler import GlobalBatchSampler
from recognition.data.sources import open_source
from utils import jpeg

SIDE, COUNT, CLASSES = 16, 24, 5
BOTH = ("original", "augmented")


def plain(index: int) -> bytes:
    """An image of one grey that tells its sample: flips, crops and low resolutions leave it as it is."""
    return jpeg.encode(np.full((SIDE, SIDE, 3), 10 * index + 5, np.uint8))


def damaged_jpeg(data: bytes) -> bytes:
    """The entropy-coded data ends early, but the end marker is there: OpenCV shows grey and says nothing."""
    scan = data.index(b"\xff\xda")
    return data[: scan + 14] + b"\xff\xd9"


DAMAGE = {
    3: (lambda image: image[: len(image) // 2], "has no end marker: it is cut"),
    4: (damaged_jpeg, "is damaged"),
    9: (lambda image: b"no image", "are no JPEG, PNG or BMP"),
    10: (lambda image: jpeg.encode(np.zeros((SIDE, 2 * SIDE, 3), np.uint8)), f"has {2 * SIDE} x {SIDE} pixels"),
    15: (lambda image: b"", "0 bytes"),
}
LABEL, MAGIC, LENGTH = 6, 12, 20  # samples with a wrong label, a wrong magic word, a length beyond the file
BAD = {*DAMAGE, LABEL, MAGIC, LENGTH}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records with one sample of each kind of damage; sample i has key i."""
    root = tmp_path_factory.mktemp("damaged")
    with RecordWriter(root / "train.rec", root / "train.idx") as writer:
        for key in range(COUNT):
            image = DAMAGE[key][0](plain(key)) if key in DAMAGE else plain(key)
            writer.write(key, pack(Header(0, CLASSES if key == LABEL else key % CLASSES, key, 0), image))
    offsets = [int(line.split("\t")[1]) for line in (root / "train.idx").read_text().splitlines()]
    content = bytearray((root / "train.rec").read_bytes())
    content[offsets[MAGIC]] ^= 1
    struct.pack_into("<I", content, offsets[LENGTH] + 4, 1 << 28)
    (root / "train.rec").write_bytes(content)
    (root / "property").write_text(f"{CLASSES},{SIDE},{SIDE}")
    return root


def make(source, corrupt="skip", views=BOTH, seed=5) -> ViewBatches:
    return ViewBatches(
        source, Augment("qgface", jitter_probability=0.0, rotation_probability=0.0), views, seed, SIDE, corrupt
    )


def told(image: np.ndarray) -> int:
    """The sample that a grey image is of."""
    return round((float(image[SIDE // 2, SIDE // 2].mean()) - 5) / 10)


def test_image_label_and_index_are_of_one_whole_sample(folder):
    batches = make(open_source(folder))
    for epoch in range(30):
        batch = batches[epoch, np.arange(COUNT)]
        for row, (label, index) in enumerate(zip(batch.labels.tolist(), batch.index.tolist(), strict=True)):
            assert index not in BAD and (index == row) == (row not in BAD)
            assert label == index % CLASSES
            assert [told(view) for view in batch.images[row].numpy()] == [index, index]


def test_what_was_wrong_is_told_for_each_key(folder):
    batch = make(open_source(folder))[0, np.arange(COUNT)]
    words = {key: words for key, (_, words) in DAMAGE.items()}
    words |= {LABEL: "has label 5, expected a class in [0, 5)", MAGIC: "no record at byte", LENGTH: "announces"}
    assert len(batch.damaged) == len(words) == len(BAD)
    for key, line in zip(sorted(words), batch.damaged, strict=True):
        assert f"{folder}/train.rec" in line and re.search(rf"key {key}\b", line) and words[key] in line
        assert "\n" not in line


def test_samples_that_are_whole_are_as_if_nothing_was_wrong(folder):
    class Whole:
        def __len__(self):
            return COUNT

        def where(self, index):
            return str(index)

        def __getitem__(self, index):
            return plain(index), index % CLASSES

    whole = [index for index in range(COUNT) if index not in BAD]
    skipping, expected = make(open_source(folder)), make(Whole(), "stop")
    for epoch in range(3):
        ours, theirs = skipping[epoch, np.arange(COUNT)], expected[epoch, np.arange(COUNT)]
        assert (ours.images[whole] == theirs.images[whole]).all() and theirs.damaged == []
        for row in BAD:  # the substitute's views are those it has in its own place
            assert (ours.images[row] == theirs.images[ours.index[row]]).all()


def test_the_substitute_depends_on_seed_epoch_and_index_only(folder):
    source = open_source(folder)
    together = make(source)[4, np.arange(COUNT)].index
    for index in BAD:
        for indices in ([index], [index, 0], [1, 3, index]):
            assert (
                make(source, views=("original",))[4, np.array(indices)].index[indices.index(index)] == together[index]
            )
    for other in (make(source)[5, np.arange(COUNT)].index, make(source, seed=6)[4, np.arange(COUNT)].index):
        assert sum(other[index] != together[index] for index in BAD) > len(BAD) // 2


def test_substitutes_are_drawn_from_all_that_is_whole(folder):
    """1600 draws over 16 whole samples: none is preferred (5 sigma)."""
    batches = make(open_source(folder), views=("original",))
    drawn = [index for epoch in range(200) for index in batches[epoch, np.array(sorted(BAD))].index.tolist()]
    counts = np.bincount(drawn, minlength=COUNT)
    whole = np.array([index not in BAD for index in range(COUNT)])
    expected = len(drawn) / whole.sum()
    assert not counts[~whole].any() and (np.abs(counts[whole] - expected) < 5 * np.sqrt(expected)).all()


@pytest.mark.parametrize("world_size, workers", [(1, 2), (2, 0), (2, 1), (3, 0), (4, 1)])
def test_all_ranks_and_workers_agree(folder, world_size, workers):
    def epoch_of(world_size, workers):
        ranks, source = [], open_source(folder)
        for rank in range(world_size):
            sampler = GlobalBatchSampler(COUNT, 6, 0, rank, world_size)
            ranks.append(list(Loader(make(source), sampler, workers).epoch(1)))
        parts = [[part for batch in step for part in zip(*(t.tolist() for t in batch[:3]), strict=True)]
                 for step in zip(*ranks, strict=True)]  # fmt: skip
        return parts, sorted(line for batches in ranks for batch in batches for line in batch.damaged)

    steps, damaged = epoch_of(world_size, workers)
    assert (steps, damaged) == epoch_of(1, 0)
    assert len(damaged) == len(BAD) and len(steps) == COUNT // 6


@pytest.mark.parametrize("workers", [0, 1])
def test_stop_stops_at_the_first(folder, workers):
    loader = Loader(make(open_source(folder), "stop"), GlobalBatchSampler(COUNT, 6, 0), workers)
    try:
        list(loader.epoch(0))
    except ValueError as error:
        assert re.search(r"train.rec.*\bkey (3|4|6|9|10|12|15|20)\b", str(error)) and "\n" not in str(error)
        return
    raise AssertionError("bad data went through")


class Ruined:
    """Only the samples of `whole` can be read."""

    def __init__(self, length: int, whole: tuple[int, ...] = (), error: Exception | None = None):
        self.length, self.whole, self.error, self.asked = length, whole, error, 0

    def __len__(self):
        return self.length

    def where(self, index):
        return f"faces.rec: key {index}"

    def __getitem__(self, index):
        self.asked += 1
        if index not in self.whole and self.error:
            raise self.error
        return (plain(index) if index in self.whole else b"junk"), 0


@pytest.mark.parametrize("length", [1, 2, 1000])
def test_a_set_that_is_all_damaged_names_the_doctor(length):
    source = Ruined(length)
    with pytest.raises(ValueError, match="key 0: .*tools.doctor") as caught:
        make(source)[0, np.array([0])]
    assert "\n" not in str(caught.value) and source.asked == 1 + TRIES


def test_one_of_two_is_found():
    batches = make(Ruined(2, whole=(1,)))
    assert all(batches[epoch, np.array([0])].index.item() == 1 for epoch in range(50))


@pytest.mark.parametrize("error", [KeyError("bug"), FileNotFoundError(2, "No such file", "a.jpg"), MemoryError()])
def test_what_is_no_damage_is_not_skipped(error):
    """A bug, a file that is gone, a full memory: leaving samples out would hide it."""
    with pytest.raises(StorageError if isinstance(error, OSError) else type(error)):
        make(Ruined(8, whole=(0, 1, 2, 3), error=error))[0, np.arange(8)]


def test_another_policy_is_refused():
    with pytest.raises(ValueError, match="corrupt='ignore': expected 'stop' or 'skip'"):
        make(Ruined(2), "ignore")
