"""Timing functions in turn, so that a busy moment of the machine meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from threadpoolctl import threadpool_limits

Times = dict[str, list[float]]
"""Seconds of each round, by name of the function."""


def use_threads(count: int) -> None:
    """Let every library of this process use that many threads."""
    threadpool_limits(count)
    torch.set_num_threads(count)


def in_turn(
    functions: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = 1,
    pause: float = 0.0,
    settle: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Call every function once in each round and time it.

    Args:
        functions: What to time, by name.
        rounds: Timed calls of each.
        warm_up: Rounds before, untimed.
        pause: Seconds to wait before each call, so that no thread of the one before is still
            spinning in wait for more work.
        settle: Seconds for which a function is called untimed, at least once, right before each
            timed call, if not 0: for what a repeated call takes, when caches and threads have
            recovered from the other functions.
        clock: By which they are timed: `time.process_time` where each takes seconds on one thread,
            so that the machine may be busy.
    """
    times: Times = {name: [] for name in functions}
    for i in range(warm_up + rounds):
        for name, function in functions.items():
            time.sleep(pause)
            _settle(function, settle)
            seconds = _seconds(function, clock)
            if i >= warm_up:
                times[name].append(seconds)
    return times


def median_ms(times: Times, name: str) -> float:
    """Return a function's median time in milliseconds."""
    return statistics.median(times[name]) * 1e3


def median_ratio(times: Times, slow: str, fast: str) -> float:
    """Return how many times longer one function takes: the median over rounds of the ratio."""
    return statistics.median(a / b for a, b in zip(times[slow], times[fast], strict=True))


def _settle(function: Callable[[], object], seconds: float) -> None:
    end = time.perf_counter() + seconds
    while seconds and time.perf_counter() < end:
        function()


def _seconds(function: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    function()
    return clock() - start
