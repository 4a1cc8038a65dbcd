"""Keeps account of how long a running stage works, so that no kill loses more than a moment."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from mno.core.times import Seconds, earlier_attempts, is_recorded, write_attempt, write_finished
from pipelines import BEGUN

INTERVAL = 2.0  # seconds between two records: what a kill may lose


@contextlib.contextmanager
def recorded(root: Path, stage: str, key: str) -> Iterator[None]:
    """Record how long the body works, again and again, and at its end as finished.

    Times are those of this process since it began. What the body raises leaves the record
    unfinished: the next attempt with the same key adds to it. Where nothing can be written (a full
    disk) there is no record; that stops no work.

    Args:
        root: The workspace.
        stage: The stage's name; those of which no times are kept just run.
        key: Digest of the stage's inputs.
    """
    if not is_recorded(stage):
        yield
        return
    before = earlier_attempts(root, stage, key)
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(INTERVAL):
            with contextlib.suppress(OSError):
                write_attempt(root, stage, key, before, taken_so_far())

    keeper = threading.Thread(target=keep, daemon=True, name="times")
    keeper.start()
    try:
        yield
    except BaseException:
        _end(keeper, ended)
        with contextlib.suppress(OSError):
            write_attempt(root, stage, key, before, taken_so_far())
        raise
    _end(keeper, ended)
    taken = taken_so_far()
    with contextlib.suppress(OSError):
        write_finished(root, stage, key, before + taken if before else taken)


def _end(keeper: threading.Thread, ended: threading.Event) -> None:
    ended.set()
    keeper.join()


def taken_so_far() -> Seconds:
    """Return what this process and its children have taken since it began."""
    process = psutil.Process()
    used = process.cpu_times()  # with those of children that have ended
    cpu = used.user + used.system + used.children_user + used.children_system
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            now = child.cpu_times()
            cpu += now.user + now.system + now.children_user + now.children_system
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Seconds(time.monotonic() - BEGUN, cpu, 1, cores or 1)
