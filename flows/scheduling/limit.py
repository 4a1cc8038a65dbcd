"""A limit on how long a run may take: the run is stopped as Ctrl-C would stop it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mno.core.errors import MnoError

_SIGNAL = signal.SIGUSR1


class _Stopped(BaseException):
    """Raised where the run is, past all that catches ordinary errors and gives them other names."""


class TooLongError(MnoError):
    """A run took longer than it may."""


@contextmanager
def at_most(hours: float | None) -> Iterator[None]:
    """Raise an error in the body once it has taken too long; in the main thread only.

    A stage at work is stopped with all of its processes by whoever started it, as the error passes.

    Args:
        hours: How long it may take; none: any time.

    Raises:
        TooLongError: It took longer.
    """
    if hours is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    fired = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        fired.set()
        raise _Stopped

    before = signal.signal(_SIGNAL, stop)
    timer = threading.Timer(
        hours * 3600.0, signal.pthread_kill, (threading.main_thread().ident, _SIGNAL)
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    except BaseException as error:
        if not fired.is_set():
            raise
        raise TooLongError(
            f"stopped after {hours:g} h (--max-hours); what is finished is kept, and the next run "
            "continues"
        ) from error
    finally:
        timer.cancel()
        signal.signal(_SIGNAL, before)
