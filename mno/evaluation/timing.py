"""Times of repeated calls, of the surrogate's predictions above all; warm."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

from mno.surrogate.surrogate import Surrogate

LARGEST_BATCH = 256
_SECONDS_EACH, _SECONDS_A_BATCH = 0.25, 0.05
_MOST_CALLS, _FEWEST_CALLS = 200, 2
_FEWEST_TELLING = 6  # of which all lie on one side of the median in 3 % of cases
_LONG = 0.5  # seconds of a batch, beyond which no larger one is tried
_GAIN = 1.05  # throughput has to grow by that much for a larger batch to be worth trying


class Times(NamedTuple):
    """Seconds of each of several calls, shape `(calls,)`."""

    seconds: np.ndarray

    @property
    def median(self) -> float:
        """The median, in seconds."""
        return float(np.median(self.seconds))

    @property
    def p95(self) -> float:
        """What 95 % of the calls stay below, in seconds."""
        return float(np.quantile(self.seconds, 0.95))

    @property
    def interval(self) -> tuple[float, float]:
        """The interval of the median that holds it in 95 % of cases, by ranks; in seconds.

        Fewer than six calls do not tell: from half the least to twice the largest.
        """
        calls = np.sort(self.seconds)
        if len(calls) < _FEWEST_TELLING:
            return float(calls[0]) / 2, float(calls[-1]) * 2
        away = 0.98 * math.sqrt(len(calls))  # 1.96 standard deviations of a count of halves
        low, high = math.floor(len(calls) / 2 - away), math.ceil(len(calls) / 2 + away)
        return float(calls[max(low, 0)]), float(calls[min(high, len(calls) - 1)])


def seconds_of(call: Callable[[], object]) -> float:
    """Return the seconds that one call takes by the clock."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def times_of(call: Callable[[], object], budget: float = _SECONDS_EACH) -> Times:
    """Time calls one after the other, for as many seconds as the budget has.

    The first call also sets up what is used again; it counts only if it alone exceeds the budget.
    """
    first = seconds_of(call)
    if first > budget:
        return Times(np.array([first]))
    times: list[float] = []
    while len(times) < _FEWEST_CALLS or (len(times) < _MOST_CALLS and sum(times) < budget):
        times.append(seconds_of(call))
    return Times(np.array(times))


def best_throughput(surrogate: Surrogate, one: Mapping[str, np.ndarray]) -> tuple[int, float]:
    """Double the batch for as long as the throughput grows, to 256 samples at most.

    Return the best number of samples per forward pass, and samples per second with it.
    """
    best, size = (1, 0.0), 1
    while size <= LARGEST_BATCH:
        many = {name: np.repeat(array, size, axis=0) for name, array in one.items()}
        seconds = times_of(lambda m=many, n=size: surrogate.predict(m, n), _SECONDS_A_BATCH).median
        grown = size / seconds > _GAIN * best[1]
        best = max(best, (size, size / seconds), key=lambda found: found[1])
        if not grown or seconds > _LONG:
            break
        size *= 2
    return best


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch, and with it the scan, use one thread for a while, as the solvers do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
