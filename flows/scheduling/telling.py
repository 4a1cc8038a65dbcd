"""What people are told of scheduled runs, by the receivers of `notify.yaml`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.notify import Event
from flows.scheduling.plan import local
from flows.telling import tell


def tell_of_failure(root: Path, run: dict[str, Any], say: Callable[[str], None]) -> None:
    """Tell of a run that failed, took too long or crashed.

    Args:
        root: The workspace.
        run: Its entry in the journal.
        say: Is handed a line for each receiver that was not reached.
    """
    title, command = f"Scheduled retraining: {run['outcome']}", "mno schedule run"
    _tell(root, Event("failure", title, run["said"], command, _figures(run), str(root)), say)


def tell_of_drift(root: Path, run: dict[str, Any], say: Callable[[str], None]) -> None:
    """Tell of inputs unlike the training data, where a run had nothing to train on instead."""
    title, command = "The inputs have drifted", "mno import --help"
    _tell(root, Event("failure", title, run["said"], command, _figures(run), str(root)), say)


def tell_of_missed(root: Path, due: str, say: Callable[[str], None]) -> None:
    """Tell of a run that did not begin when it should have, and is made up for now."""
    text = f"The run of {local(due)} did not begin; it is made up for now."
    event = Event("missed", "A scheduled run was missed", text, "mno schedule list")
    _tell(root, event, say)


def _figures(run: dict[str, Any]) -> dict[str, Any]:
    return {"began": run.get("began"), "reasons": "; ".join(run.get("reasons") or [])}


def _tell(root: Path, event: Event, say: Callable[[str], None]) -> None:
    for problem in tell(root, event):
        say(f"could not tell of it: {problem}")
