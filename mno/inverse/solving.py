"""Runs solved side by side in processes, which import nothing but their solver."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from mno.core.errors import MnoError
from mno.core.workers import LostError, Worker

Arrays = Mapping[str, np.ndarray]


@contextmanager
def solvers(count: int) -> Iterator[Sequence[Worker]]:
    """Have so many workers, begun when they are asked; none in place of one."""
    workers = [Worker() for _ in range(count)] if count > 1 else []
    try:
        yield workers
    finally:
        for worker in workers:
            worker.end()


def solve(solver: Any, run: Arrays) -> Arrays | None:
    """Solve a run; none where the solver refuses."""
    # One thread, so that the order of summation in BLAS does not depend on how many run at once.
    with threadpool_limits(limits=1):
        try:
            return solver.solve(solver.completed(run))
        except MnoError:
            return None


def solve_all(
    solver: Any, runs: Sequence[Arrays], workers: Sequence[Worker]
) -> list[Arrays | None]:
    """Solve runs, each where one of the workers is, or in this process if there are none.

    Raises:
        MnoError: A worker was lost.
    """
    if not workers:
        return [solve(solver, run) for run in runs]
    asked = [
        workers[number % len(workers)].submit(solve, solver, run) for number, run in enumerate(runs)
    ]
    try:
        return [future.result() for future in asked]
    except LostError:
        raise MnoError(
            "a process that solved was lost, as where memory is short; ask with fewer --workers"
        ) from None
