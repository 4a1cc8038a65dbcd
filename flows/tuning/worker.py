"""A process that trains for a search, one training after the other."""

from __future__ import annotations

import signal
from multiprocessing.connection import Connection
from pathlib import Path

from pipelines.watch import exit_when_orphaned


def serve(connection: Connection, data: str) -> None:
    """Make what is asked for through a connection until it is closed.

    Each epoch is told, `("epoch", number, error)`, and answered with whether to go on; at the end
    comes the `mno.study.tuning.training.Outcome`.

    Args:
        connection: To the process that runs the search.
        data: The dataset.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the other ends this one
    exit_when_orphaned(None)
    # Imported here: torch takes seconds, in which several workers start at once.
    from mno.core.memory import keep_freed_memory
    from mno.study.tuning.training import run_training, search_splits

    keep_freed_memory()

    def goes_on(epoch: int, error: float) -> bool:
        connection.send(("epoch", epoch, error))
        return connection.recv()

    try:
        splits = search_splits(Path(data))
        while True:
            job = connection.recv()
            connection.send(run_training(job, splits, goes_on))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the search has ended
