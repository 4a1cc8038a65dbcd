"""The processes of a search: what is given to which, and what comes back from any of them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from flows.tuning.worker import serve
from mno.study.tuning.training import Job, Outcome


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    job: Job | None = None


class Pool:
    """Processes that train, each with the data in its memory; made by `open_pool`.

    Args:
        data: The dataset.
        workers: How many.
    """

    def __init__(self, data: Path, workers: int) -> None:
        # Not forked: compiled loops that have run in threads end a forked child.
        self._context = multiprocessing.get_context("spawn")
        self._data = data
        self._workers = [self._start() for _ in range(workers)]

    @property
    def free(self) -> int:
        """How many have nothing to do."""
        return sum(worker.job is None for worker in self._workers)

    @property
    def busy(self) -> int:
        """How many are training."""
        return len(self._workers) - self.free

    def give(self, job: Job) -> None:
        """Give a training to one that is free."""
        worker = next(w for w in self._workers if w.job is None)
        worker.job = job
        # Where it has died `next_outcome` finds that out.
        with suppress(BrokenPipeError, ConnectionResetError):
            worker.connection.send(job)

    def next_outcome(
        self, on_epoch: Callable[[Job, int, float], bool]
    ) -> tuple[Job, Outcome | None]:
        """Wait until a training has ended.

        Args:
            on_epoch: Told of every epoch meanwhile and its error; says whether to go on.

        Returns:
            The training, and what came of it; none where its process has died.
        """
        while True:
            training = [(w, w.job) for w in self._workers if w.job is not None]
            ready = wait([worker.connection for worker, _ in training])
            for worker, job in training:
                if worker.connection not in ready:
                    continue
                try:
                    said = worker.connection.recv()
                    if isinstance(said, Outcome):
                        worker.job = None
                        return job, said
                    worker.connection.send(on_epoch(job, said[1], said[2]))
                except (EOFError, BrokenPipeError, ConnectionResetError):
                    self._replace(worker)
                    return job, None

    def close(self) -> None:
        """End all processes; what they were training goes on after its last whole epoch."""
        for worker in self._workers:
            worker.connection.close()
            worker.process.kill()
            worker.process.join()

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=serve, args=(theirs, str(self._data)), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _replace(self, worker: _Worker) -> None:
        worker.connection.close()
        worker.process.kill()
        worker.process.join()
        self._workers[self._workers.index(worker)] = self._start()


@contextmanager
def open_pool(data: Path, workers: int) -> Iterator[Pool]:
    """Start processes for a search, and end them with the body, however it ends."""
    pool = Pool(data, workers)
    try:
        yield pool
    finally:
        pool.close()
