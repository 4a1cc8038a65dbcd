from __future__ import annotations

import threading
import time

import pytest

from mno.data.loading import prefetched


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("mno-prefetch")]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_items_come_in_their_order_and_the_thread_ends(ahead):
    assert list(prefetched(range(20), ahead)) == list(range(20))
    assert not threads()


def test_items_are_prepared_ahead_but_no_more_than_asked_for():
    begun = []

    def items():
        for n in range(10):
            begun.append(n)
            yield n

    taken = prefetched(items(), 2)
    assert begun == []
    assert next(taken) == 0
    end = time.monotonic() + 5
    while len(begun) < 4 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.05)
    assert begun == [0, 1, 2, 3]  # one handed out, two ready, one in hand
    taken.close()
    assert not threads()


def test_an_error_comes_in_its_place():
    def items():
        yield 1
        raise KeyError("broken")

    taken = prefetched(items(), 4)
    assert next(taken) == 1
    with pytest.raises(KeyError, match="broken"):
        next(taken)
    assert not threads()


def test_an_iterator_that_is_forgotten_takes_its_thread_along():
    for n in prefetched(iter(range(10**9)), 3):
        if n == 2:
            break
    assert not threads()
