"""Telling: one event to all receivers at once, within a time limit, whatever becomes of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from flows.notify.event import Event
from flows.notify.receivers import append_line, post, send_mail
from flows.notify.settings import NotifyConfig
from mno.core.errors import first_line

_LONGEST = 200  # signs of a reason


def notify(settings: NotifyConfig, event: Event) -> list[str]:
    """Tell every receiver of an event; never raise, and never take longer than the time limit.

    Args:
        settings: Who is told, and of what; see `read_settings`.
        event: What happened.

    Returns:
        For each receiver that was not reached, one line that says so and why.
    """
    if settings.events is not None and event.kind not in (*settings.events, "test"):
        return []
    ways: dict[str, tuple[Callable[[Any, Event, float], None], Any]] = {
        "file": (append_line, settings.file),
        "webhook": (post, settings.webhook),
        "email": (send_mail, settings.email),
    }
    problems: dict[str, str] = {}
    threads = []
    for name in settings.receivers:
        problems[name] = f"no answer within {settings.timeout:g} s"
        tell, to = ways[name]
        arguments = (tell, to, event, settings.timeout, name, problems)
        # A daemon: a receiver that never answers must not keep the command from ending either.
        threads.append(threading.Thread(target=_tell, args=arguments, daemon=True))
        threads[-1].start()
    deadline = time.monotonic() + settings.timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [f"{name}: {problem}" for name, problem in dict(problems).items() if problem]


def _tell(
    tell: Callable[[Any, Event, float], None],
    to: Any,
    event: Event,
    timeout: float,
    name: str,
    problems: dict[str, str],
) -> None:
    try:
        tell(to, event, timeout)
        problems[name] = ""
    except Exception as error:  # whatever a receiver does, the run goes on
        problems[name] = (first_line(error) or type(error).__name__)[:_LONGEST]
