"""The numbers that the augmentation draws, against a transcription of SplitMix64 and as random numbers."""

import numpy as np
import pytest
from scipy import stats

from utils.rng import Purpose, generator, uniforms

WORD = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15


def mix(x: int) -> int:
    """The finaliser of Steele, Lea and Flood's SplitMix64 (2014, Fig. 16; variant 13 of Stafford's mixers)."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB & WORD
    return x ^ x >> 31


def transcription(seed: int, epoch: int, index: int, purpose: int, count: int) -> list[float]:
    """The stream of one sample: SplitMix64, started where its four numbers lead."""
    state = mix((seed << 32 | epoch) * GAMMA + purpose & WORD)
    state = mix(state + index * GAMMA & WORD)
    numbers = []
    for _ in range(count):
        state = state + GAMMA & WORD
        numbers.append((mix(state) >> 11) / (1 << 53))
    return numbers


def test_the_finaliser_is_splitmix64():
    """The generator's first numbers from state 1234567, as its reference implementation prints them."""
    states = [1234567 + step * GAMMA & WORD for step in (1, 2, 3)]
    assert [mix(state) for state in states] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("seed", [0, 1, 2048, 2**31, 2**32 - 1])
@pytest.mark.parametrize("epoch", [0, 7, 2**32 - 1])
def test_equal_to_the_transcription(seed, epoch):
    index = np.array([0, 1, 2, 99, 10**7, 2**40 + 3, 2**56 - 1])
    for purpose in (0, Purpose.ORIGINAL, Purpose.AUGMENTED, Purpose.SUBSTITUTE):
        numbers = uniforms(seed, epoch, index, purpose, 5)
        assert numbers.tolist() == [transcription(seed, epoch, i, purpose, 5) for i in index.tolist()]


def test_fewer_numbers_are_the_first_of_more():
    index = np.random.default_rng(0).integers(0, 1 << 40, 100)
    more = uniforms(5, 3, index, Purpose.AUGMENTED, 53)
    for count in (0, 1, 13, 52):
        fewer = uniforms(5, 3, index, Purpose.AUGMENTED, count)
        assert fewer.shape == (100, count) and (fewer == more[:, :count]).all()


def test_a_stream_does_not_depend_on_the_others_in_the_batch():
    index = np.random.default_rng(0).permutation(1000)
    together = uniforms(5, 3, index, Purpose.AUGMENTED, 4)
    for row in range(0, 1000, 97):
        assert (uniforms(5, 3, index[row : row + 1], Purpose.AUGMENTED, 4) == together[row]).all()
    assert (uniforms(5, 3, index.astype(np.int32), Purpose.AUGMENTED, 4) == together).all()


def test_no_samples_draw_nothing():
    assert uniforms(5, 3, np.array([], np.int64), Purpose.AUGMENTED, 4).shape == (0, 4)


COUNT = 20_000
INDEX = np.arange(COUNT)


def test_the_numbers_are_uniform():
    """Kolmogorov-Smirnov, over samples and within streams; chi-squared of the lowest bits, which a shift might lose."""
    numbers = uniforms(2048, 0, INDEX, Purpose.AUGMENTED, 53)
    assert numbers.min() >= 0 and numbers.max() < 1
    for column in (0, 1, 12, 52):
        assert stats.kstest(numbers[:, column], "uniform").pvalue > 1e-3
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3
    low = (numbers.ravel() * 2**53).astype(np.int64) % 256
    assert stats.chisquare(np.bincount(low, minlength=256)).pvalue > 1e-3


BASE = dict(seed=2048, epoch=5, index=INDEX, purpose=Purpose.AUGMENTED)
NEIGHBOURS = {
    "the next sample": dict(index=INDEX + 1),
    "a sample a power of two further": dict(index=INDEX + 2**32),
    "the next epoch": dict(epoch=6),
    "the next seed": dict(seed=2049),
    "seed and epoch changed places": dict(seed=5, epoch=2048),
    "the other view": dict(purpose=Purpose.ORIGINAL),
    "a substitute": dict(purpose=Purpose.SUBSTITUTE),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_neighbours_are_unrelated(name):
    """Every column against every column: a stream that is another's, shifted by a number, shows too."""
    ours = uniforms(**BASE, count=8)
    theirs = uniforms(**{**BASE, **NEIGHBOURS[name]}, count=8)
    correlation = np.corrcoef(ours, theirs, rowvar=False)[:8, 8:]
    assert np.abs(correlation).max() < 5 / np.sqrt(COUNT)  # 64 values of a normal distribution with sigma 1 / sqrt(n)


def test_columns_are_unrelated():
    numbers = uniforms(2048, 5, INDEX, Purpose.AUGMENTED, 53)
    correlation = np.corrcoef(numbers, rowvar=False) - np.eye(53)
    assert np.abs(correlation).max() < 5 / np.sqrt(COUNT)
    pairs = np.histogram2d(numbers[:, 0], numbers[:, 1], bins=16, range=[[0, 1]] * 2)[0]
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-3


def test_no_stream_runs_into_another():
    """SplitMix64 has one cycle: streams that began near each other on it would share numbers."""
    assert len(np.unique(uniforms(2048, 5, INDEX, Purpose.AUGMENTED, 53))) == 53 * COUNT


def test_no_two_streams_begin_alike():
    """As many first numbers as an epoch of a small set has, of two purposes, seeds and epochs: all are different."""
    index = np.arange(50_000)
    firsts = [
        uniforms(seed, epoch, index, purpose, 1)
        for seed in (0, 1)
        for epoch in (0, 1)
        for purpose in (Purpose.ORIGINAL, Purpose.AUGMENTED)
    ]
    assert len(np.unique(firsts)) == 8 * len(index)


def test_a_seed_beyond_32_bits_is_taken_as_the_generator_takes_it():
    """Both keep the low 32 bits; configs refuse larger ones (configs/base.py)."""
    large = 2**40 + 9
    assert (uniforms(large, 1, INDEX[:9], 2, 3) == uniforms(9, 1, INDEX[:9], 2, 3)).all()
    assert generator(large, 1, 4, 2).random() == generator(9, 1, 4, 2).random()
