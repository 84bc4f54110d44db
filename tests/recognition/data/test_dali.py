"""Batches decoded by NVIDIA DALI: on its CPU device here, against our loader's."""

import sys

import cv2
import numpy as np
import pytest
import torch
from easydict import EasyDict

from configs import base
from recognition.build import make_loader
from recognition.data.augment import Augment
from recognition.data.dali import DaliLoader
from recognition.data.loader import Loader, ViewBatches
from recognition.data.sampler import GlobalBatchSampler
from utils import jpeg
from utils.parallel import World

SIDE, COUNT = 32, 23
CPU = torch.device("cpu")


def face(index: int) -> np.ndarray:
    coarse = np.random.default_rng(index).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


class Source:
    side = SIDE

    def __init__(self, broken: dict[int, bytes] | None = None):
        self.encoded = [jpeg.encode(face(index)) for index in range(COUNT)]
        self.broken = broken or {}

    def __len__(self):
        return COUNT

    def where(self, index):
        return f"faces.rec: key {index + 1}"

    def __getitem__(self, index):
        return self.broken.get(index, self.encoded[index]), index % 5


def dali(source=None, views=("original",), rank=0, world_size=1, batch_size=6) -> DaliLoader:
    sampler = GlobalBatchSampler(COUNT, batch_size, 5, rank, world_size)
    return DaliLoader(source or Source(), sampler, views, 5, SIDE, CPU, num_threads=1)


# ----- where it cannot be used ----------------------------------------------------------------------------------------


def test_without_dali(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(ValueError, match="dali=True: NVIDIA DALI cannot be imported .*; pip install .* dali=False"):
        dali()


@pytest.mark.parametrize("views", [("augmented",), ("original", "augmented"), ("augmented", "original"), ()])
def test_other_views_are_refused(views):
    with pytest.raises(ValueError, match=r"dali=True with views=.*: DALI makes \('original',\) only; use dali=False"):
        dali(views=views)


@pytest.mark.parametrize(
    "device, corrupt, refused", [("cpu", "stop", True), ("cuda", "skip", True), ("cuda", "stop", False)]
)
def test_a_config_that_asks_for_it_in_vain(monkeypatch, device, corrupt, refused):
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    cfg = EasyDict({**base.config, "dali": True, "corrupt": corrupt})
    message = "dali=True needs a GPU, and corrupt='stop'" if refused else "cannot be imported"
    with pytest.raises(ValueError, match=message):
        make_loader(cfg, Source(), GlobalBatchSampler(COUNT, 6, 5), World(0, 1, 0, torch.device(device)))


# ----- where it is installed ------------------------------------------------------------------------------------------


@pytest.fixture
def installed():
    pytest.importorskip("nvidia.dali")


@pytest.mark.parametrize("start", [0, 2])
def test_the_batches_are_those_of_our_loader(installed, start):
    """Order, labels and flips are ours to the bit; DALI's decoder may differ by some levels."""
    batches = ViewBatches(Source(), Augment("none"), ("original",), 5, SIDE)
    for epoch in (0, 3):
        expected = list(Loader(batches, GlobalBatchSampler(COUNT, 6, 5), 0).epoch(epoch, start))
        ours = list(dali().epoch(epoch, start))
        assert len(ours) == len(expected) == 3 - start
        for step, expected_step in zip(ours, expected, strict=True):
            assert step.images.dtype == torch.uint8 and step.images.shape == expected_step.images.shape
            assert step.labels.dtype == step.index.dtype == torch.int64 and step.damaged == []
            assert step.labels.tolist() == expected_step.labels.tolist()
            assert step.index.tolist() == expected_step.index.tolist()
            difference = (step.images.int() - expected_step.images.int()).abs()
            unflipped = (step.images.flip(3).int() - expected_step.images.int()).abs()
            assert difference.max() <= 6 and difference.float().mean() < 0.5
            assert (unflipped.float().mean((1, 2, 3, 4)) > 5).all()


def test_uneven_ranks(installed):
    whole = list(dali(batch_size=7).epoch(1))
    parts = zip(*(dali(rank=rank, world_size=3, batch_size=7).epoch(1) for rank in range(3)), strict=True)
    together = [[torch.cat(one) for one in zip(*(batch[:3] for batch in step), strict=True)] for step in parts]
    assert len(whole) == len(together) == 3
    for step, expected in zip(together, whole, strict=True):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(step, expected[:3], strict=True))


def test_batches_do_not_share_memory(installed):
    batches = dali().epoch(0)
    first = next(batches).images
    kept = first.clone()
    list(batches)
    assert torch.equal(first, kept)


WHOLE = jpeg.encode(face(0))


@pytest.mark.parametrize(
    "bad, message",
    [
        (WHOLE[: len(WHOLE) // 2], "faces.rec: key 8: JPEG of .* has no end marker: it is cut"),
        (b"no image", "faces.rec: key 8: .* no JPEG, PNG or BMP"),
        (jpeg.encode(np.zeros((16, SIDE, 3), np.uint8)), f"faces.rec: key 8 has {SIDE} x 16 pixels"),
    ],
)
def test_bad_data_is_one_line_that_names_it(installed, bad, message):
    with pytest.raises(ValueError, match=message) as caught:
        list(dali(Source({7: bad})).epoch(0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("index", range(0, COUNT, 5))
def test_damage_that_only_the_decoder_sees_is_named(installed, index):
    """The header is whole and the pixels are not; DALI meets it some batches early."""
    scan = WHOLE.index(b"\xff\xda")
    batches = dali(Source({index: WHOLE[: scan + 4] + bytes(9) + b"\xff\xd9"}), batch_size=2).epoch(0)
    if index not in {sample for _, indices in dali(batch_size=2).sampler.batches(0) for sample in indices.tolist()}:
        assert len(list(batches)) == COUNT // 2
        return
    with pytest.raises(ValueError, match=f"faces.rec: key {index + 1}: JPEG of .* is damaged") as caught:
        list(batches)
    assert "\n" not in str(caught.value)
