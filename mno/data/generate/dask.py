"""Dask: a cluster on this machine or a given one, and tasks that outlive their workers."""

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dask.config
from distributed import Client, LocalCluster, as_completed
from distributed.client import Future
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker
from distributed.system import MEMORY_LIMIT
from distributed.utils import silence_logging_cmgr

from mno.core.errors import MnoError, first_line
from mno.data.config import ExecutionConfig

Refusals = Mapping[str, str]  # why a worker does not take part, by its address

_LOG_LEVEL = logging.CRITICAL  # what matters becomes an exception
_CONNECT_SECONDS = 5
_WORKER_SECONDS = 30
# A worker over its share is killed and, unless it happens again and again, replaced. Spilling and
# pausing are for clusters that keep results in memory; here they could only stall a task.
_LOCAL = {
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
}


@contextmanager
def connect(execution: ExecutionConfig, num_tasks: int, scratch: Path) -> Iterator[Client]:
    """Yield a client of the given scheduler, or of worker processes started for the purpose.

    No more workers than tasks are started; their temporary files are in the folder `scratch`. An
    `MnoError` says that the scheduler does not answer, or has no workers.
    """
    if execution.scheduler is not None:
        with silence_logging_cmgr(_LOG_LEVEL), _remote(execution.scheduler) as client:
            yield client
        return
    workers = min(execution.workers, num_tasks)
    with (
        dask.config.set(_LOCAL),
        _start_workers(workers, scratch) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _start_workers(workers: int, scratch: Path) -> LocalCluster:
    """Start worker processes; a worker that is killed while it starts is worth a second try."""
    reason = ""
    for _ in range(2):
        try:
            return LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",  # any port, also of the bare server that stays
                scheduler_kwargs={"dashboard": False},
                memory_limit=MEMORY_LIMIT // workers,
                local_directory=str(scratch),
                silence_logs=_LOG_LEVEL,
            )
        except RuntimeError as error:
            reason = first_line(error)
    raise MnoError(f"the {workers} workers do not start ({reason}); try execution.workers=1")


@contextmanager
def _remote(address: str) -> Iterator[Client]:
    given = f"execution.scheduler={address}"
    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise MnoError(
            f"{given} does not answer ({first_line(error)}); start it, correct the address, or "
            "remove it to use processes of this machine"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=_WORKER_SECONDS)
        except TimeoutError:
            start = f'"dask worker {address}"'
            raise MnoError(f"{given} has no workers; start some with {start}") from None
        yield client


def run_tasks(client: Client, root: str, probe: bytes, tasks: Mapping[int, bytes]) -> Iterator[int]:
    """Run tasks wherever there is room; yield the number of each as it finishes.

    A task whose worker dies is run again on another, up to three times; the first that fails ends
    the run. Tasks are pickled callables that return why a worker must not take part, or `None`, as
    the `probe` does, and then do their work. Workers import the project from the folder `root`.
    """
    call = _by_value()
    futures: dict[Future, int] = {}
    try:
        answers: dict[str, Refusals] = client.run(call, root, probe)  # type: ignore[assignment]
        _require_accepted({w: why for answer in answers.values() for w, why in answer.items()})
        futures |= {client.submit(call, root, task, pure=False): n for n, task in tasks.items()}
        for future in as_completed(list(futures), loop=client.loop):
            number = futures.pop(future)
            try:
                _require_accepted(future.result())
            except KilledWorker as error:
                raise MnoError(
                    f"shard {number} was given up: {error.allowed_failures + 1} workers died while "
                    "they made it, most often for lack of memory; lower generate.shard_size or "
                    "execution.workers"
                ) from None
            # Forgotten at once: Dask makes a finished task again when the worker that holds its
            # answer dies.
            future.release()
            yield number
    except (CancelledError, CommClosedError) as error:
        raise MnoError(
            f"the Dask scheduler was lost ({first_line(error)}); start it and run again "
            "(finished shards are kept)"
        ) from None
    finally:
        with suppress(CommClosedError):
            client.cancel(list(futures))


def _require_accepted(refusals: Refusals) -> None:
    if refusals:
        reason = next(iter(refusals.values()))
        raise MnoError(f"worker {', '.join(sorted(refusals))} {reason}")


def _by_value() -> Callable[..., Refusals]:
    """Return the function that runs on workers.

    It is defined inside another so that it travels as code, not as a name: a worker needs neither
    the project installed nor its root as working directory.
    """

    def call(root: str, pickled: bytes, dask_worker: Any = None) -> dict[str, str]:
        import pickle
        import sys

        from distributed import get_worker

        if root not in sys.path:
            sys.path.insert(0, root)
        try:
            task = pickle.loads(pickled)
        except (ImportError, AttributeError) as error:
            reason = f"cannot import what it needs from {root} ({error})"
        else:
            reason = task()
        return {(dask_worker or get_worker()).address: reason} if reason else {}

    return call
