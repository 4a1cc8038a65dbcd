"""Cells of a study, made in processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

import torch

Job = TypeVar("Job", bound=tuple[Any, ...])
Result = TypeVar("Result")


def made(
    make: Callable[..., Result], jobs: Sequence[Job], workers: int | None = None
) -> Iterator[tuple[str, Job, Result]]:
    """Call `make` with the arguments of each job, and yield how far all are, the job, its result.

    So many are made at a time, or as many as there are cores; they come as they are done.
    """
    start = time.monotonic()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers or os.cpu_count(), spawn, torch.set_num_threads, (1,)) as pool:
        running = {pool.submit(make, *job): job for job in jobs}
        for i, future in enumerate(as_completed(running), start=1):
            result = future.result()
            left = (time.monotonic() - start) / 60 * (len(jobs) / i - 1)
            yield f"[{i}/{len(jobs)}, {left:.0f} min left]", running[future], result
