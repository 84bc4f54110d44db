import threading

import pytest

from utils.read_ahead import read_ahead


def test_results_are_in_order_and_no_more_is_taken_than_allowed():
    taken, given = [], 0

    def items():
        for number in range(50):
            taken.append(number)
            assert len(taken) - given <= 6
            yield number

    for given, result in enumerate(read_ahead(lambda x: x * x, items(), threads=3, ahead=5)):
        assert result == given**2
    assert given == 49


def test_what_a_function_raises_comes_out_and_ends_the_threads():
    def fail(number):
        if number == 7:
            raise ValueError("seven")
        return number

    before = threading.active_count()
    results = read_ahead(fail, iter(range(10**9)), threads=2)
    with pytest.raises(ValueError, match="seven"):
        for _ in results:
            pass
    assert threading.active_count() == before


def test_who_stops_taking_ends_the_threads():
    before = threading.active_count()
    results = read_ahead(abs, iter(int, 1), threads=2)
    next(results)
    results.close()
    assert threading.active_count() == before
