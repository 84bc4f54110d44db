"""utils.workers: order, bounds and errors of the parallel map."""

import itertools

import pytest

from utils.workers import ordered_map


def triple(number: int) -> int:
    if number == 77:
        raise ValueError("item 77 is bad")
    return 3 * number


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("count", [0, 1, 75])
def test_results_come_in_the_order_of_the_items(workers, count):
    assert list(ordered_map(triple, range(count), workers, chunk=4)) == [3 * number for number in range(count)]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_an_item_reaches_the_caller_after_the_results_before_it(workers):
    results, seen = ordered_map(triple, range(100), workers, chunk=7), []
    with pytest.raises(ValueError, match="item 77 is bad"):
        seen.extend(results)
    assert seen == [3 * number for number in range(len(seen))] and len(seen) == 77


def test_no_more_is_taken_than_the_window_holds():
    taken = itertools.count()
    results = ordered_map(triple, (next(taken) * 0 for _ in range(10_000)), 2, chunk=4)
    next(results)
    assert next(taken) <= 2 * 4 * 4 + 4
    results.close()


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(ValueError, match="workers=-1"):
        next(ordered_map(triple, [], -1))
