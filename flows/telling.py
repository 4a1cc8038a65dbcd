"""Telling of what happens on the line whoever `notify.yaml` names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.notify import KINDS, SETTINGS_FILE, Event, notify, read_settings
from flows.workspace import find_workspace
from mno.core.errors import InputError

_HOW = (
    f"Write there, for example, `file: build/told.jsonl` ({SETTINGS_FILE}, in the workspace); all "
    "of it: docs/how-to/be-told.md"
)


def tell(root: Path, event: Event) -> list[str]:
    """Tell of an event; what goes wrong with that is returned in lines and breaks nothing.

    Args:
        root: The workspace, with its `notify.yaml`.
        event: What happened.
    """
    try:
        return notify(read_settings(root), event)
    except InputError as error:
        return [str(error)]


def failure_event(root: Path, reason: str) -> Event:
    """Return what somebody is told of a run that failed.

    Args:
        root: The workspace.
        reason: One line.
    """
    stage, colon, _ = reason.partition(": ")
    title = f"The run failed at {stage}" if colon and " " not in stage else "The run failed"
    return Event("failure", title, reason, "mno status   then: mno run", {}, str(root))


def receivers() -> dict[str, Any]:
    """Return what `mno notify --json` prints: `receivers`, `events`, `problems`, `lines`.

    Raises:
        InputError: `notify.yaml` cannot be used.
    """
    settings = read_settings(find_workspace())
    events = list(settings.events or (kind for kind in KINDS if kind != "test"))
    if settings.receivers:
        lines = [
            f"Told: {', '.join(settings.receivers)}; of: {', '.join(events)}.",
            "Next: mno notify --test",
        ]
    else:
        lines = [f"Nobody is told: there is no receiver in {SETTINGS_FILE}.", _HOW]
    names = list(settings.receivers)
    return {"receivers": names, "events": events, "problems": [], "lines": lines}


def try_receivers() -> dict[str, Any]:
    """Tell everybody something, and return who was not reached as `problems`.

    Raises:
        InputError: `notify.yaml` cannot be used, or names nobody.
    """
    root = find_workspace()
    settings = read_settings(root)
    if not settings.receivers:
        raise InputError(f"nobody can be told: {root / SETTINGS_FILE} names no receiver. {_HOW}")
    event = Event(
        "test", "A test", "If you can read this, you will be told.", "mno status", {}, str(root)
    )
    problems = notify(settings, event)
    missed = {problem.partition(":")[0] for problem in problems}
    told = [name for name in settings.receivers if name not in missed]
    lines = [f"Told: {', '.join(told)}."] if told else []
    return {**receivers(), "receivers": told, "problems": problems, "lines": lines}
