"""The same function over many items in threads, ahead of whoever takes the results."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int | None = None
) -> Iterator[Result]:
    """`map(function, items)` by threads; what `function` raises comes out here. For functions that let go of the
    interpreter's lock, as decoding and warping do.

    Args:
        items: taken as they are needed.
        threads: at least 1.
        ahead: items at most that are under way or wait to be taken; default: one more than threads.
    """
    ahead, items = ahead or threads + 1, iter(items)
    under_way: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            while True:
                for item in itertools.islice(items, ahead - len(under_way)):
                    under_way.append(pool.submit(function, item))
                if not under_way:
                    return
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
