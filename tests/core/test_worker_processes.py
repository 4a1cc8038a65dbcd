"""Processes that make calls: what they answer, and what is left where one is lost or hangs."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import psutil
import pytest

from mno.core.workers import LostError, Worker, keep_busy

PATIENCE = 120.0


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.end()


def test_what_a_call_returns_or_raises_comes_back_from_one_other_process(worker: Worker) -> None:
    first, second = (worker.submit(os.getpid).result(PATIENCE) for _ in range(2))
    assert first == second != os.getpid()
    with pytest.raises(ValueError, match="math domain error"):
        worker.submit(math.sqrt, -1.0).result(PATIENCE)


def test_a_process_that_was_lost_is_replaced_by_the_next_call(worker: Worker) -> None:
    with pytest.raises(LostError):
        worker.submit(os._exit, 1).result(PATIENCE)
    assert worker.submit(math.sqrt, 4.0).result(PATIENCE) == 2.0


def test_a_call_that_hangs_is_ended_with_its_process(worker: Worker) -> None:
    pid = worker.submit(os.getpid).result(PATIENCE)
    hanging = worker.submit(time.sleep, 1e6)
    assert worker.is_running
    worker.end()
    with pytest.raises(LostError):
        hanging.result(PATIENCE)
    assert not worker.is_running
    with pytest.raises(psutil.NoSuchProcess):
        psutil.Process(pid).wait(PATIENCE)
        psutil.Process(pid)


def test_so_many_calls_are_made_at_a_time_until_there_is_none_left() -> None:
    waiting, at_work, most, ended = list(range(7)), set[int](), [], []

    def begin() -> tuple[int, Future[int]] | None:
        if not waiting:
            return None
        item, future = waiting.pop(0), Future()
        at_work.add(item)
        most.append(len(at_work))
        threading.Timer(0.01, future.set_result, (item,)).start()
        return item, future

    def end(item: int, future: Future[int]) -> None:
        at_work.remove(item)
        ended.append(future.result())

    keep_busy(begin, end, 3)
    assert sorted(ended) == list(range(7))
    assert max(most) == 3 and not at_work
