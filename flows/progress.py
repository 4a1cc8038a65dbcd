"""A progress bar for commands: from two seconds on, and only where a person watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

QUIET_SECONDS = 2.0


@contextmanager
def progress_bar(quiet: bool, unit: str = "samples") -> Iterator[Callable[[str, int, int], None]]:
    """Yield what draws how far something is: what is being done, how much is done, of how much.

    Args:
        quiet: Draw nothing.
        unit: What is counted.
    """
    console = Console(stderr=True, quiet=quiet)
    begun = time.monotonic()
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
        TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    tasks: dict[str, TaskID] = {}

    def show(what: str, done: int, total: int) -> None:
        if time.monotonic() - begun > QUIET_SECONDS:
            bar.start()
        if what not in tasks:
            for other in tasks.values():
                bar.update(other, visible=False)
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done, total=total)

    try:
        yield show
    finally:
        bar.stop()
