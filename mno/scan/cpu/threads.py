"""A small pool of threads that shares out the tasks of a kernel.

The number of threads is torch's. Tasks are claimed one by one, the calling thread claiming along,
and write to places of their own, so that results do not depend on who ran what.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

_MOST_THREADS = 1024
_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    """Start anew in a forked child, which has none of its parent's threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _started_pool() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        # Threads are started as they are needed.
        _pool = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="mno-scan")
    return _pool


def share(tasks: int, threads: int, work: Callable[[Iterator[int]], None]) -> None:
    """Run `work` in up to `threads` threads; it claims its tasks from the iterator it is given."""
    claims = iter(range(tasks))
    helpers = []
    try:
        for _ in range(min(threads, tasks) - 1):
            helpers.append(_started_pool().submit(work, claims))
    except RuntimeError:
        pass  # No thread can be started (any more): those there are do the work.
    try:
        work(claims)
    finally:
        # A helper that has not begun by now is not needed; the others are at their last task.
        running = [helper for helper in helpers if not helper.cancel()]
        failures = [helper.exception() for helper in running]
    for failure in failures:
        if failure is not None:
            raise failure
