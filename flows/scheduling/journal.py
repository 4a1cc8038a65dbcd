"""What became of the runs of a plan, and whether one that was due did not begin.

It is a file in the workspace, so that `mno status` can tell without Prefect, and a run that was
killed with its server is not forgotten.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from flows.scheduling.plan import FOLDER, Plan, local, read_json, read_plan
from mno.core.files import lock_holder, locked, write_json

JOURNAL = FOLDER / "runs.json"
SERVER = FOLDER / "server.json"
SERVE_LOCK = Path("build/locks/schedule")
RETRAIN_LOCK = Path("build/locks/retrain")
_WRITING = Path("build/locks/journal")
GRACE = timedelta(minutes=2)
"""What a run may be late: Prefect looks every few seconds, and a busy machine takes longer."""
_KEPT = 100


@dataclass(frozen=True)
class Journal:
    """The last runs, the newest last.

    Attributes:
        runs: Each with `id` (of the flow run), `scheduled`, `began`, `ended` (ISO 8601), `pid`,
            `outcome` (`trained`, `updated`, `nothing changed`, `failed`, `too long`, `busy`,
            `cancelled`, `crashed`), `reasons` and `said`, in one line. While it runs, there is no
            `ended` and no `outcome`.
        due: When the plan wants a run that has not begun yet, ISO 8601; none if it never does.
    """

    runs: list[dict[str, Any]]
    due: str | None


def read_journal(root: Path) -> Journal:
    """Return what is known of a workspace's runs."""
    content = read_json(root / JOURNAL)
    runs = content.get("runs")
    return Journal(runs if isinstance(runs, list) else [], content.get("due"))


def set_due(root: Path, due: datetime | None) -> None:
    """Note when a run is wanted next."""
    with locked(root / _WRITING, "the journal of runs", patience=30.0):
        _write(root, read_journal(root).runs, due.isoformat() if due else None)


def begin(root: Path, run: dict[str, Any], due: datetime | None) -> None:
    """Note that a run began, and when the next is due."""
    started = {
        **run, "began": now().isoformat(timespec="seconds"), "ended": None, "pid": os.getpid(),
        "outcome": None, "reasons": [], "said": "",
    }  # fmt: skip
    with locked(root / _WRITING, "the journal of runs", patience=30.0):
        runs = [other for other in read_journal(root).runs if other.get("id") != run["id"]]
        _write(root, [*runs, started], due.isoformat() if due else None)


def end(root: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Note how a run ended, by its `id`; returns all that is known of it."""
    ended = {**run, "ended": now().isoformat(timespec="seconds")}
    with locked(root / _WRITING, "the journal of runs", patience=30.0):
        journal = read_journal(root)
        runs = [{**r, **ended} if r.get("id") == run["id"] else r for r in journal.runs]
        _write(root, runs, journal.due)
    return next((r for r in runs if r.get("id") == run["id"]), ended)


def end_crashed(root: Path) -> list[dict[str, Any]]:
    """Note of the runs that have not ended that they crashed; returns those.

    Call it only where none can be alive: while holding `RETRAIN_LOCK`, or where nobody does.
    """
    open_runs = [run for run in read_journal(root).runs if run.get("outcome") is None]
    said = "its process was killed; what it had finished is kept"
    return [end(root, {"id": run["id"], "outcome": "crashed", "said": said}) for run in open_runs]


def overdue(root: Path, plan: Plan | None = None) -> str | None:
    """Say, in one line, that a run was due and did not begin; none if all is as planned."""
    plan = plan or read_plan(root)
    due = read_journal(root).due
    if plan is None or plan.paused or due is None:
        return None
    if now() < datetime.fromisoformat(due) + GRACE or lock_holder(root / RETRAIN_LOCK):
        return None
    why = "mno schedule serve runs" if serving(root) else "no mno schedule serve runs"
    return f"should have run at {local(due)}, did not: {why}"


def serving(root: Path) -> dict[str, Any] | None:
    """Return what serves the plan (`pid`, `since`, `api`), or none."""
    who = lock_holder(root / SERVE_LOCK)
    if who is None:
        return None
    return {**who, **{"api": read_json(root / SERVER).get("api")}}


def now() -> datetime:
    """Return the present moment, with this machine's time zone."""
    return datetime.now().astimezone()


def _write(root: Path, runs: list[dict[str, Any]], due: str | None) -> None:
    write_json(root / JOURNAL, {"due": due, "runs": runs[-_KEPT:]})
