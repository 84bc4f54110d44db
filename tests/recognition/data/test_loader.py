import multiprocessing
import os
import re
import signal
import time

import cv2
import numpy as np
import pytest
import torch

from recognition.data.augment import DRAWS, Augment
from recognition.data.loader import Loader, ViewBatches, normalise
from recognition.data.sampler import GlobalBatchSampler
from utils import jpeg
from utils.rng import Purpose, uniforms

BOTH = ("original", "augmented")
SIDE = 32


def face(index: int) -> np.ndarray:
    coarse = np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


class Source:
    """Encoded faces in memory; what is in `broken` takes the place of a sample."""

    num_classes = 5

    def __init__(self, length: int = 23, broken: dict | None = None):
        self.encoded = [jpeg.encode(face(index)) for index in range(length)]
        self.broken = broken or {}

    def __len__(self):
        return len(self.encoded)

    def where(self, index):
        return f"faces.rec: key {index + 1}"

    def __getitem__(self, index):
        data = self.broken.get(index, self.encoded[index])
        if isinstance(data, Exception):
            raise data
        return data, index % self.num_classes


class ProcessSource(Source):
    """Labels that tell about the process which reads them."""

    def __init__(self, ask):
        super().__init__()
        self.ask = ask

    def __getitem__(self, index):
        return self.encoded[index], int(self.ask())


def make(source=None, views=BOTH, preset="qgface", seed=5, **sampler) -> tuple[ViewBatches, GlobalBatchSampler]:
    source = source or Source()
    batches = ViewBatches(source, Augment(preset), views, seed, size=SIDE)
    return batches, GlobalBatchSampler(len(source), sampler.pop("batch_size", 6), seed, **sampler)


def numbers(epoch: int, index: int, purpose: Purpose) -> np.ndarray:
    return uniforms(5, epoch, np.array([index]), purpose, DRAWS)[0]


def run(num_workers=0, epochs=(0,), start_step=0, **options) -> list[list[np.ndarray]]:
    """images, labels and index of each step of the epochs."""
    loader = Loader(*make(**options), num_workers)
    return [[part.numpy() for part in batch[:3]] for e in epochs for batch in loader.epoch(e, start_step)]


def assert_same(ours, expected):
    assert len(ours) == len(expected) > 0
    for step, expected_step in zip(ours, expected, strict=True):
        for part, expected_part in zip(step, expected_step, strict=True):
            assert part.dtype == expected_part.dtype
            np.testing.assert_array_equal(part, expected_part)


def test_a_batch_is_the_views_of_each_sample_in_the_order_of_the_sampler():
    source = Source()
    batches, sampler = make(source)
    for epoch, indices in sampler.batches(4):
        images, labels, index, damaged = batches[epoch, indices]
        assert damaged == []
        assert images.dtype == torch.uint8 and images.shape == (6, 2, SIDE, SIDE, 3) and images.is_contiguous()
        assert labels.dtype == index.dtype == torch.int64
        assert index.tolist() == indices.tolist() and labels.tolist() == [i % 5 for i in indices]
        for row, i in enumerate(indices.tolist()):
            image = jpeg.decode(source.encoded[i])
            original = Augment("none")(image, numbers(4, i, Purpose.ORIGINAL))
            augmented = Augment("qgface")(image, numbers(4, i, Purpose.AUGMENTED))
            np.testing.assert_array_equal(images[row, 0], original)
            np.testing.assert_array_equal(images[row, 1], augmented)


def test_colours_are_red_green_blue():
    red = np.full((SIDE, SIDE, 3), (250, 10, 30), np.uint8)
    batches, _ = make(Source(1, broken={0: jpeg.encode(red)}), batch_size=1)
    images = batches[0, np.array([0])].images
    assert (images.to(torch.int16) - torch.from_numpy(red).to(torch.int16)).abs().max() < 60


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_do_not_change_a_bit(num_workers):
    assert_same(run(num_workers, epochs=(0, 1)), run(0, epochs=(0, 1)))


@pytest.mark.parametrize(("world_size", "num_workers"), [(2, 0), (2, 1), (3, 2), (4, 0)])
def test_ranks_do_not_change_a_bit(world_size, num_workers):
    ranks = [run(num_workers, rank=rank, world_size=world_size) for rank in range(world_size)]
    together = [[np.concatenate(parts) for parts in zip(*steps, strict=True)] for steps in zip(*ranks, strict=True)]
    assert_same(together, run(0))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_later_start_continues_as_if_never_stopped(num_workers):
    assert_same(run(num_workers, epochs=(3,), start_step=2), run(0, epochs=(3,))[2:])


def test_a_view_does_not_depend_on_whether_the_other_exists():
    both = run()
    for place, view in enumerate(BOTH):
        for (alone, _, _), (images, _, _) in zip(run(views=(view,)), both, strict=True):
            np.testing.assert_array_equal(alone[:, 0], images[:, place])
    for (turned, _, _), (images, _, _) in zip(run(views=BOTH[::-1]), both, strict=True):
        np.testing.assert_array_equal(turned, images[:, ::-1])


def views_of(index: int, **options) -> list[np.ndarray]:
    """The augmented view of one sample in ten epochs."""
    batches, _ = make(views=("augmented",), **options)
    return [batches[epoch, np.array([index])].images.numpy() for epoch in range(10)]


def test_augmentation_is_another_in_each_epoch_and_for_each_seed():
    assert len({view.tobytes() for view in views_of(3)}) == 10
    assert not np.array_equal(views_of(3), views_of(3, seed=6))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_that_was_left_early_does_not_leak_into_the_next(num_workers):
    loader = Loader(*make(), num_workers)
    for _ in loader.epoch(0):
        break
    rest = [[part.numpy() for part in batch[:3]] for batch in loader.epoch(1, 1)]
    assert_same(rest, run(0, epochs=(1,))[1:])


def test_workers_live_as_long_as_the_loader():
    loader = Loader(*make(ProcessSource(os.getpid)), 2)
    pids = [{pid for batch in loader.epoch(epoch) for pid in batch.labels.tolist()} for epoch in range(3)]
    assert pids[0] == pids[1] == pids[2] and len(pids[0]) == 2 and os.getpid() not in pids[0]


def test_workers_end_with_their_loader_whatever_was_forked_meanwhile():
    first, second = (Loader(*make(ProcessSource(os.getpid)), 2) for _ in range(2))
    pids = [{pid for batch in loader.epoch(0) for pid in batch.labels.tolist()} for loader in (first, second)]
    del first
    for _ in range(100):
        running = {process.pid for process in multiprocessing.active_children()}  # reaps those that have ended
        if not pids[0] & running:
            break
        time.sleep(0.05)
    assert not pids[0] & running and pids[1] <= running


def ignores_interrupt():
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN


@pytest.mark.parametrize(
    ("ask", "expected"), [(ignores_interrupt, 1), (cv2.getNumThreads, 1), (torch.get_num_threads, 1)]
)
def test_a_worker_is_one_thread_and_leaves_interrupts_to_its_parent(ask, expected):
    before = ask()
    loader = Loader(*make(ProcessSource(ask)), 1)
    assert {label for batch in loader.epoch(0) for label in batch.labels.tolist()} == {expected}
    assert ask() == before


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_interrupt_while_workers_start_reaches_the_parent_and_only_it(num_workers, monkeypatch, capfd):
    fork, workers = os.fork, []

    def interrupted_fork():
        pid = fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            workers.append(pid)
            os.kill(os.getpid(), signal.SIGINT)
        return pid

    loader = Loader(*make(), num_workers)
    monkeypatch.setattr(os, "fork", interrupted_fork)
    try:
        list(loader.epoch(0))
        raise AssertionError("the interrupt was lost")
    except KeyboardInterrupt:
        pass
    monkeypatch.undo()
    assert len(workers) == num_workers
    assert len(list(loader.epoch(0))) == 3  # the workers are whole: the loader can be used
    assert capfd.readouterr().err == ""


def test_the_global_random_generators_are_left_alone():
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    run(1)
    run(0)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


def refusal(loader: Loader) -> str:
    """What an epoch's ValueError says. (pytest.raises would keep the traceback, and so the workers, alive.)"""
    try:
        list(loader.epoch(0))
    except ValueError as error:
        return str(error)
    raise AssertionError("bad data went through")


WHOLE = jpeg.encode(face(0))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (WHOLE[: len(WHOLE) // 2], "faces.rec: key 8: JPEG of .* bytes has no end marker"),
        (b"no image at all", "faces.rec: key 8: "),
        (b"", "faces.rec: key 8: "),
        (
            jpeg.encode(np.zeros((40, 24, 3), np.uint8)),
            "faces.rec: key 8 has 24 x 40 pixels, expected 32 x 32",
        ),
        (ValueError("faces.rec: key 8 is damaged"), "^faces.rec: key 8 is damaged$"),
        (FileNotFoundError(2, "No such file", "8.jpg"), "^faces.rec: key 8 cannot be read: No such file$"),
    ],
)
def test_bad_data_in_any_process_is_one_line_that_names_it(num_workers, bad, message):
    batches, sampler = make(Source(12, broken={7: bad}))
    said = refusal(Loader(batches, sampler, num_workers))
    assert re.search(message, said) and "\n" not in said and "Traceback" not in said


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bug_in_a_worker_is_not_taken_for_bad_data(num_workers):
    batches, sampler = make(Source(12, broken={7: KeyError("bug")}))
    with pytest.raises(ChildProcessError if num_workers else KeyError):
        list(Loader(batches, sampler, num_workers).epoch(0))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_killed_worker_ends_the_epoch_with_a_line(num_workers):
    loader = Loader(*make(ProcessSource(os.getpid), batch_size=2), num_workers)
    stream = loader.epoch(0)
    os.kill(next(stream).labels[0].item(), signal.SIGKILL)
    with pytest.raises(ChildProcessError, match="ended with code -9") as caught:
        list(stream)
    assert "\n" not in str(caught.value)


def test_batches_that_are_kept_are_not_written_over():
    """There are fewer places in shared memory than batches: the workers wait, or the batch moves out."""
    loader = Loader(*make(batch_size=1), 1)
    kept = list(loader.epoch(0))
    views = [batch.images[0, 1] for batch in loader.epoch(1)]  # parts of batches that are gone
    for epoch, found in enumerate(([batch.images[0, 1] for batch in kept], views)):
        expected = [images[0, 1] for images, *_ in run(0, epochs=(epoch,), batch_size=1)]
        np.testing.assert_array_equal(np.stack(found), np.stack(expected))
    assert len(kept) == 23


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_start_after_the_end_is_refused(num_workers):
    with pytest.raises(ValueError, match="between 0 and 3"):
        list(Loader(*make(), num_workers).epoch(0, 4))


@pytest.mark.parametrize("views", [(), ("original", "original"), ("augmneted",), "original"])
def test_unknown_views_are_refused(views):
    with pytest.raises(ValueError, match="expected .'original',."):
        make(views=views)


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(ValueError, match="num_workers=-1"):
        Loader(*make(), -1)


def test_normalise_maps_bytes_to_minus_one_to_one_in_channels_last():
    images = torch.arange(256, dtype=torch.uint8).repeat(9)[: 3 * 2 * 8 * 8 * 3].reshape(3, 2, 8, 8, 3)
    pixels = normalise(images, torch.device("cpu"))
    assert pixels.shape == (6, 3, 8, 8) and pixels.dtype == torch.float32
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    for p in range(3):
        for v in range(2):
            for channel in range(3):
                expected = images[p, v, :, :, channel].double() / 127.5 - 1
                assert torch.allclose(pixels[2 * p + v, channel].double(), expected, atol=1e-6)
    assert pixels.min() == -1 and pixels.max() == 1


def test_real_faces_give_batches(shared_data):
    from recognition.data.sources import open_source

    source = open_source(shared_data / "celeba_train")
    batches = ViewBatches(source, Augment("qgface"), BOTH, seed=0)
    images, labels, *_ = batches[0, np.arange(40)]
    difference = (images[:, 0].float() - images[:, 1].float()).abs().mean(dim=(1, 2, 3))
    assert images.shape == (40, 2, 112, 112, 3) and labels.max() < source.num_classes
    assert images.float().std() > 30 and (difference > 0).all()


def test_the_sharpness_of_a_batch_is_that_of_its_views():
    batches, sampler = make(preset="adaface")
    loader = Loader(batches, sampler, 0)
    for batch in loader.epoch(1):
        known_pV = loader.sharpness(1, batch, torch.device("cpu"))
        assert known_pV.dtype == torch.float32 and (known_pV[:, 0] == 1).all()
        draws = uniforms(5, 1, batch.index.numpy(), Purpose.AUGMENTED, DRAWS)
        assert known_pV[:, 1].tolist() == pytest.approx([Augment("adaface").sharpness(row) for row in draws.tolist()])
