"""A stage ends when what started it is gone, so that two never work in one folder."""

from __future__ import annotations

import contextlib
import os
import threading
import time

import psutil

INTERVAL = 0.5  # seconds between two looks


def exit_when_orphaned(run_pid: int | None) -> None:
    """Watch the processes this one works for, from a thread; when one is gone, end at once.

    Killing `dvc` alone, or the flow alone, would otherwise leave the stage running, and the next
    run would start a second one beside it. Child processes are ended too.

    Args:
        run_pid: The process of the flow, if a flow started the stage.
    """
    watched = [_launcher()]
    if run_pid is not None:
        try:
            watched.append(psutil.Process(run_pid))
        except psutil.NoSuchProcess:
            _end()
    threading.Thread(target=_watch, args=(watched,), daemon=True, name="orphan-watch").start()


def _launcher() -> psutil.Process:
    """Return the process that ordered this one: its parent, seen through a `sh -c` between."""
    parent = psutil.Process(os.getppid())
    with contextlib.suppress(psutil.Error):
        grandparent = parent.parent()
        if "-c" in parent.cmdline()[1:2] and grandparent is not None:
            return grandparent
    return parent


def _watch(processes: list[psutil.Process]) -> None:
    while all(_alive(process) for process in processes):
        time.sleep(INTERVAL)
    _end()


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _end() -> None:
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(1)
