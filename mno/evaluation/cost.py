"""What a surrogate costs to use, measured on the machine that evaluates it."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from mno.surrogate import Surrogate


_SECONDS_EACH = 0.8
_MOST_RUNS = 50


def measure_cost(
    surrogate: Surrogate,
    inputs: Mapping[str, np.ndarray],
    batch_size: int,
    solver_seconds: float | None = None,
) -> dict[str, float | int]:
    """Measure latency, throughput and memory; takes about two seconds, or two predictions.

    Args:
        surrogate: The trained operator.
        inputs: Input fields of at least one sample, shape `(samples, *dims)`, by name.
        batch_size: Samples per forward pass for the throughput.
        solver_seconds: The scenario's own time per solve on this machine, in seconds, where known.

    Returns:
        What `reports/cost.json` holds: number of parameters, latency of one sample in milliseconds
        (median), throughput in samples per second, peak memory of the process in MiB, threads,
        and with `solver_seconds` the solver's time in milliseconds and how many times faster one
        prediction is.
    """
    one = {name: array[:1] for name, array in inputs.items()}
    many = {
        name: np.resize(array, (batch_size, *array.shape[1:])) for name, array in inputs.items()
    }
    latency = _median_seconds(lambda: surrogate.predict(one, 1))
    whole_batch = _median_seconds(lambda: surrogate.predict(many, batch_size))
    cost: dict[str, float | int] = {
        "parameters": surrogate.num_parameters,
        "latency_ms": 1e3 * latency,
        "throughput_per_s": batch_size / whole_batch,
        "batch_size": batch_size,
        "peak_memory_mib": _peak_memory_mib(),
        "threads": torch.get_num_threads(),
    }
    if solver_seconds is not None:
        cost |= {"solver_ms": 1e3 * solver_seconds, "speedup": solver_seconds / latency}
    return cost


def _median_seconds(call: Callable[[], object]) -> float:
    first = _seconds(call)  # it also pays for what is set up once, so it counts only if it must
    if first > _SECONDS_EACH:
        return first
    times: list[float] = []
    while len(times) < _MOST_RUNS and sum(times) < _SECONDS_EACH:
        times.append(_seconds(call))
    return statistics.median(times)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _peak_memory_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB on Linux
