import numpy as np
import pytest

from recognition.data.sampler import GlobalBatchSampler


def global_batches(world_size, epoch=0, start_step=0, num_samples=53, batch_size=10, seed=7):
    """The ranks' parts put together again, one array per step."""
    parts = [
        [
            indices
            for _, indices in GlobalBatchSampler(num_samples, batch_size, seed, rank, world_size).batches(
                epoch, start_step
            )
        ]
        for rank in range(world_size)
    ]
    return [np.concatenate(step) for step in zip(*parts, strict=True)]


@pytest.mark.parametrize("world_size", [2, 3, 4, 10])
def test_any_number_of_ranks_sees_the_same_global_batches(world_size):
    np.testing.assert_array_equal(global_batches(world_size, epoch=3), global_batches(1, epoch=3))


def test_an_epoch_takes_each_sample_at_most_once_and_drops_another_tail_each_time():
    dropped = []
    for epoch in range(4):
        seen = np.concatenate(global_batches(1, epoch))
        assert len(seen) == 50 and len(set(seen.tolist())) == 50
        assert set(seen.tolist()) <= set(range(53))
        dropped.append(frozenset(range(53)) - set(seen.tolist()))
    assert len(set(dropped)) == 4


def test_order_depends_on_seed_and_epoch_and_on_nothing_else():
    first = np.concatenate(global_batches(1))
    np.testing.assert_array_equal(first, np.concatenate(global_batches(1)))
    assert not np.array_equal(first, np.concatenate(global_batches(1, epoch=1)))
    assert not np.array_equal(first, np.concatenate(global_batches(1, seed=8)))


@pytest.mark.parametrize("world_size", [1, 3])
def test_a_later_start_gives_the_rest_of_the_epoch(world_size):
    whole = global_batches(world_size, epoch=2)
    np.testing.assert_array_equal(global_batches(world_size, epoch=2, start_step=3), whole[3:])
    assert global_batches(world_size, epoch=2, start_step=5) == []


def test_uneven_shares_differ_by_one_and_the_first_ranks_get_more():
    samplers = [GlobalBatchSampler(20, 10, 0, rank, 4) for rank in range(4)]
    assert [len(next(s.batches(0))[1]) for s in samplers] == [3, 3, 2, 2]
    assert [s.steps_per_epoch for s in samplers] == [2, 2, 2, 2]


def test_items_carry_the_epoch_and_int64_indices():
    epoch, indices = next(GlobalBatchSampler(20, 10, 0).batches(6))
    assert epoch == 6 and indices.dtype == np.int64 and indices.shape == (10,)


def test_every_place_of_the_order_is_uniform():
    firsts = [next(GlobalBatchSampler(4, 4, seed).batches(epoch))[1][0] for seed in range(40) for epoch in range(25)]
    counts = np.bincount(firsts, minlength=4)
    assert np.all(np.abs(counts - 250) < 5 * np.sqrt(1000 * 0.25 * 0.75))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(num_samples=9, batch_size=10), "larger than the data set of 9 images"),
        (dict(num_samples=0, batch_size=1), "larger than the data set of 0 images"),
        (dict(num_samples=9, batch_size=2, world_size=3), "smaller than the number of processes 3"),
        (dict(num_samples=9, batch_size=0), "smaller than the number of processes 1"),
        (dict(num_samples=9, batch_size=4, rank=2, world_size=2), "rank 2 of 2"),
    ],
)
def test_impossible_batches_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GlobalBatchSampler(seed=0, **arguments)


@pytest.mark.parametrize(("epoch", "start"), [(-1, 0), (0, -1), (0, 6)])
def test_a_start_outside_the_epoch_is_refused_at_once(epoch, start):
    with pytest.raises(ValueError, match="between 0 and 5"):
        GlobalBatchSampler(53, 10, 0).batches(epoch, start)
