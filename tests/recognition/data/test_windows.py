"""Shuffling in windows of shards, for data that is fetched shard by shard."""

import numpy as np
import pytest

from recognition.data.sampler import GlobalBatchSampler

SIZES = [7, 1, 12, 5, 9, 30, 2, 8, 8, 18]
TOTAL = sum(SIZES)


def sampler(rank=0, world_size=1, window=3, batch_size=10, seed=7, sizes=SIZES) -> GlobalBatchSampler:
    return GlobalBatchSampler(sum(sizes), batch_size, seed, rank, world_size, sizes, window)


def global_batches(world_size=1, epoch=0, start_step=0, **options) -> list[np.ndarray]:
    ranks = [sampler(rank, world_size, **options).batches(epoch, start_step) for rank in range(world_size)]
    return [np.concatenate([indices for _, indices in step]) for step in zip(*ranks, strict=True)]


def shards_of(indices: np.ndarray, sizes=SIZES) -> np.ndarray:
    return np.searchsorted(np.cumsum(sizes), indices, side="right")


@pytest.mark.parametrize("window", [1, 2, 3, 9, 10, 11, 1000])
@pytest.mark.parametrize("epoch", [0, 5])
def test_an_epoch_is_a_permutation_that_mixes_so_many_shards_at_a_time(window, epoch):
    order = np.concatenate(global_batches(batch_size=1, window=window, epoch=epoch))
    assert sorted(order.tolist()) == list(range(TOTAL))
    shards = shards_of(order).tolist()
    met, start = list(dict.fromkeys(shards)), 0
    for at in range(0, len(met), window):  # a window is read to its end before another shard is touched
        end = start + sum(SIZES[shard] for shard in met[at : at + window])
        assert set(shards[start:end]) == set(met[at : at + window])
        start = end


def test_samples_of_a_window_are_mixed():
    """Within a window of all shards, neighbours come from different shards as often as chance says."""
    sizes = [50] * 20
    order = np.concatenate(global_batches(batch_size=1, window=5, sizes=sizes))
    for at in range(0, 1000, 250):
        shards = shards_of(order[at : at + 250], sizes)
        assert len(set(shards.tolist())) == 5
        changes = (shards[1:] != shards[:-1]).mean()
        assert abs(changes - 0.8) < 5 * np.sqrt(0.8 * 0.2 / 249)
    assert (np.diff(order) == 1).mean() < 0.02  # nor are the samples of a shard in their order


@pytest.mark.parametrize("world_size", [2, 3, 4, 7, 10])
def test_any_number_of_ranks_sees_the_same_global_batches(world_size):
    """10 samples a step do not divide by most of these."""
    expected = global_batches(epoch=3)
    assert len(expected) == TOTAL // 10
    np.testing.assert_array_equal(global_batches(world_size, epoch=3), expected)


@pytest.mark.parametrize("batch_size, world_size", [(7, 2), (7, 3), (13, 4), (5, 5), (11, 10)])
def test_uneven_shares_are_complete(batch_size, world_size):
    alone = global_batches(batch_size=batch_size)
    np.testing.assert_array_equal(global_batches(world_size, batch_size=batch_size), alone)
    sizes = [len(next(sampler(rank, world_size, batch_size=batch_size).batches(0))[1]) for rank in range(world_size)]
    assert sum(sizes) == batch_size and max(sizes) - min(sizes) <= 1


def test_epochs_and_seeds_differ_in_shards_and_samples():
    orders = [np.concatenate(global_batches(epoch=epoch, seed=seed)) for epoch in range(4) for seed in (7, 8)]
    assert len({order.tobytes() for order in orders}) == 8
    firsts = {tuple(dict.fromkeys(shards_of(order).tolist())) for order in orders}
    assert len(firsts) == 8  # not only the samples of a window: other shards are together
    again = np.concatenate(global_batches(epoch=2))
    np.testing.assert_array_equal(again, np.concatenate(global_batches(epoch=2)))


@pytest.mark.parametrize("world_size", [1, 3])
def test_a_start_at_any_step_gives_the_rest(world_size):
    whole = global_batches(world_size, epoch=2)
    for step in range(len(whole) + 1):
        rest = global_batches(world_size, epoch=2, start_step=step)
        assert len(rest) == len(whole) - step
        for ours, expected in zip(rest, whole[step:], strict=True):
            np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("sizes", [None, [5, 4], [100, 1]])
def test_a_window_needs_shards(sizes):
    with pytest.raises(ValueError, match="shuffle_shards=2: the data has no shards; leave the key out"):
        GlobalBatchSampler(100, 10, 0, shard_sizes=sizes, window=2)


def test_shards_without_a_window_change_nothing():
    plain = GlobalBatchSampler(TOTAL, 10, 7).batches(1)
    shards = GlobalBatchSampler(TOTAL, 10, 7, shard_sizes=SIZES).batches(1)
    for (_, ours), (_, expected) in zip(shards, plain, strict=True):
        np.testing.assert_array_equal(ours, expected)
