"""One holder per folder: an advisory lock that ends with its process, whatever ends the process."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from mno.core.errors import MnoError


class LockedError(MnoError):
    """Another live process holds the lock; its message says which, since when."""


@contextmanager
def hold(path: Path, activity: str, patience: float = 1.0) -> Iterator[None]:
    """Hold an exclusive lock on a file while the body runs.

    The kernel releases the lock when the holder dies, so a killed run never blocks the next.

    Args:
        path: The lock file; it holds who has it and since when.
        activity: What the holder does, for the message of whoever finds it taken.
        patience: Seconds to wait for a holder to end; a look by `holder` takes a moment.

    Raises:
        LockedError: It is still held after that time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        _acquire(file.fileno(), path, patience)
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        file.truncate(0)
        json.dump({"activity": activity, "pid": os.getpid(), "since": since}, file)
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def holder(path: Path) -> dict[str, str | int] | None:
    """Return who holds a lock (`activity`, `pid`, `since`), or None if it is free."""
    try:
        with path.open("r+", encoding="utf-8") as file:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return _read(path)
    except FileNotFoundError:
        pass
    return None


def _acquire(descriptor: int, path: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            who = _read(path)
            raise LockedError(
                f"{who['activity']} is already running in this folder: process {who['pid']}, "
                f"since {who['since']}; wait for it, or stop it with: kill {who['pid']}"
            ) from None


def _read(path: Path) -> dict[str, str | int]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # between taking the lock and writing who holds it
        return {"activity": "another run", "pid": "unknown", "since": "just now"}
