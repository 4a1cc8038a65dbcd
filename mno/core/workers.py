"""Processes that make calls for this one: one that hangs or is lost takes nothing along."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

LostError = BrokenProcessPool
"""What a call raises whose process was lost."""

_Result = TypeVar("_Result")
_Item = TypeVar("_Item")


class Worker:
    """A process of its own for one call at a time, begun with the first, and anew after its end.

    It ends with the process that it works for. Ctrl-C, which both hear, ends it through that alone.
    Others come first by its `niceness`, as `os.nice` takes it.
    """

    def __init__(self, niceness: int = 0) -> None:
        self._niceness = niceness
        self._pool: ProcessPoolExecutor | None = None
        self._line: Connection | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is a process, which need not be started for the next call."""
        return self._pool is not None

    def submit(self, function: Callable[..., _Result], *arguments: Any) -> Future[_Result]:
        """Have a function called; what it returns or raises, or `LostError`, comes with the future.

        It is one of a module's own, which the process imports; the arguments are pickled.
        """
        while True:
            pool = self._pool or self._started()
            try:
                with _starting():
                    return pool.submit(function, *arguments)
            except LostError:
                self.end()

    def end(self) -> None:
        """End the process, whatever it is doing; calls that it has not answered are lost."""
        pool, line, self._pool, self._line = self._pool, self._line, None, None
        if pool is None or line is None:
            return
        with suppress(OSError, EOFError):
            number = line.recv() if line.poll() else None
            for child in multiprocessing.active_children():
                if child.pid == number:
                    child.kill()
        line.close()  # which one that is still starting finds, and ends
        pool.shutdown(wait=False, cancel_futures=True)

    def _started(self) -> ProcessPoolExecutor:
        # Not forked: compiled loops that have run in threads end a forked child.
        context = multiprocessing.get_context("spawn")
        self._line, theirs = context.Pipe()
        self._pool = ProcessPoolExecutor(1, context, _begin, (theirs, self._niceness))
        return self._pool


@contextmanager
def _starting() -> Iterator[None]:
    """Start processes in the body that never hear Ctrl-C: who starts them ends them.

    Here it is heard behind the body, since a process that is told half of its task complains.
    """
    heard = list[int]()
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda *_: heard.append(1)) if is_main else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which they keep
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if is_main:
            signal.signal(signal.SIGINT, handler)
    if heard:
        signal.raise_signal(signal.SIGINT)


def keep_busy(
    begin: Callable[[], tuple[_Item, Future[Any]] | None],
    end: Callable[[_Item, Future[Any]], None],
    most: int,
) -> None:
    """Make calls, at most so many at a time, until none is running and none is to be begun.

    `begin` begins one and returns it with its future, or none where there is none for now; `end`
    takes one that has ended.
    """
    running: dict[Future[Any], _Item] = {}
    while True:
        while len(running) < most and (begun := begin()) is not None:
            item, future = begun
            running[future] = item
        if not running:
            return
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in [future for future in running if future in done]:
            end(running.pop(future), future)


def _begin(line: Connection, niceness: int) -> None:
    """Prepare the process: say its number, and end it when the other end of the line is closed."""
    os.nice(niceness)
    with suppress(OSError):  # where it has been closed already, which ends this process next
        line.send(os.getpid())
    threading.Thread(target=_end_with, args=(line,), daemon=True, name="end-with").start()


def _end_with(line: Connection) -> None:
    with suppress(OSError, EOFError):
        line.recv()
    os._exit(1)
