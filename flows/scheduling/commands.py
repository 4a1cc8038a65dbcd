"""What the words of `mno schedule` do."""

from __future__ import annotations

import math
import time
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.table import Table

from flows.scheduling import journal
from flows.scheduling.plan import (
    Plan,
    local,
    need_plan,
    parse_interval,
    parse_timezone,
    read_plan,
)
from flows.workspace import find_workspace
from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import lock_holder

_SHOWN = 5  # runs
_POLL = 1.0  # seconds between two looks at a run that is served elsewhere


def create_schedule(
    cron: str | None, interval: str | None, timezone: str | None, max_hours: float | None
) -> dict[str, Any]:
    """Schedule the workspace's retraining; what was scheduled before is replaced.

    Returns:
        As `read_schedule`.

    Raises:
        InputError: The time cannot be read.
        MnoError: Prefect's server does not answer.
    """
    root = find_workspace()
    if (cron is None) == (interval is None):
        raise InputError(
            'expected --cron "0 3 * * *" or --interval 1h, one of them; see mno schedule --help'
        )
    if max_hours is not None and not 0.0 < max_hours < math.inf:
        raise InputError(f"--max-hours {max_hours}: expected a number of hours above 0, as 6")
    plan = Plan(
        cron=cron,
        interval=None if interval is None else parse_interval(interval),
        timezone=parse_timezone(timezone),
        max_hours=max_hours,
        since=journal.now().isoformat(),
    )
    from flows import deployments

    if cron is not None:
        deployments.check_cron(plan)
    with deployments.prefect_server(root):
        deployments.create(root, plan)
    return read_schedule()


def read_schedule() -> dict[str, Any]:
    """Return what `mno schedule list --json` prints.

    Keys: `plan` (see `flows.scheduling.plan.Plan`, or null), `next` (ISO 8601, or null), `overdue`
    (one line, or null), `serving` (who serves it, or null), `runs` (see `flows.scheduling.journal`,
    the newest last).
    """
    root = find_workspace()
    plan, runs = read_plan(root), journal.read_journal(root).runs
    if lock_holder(root / journal.RETRAIN_LOCK) is None:
        runs = [{**run, "outcome": run["outcome"] or "crashed"} for run in runs]
    return {
        "plan": plan.model_dump() if plan else None,
        "next": journal.read_journal(root).due if plan and not plan.paused else None,
        "overdue": journal.overdue(root, plan),
        "serving": journal.serving(root),
        "runs": runs,
    }


def pause_schedule(paused: bool) -> dict[str, Any]:
    """Pause or resume what is scheduled; returns as `read_schedule`.

    Raises:
        InputError: Nothing is scheduled.
    """
    root = find_workspace()
    plan = need_plan(root)
    from flows import deployments

    with deployments.prefect_server(root):
        deployments.set_paused(root, plan, paused)
    return read_schedule()


def remove_schedule() -> dict[str, Any]:
    """Schedule nothing any more; returns as `read_schedule`.

    Raises:
        InputError: Nothing is scheduled.
    """
    root = find_workspace()
    plan = need_plan(root)
    from flows import deployments

    with deployments.prefect_server(root):
        deployments.remove(root, plan)
    return read_schedule()


def run_schedule(quiet: bool) -> dict[str, Any]:
    """Do now what is done by the clock; served by `mno schedule serve` if it runs, else here.

    Returns:
        The run's entry in the journal; `outcome` is `busy` where another run is active.

    Raises:
        MnoError: The run failed.
    """
    root = find_workspace()
    plan = read_plan(root)
    from flows import deployments

    with deployments.prefect_server(root):
        if plan is not None and journal.serving(root):
            return _served_run(root, plan, quiet)
        from flows.retrain import retrain

        # Called as a function, a flow that returns a state gives what the state holds.
        found: Any = retrain(str(root), plan.max_hours if plan else None, None, quiet)
        return found


def _served_run(root: Any, plan: Plan, quiet: bool) -> dict[str, Any]:
    """Wait for a run elsewhere."""
    from flows import deployments

    serves = journal.serving(root)
    identity, name = deployments.run_now(plan)
    if not quiet:
        print(f"mno schedule serve runs it as {name}; Ctrl-C leaves it to it", flush=True)
    while not (state := _state_of(identity, name)).is_final():
        if journal.serving(root) != serves:
            raise MnoError(
                f"the mno schedule serve that ran {name} was killed; start it again, and the run "
                "is begun anew from what it had finished"
            )
        time.sleep(_POLL)
    runs = journal.read_journal(root).runs
    found = next((run for run in runs if run["id"] == str(identity)), None)
    if state.name == "Busy" or (found is None and state.is_completed()):
        return {"outcome": "busy", "said": state.message or "another run is active", "reasons": []}
    if not state.is_completed():
        raise MnoError(f"{name}: {(found or {}).get('said') or state.message or state.name}")
    return found or {}


def _state_of(run: UUID, name: str) -> Any:
    from httpx import HTTPError

    from flows import deployments

    try:
        return deployments.state_of(run)
    except HTTPError as error:
        raise MnoError(
            f"Prefect's server cannot be asked any more how {name} fares ({first_line(error)}); "
            "see mno schedule list"
        ) from None


def describe(found: dict[str, Any], console: Console) -> None:
    """Print a plan, what serves it, and what it has missed."""
    plan = Plan.model_validate(found["plan"])
    limit = f", at most {plan.max_hours:g} h" if plan.max_hours else ""
    console.print(f"Schedule:  {plan.words}{limit}{', paused' if plan.paused else ''}")
    if found["next"] and not found["overdue"]:
        console.print(f"Next run:  {local(found['next'])}")
    if found["overdue"]:
        console.print(f"Missed:    {found['overdue']}")
    serves = found["serving"]
    console.print(
        f"Served by: process {serves['pid']}, since {local(serves['since'])}; {serves['api']}"
        if serves
        else "Served by: nobody; start mno schedule serve"
    )


def describe_runs(found: dict[str, Any], console: Console) -> None:
    """Print the last runs as a table."""
    if not found["runs"]:
        return
    table = Table("Began", "Outcome", "Why, and what came of it", box=None, pad_edge=False)
    for run in found["runs"][-_SHOWN:]:
        reasons = "; ".join(run.get("reasons") or [])
        said = f"{reasons} → {run['said']}" if reasons else run["said"]
        table.add_row(local(run["began"]), run["outcome"] or "running", said)
    console.print()
    console.print(table)
