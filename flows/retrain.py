"""Retraining as a Prefect flow: the line is run if there is a reason to, else nothing is."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import deployment, flow_run
from prefect.states import Completed

from flows.options import RunOptions
from flows.params import Params, get_param, load_params
from flows.run import run_line
from flows.scheduling import journal
from flows.scheduling.dates import next_dates
from flows.scheduling.drift import drift, served
from flows.scheduling.limit import TooLongError, at_most
from flows.scheduling.plan import local, read_plan
from flows.scheduling.reasons import Reason, look
from flows.scheduling.start import start_of
from flows.scheduling.telling import tell_of_drift, tell_of_failure
from flows.scheduling.tidying import tidy_up
from flows.unfinished import set_crashed, set_silent_crashed
from flows.workspace import RUN_LOCK, find_workspace, prepare_environment
from mno.core.config import read_params
from mno.core.errors import first_line
from mno.core.files import LockedError, lock_holder, locked

ARTIFACT = "retrain"


@flow(name="retrain", validate_parameters=False)
def retrain(
    root: str | None = None,
    max_hours: float | None = None,
    missed: str | None = None,
    quiet: bool = True,
) -> State[dict[str, Any]]:
    """Look for reasons to retrain; bring the line up to date if there are any.

    Args:
        root: The workspace; the one around the working folder if not given.
        max_hours: A run that takes longer is stopped, and has failed.
        missed: When it should have run, if this run makes up for one that did not.
        quiet: Print nothing but failures.

    Returns:
        The entry of the journal (see `flows.scheduling.journal`): completed, under the name
        `Nothing changed` where there was nothing to do, and `Busy` where another run is active.

    Raises:
        MnoError: The line failed, or took too long.
    """
    workspace = find_workspace(Path(root) if root else None)
    os.chdir(workspace)
    prepare_environment(workspace)
    log = get_run_logger()
    try:
        with locked(workspace / journal.RETRAIN_LOCK, "a retraining"):
            if busy := lock_holder(workspace / RUN_LOCK):
                said = (
                    f"{busy['activity']} is already running, process {busy['pid']}, since "
                    f"{busy['since']}: this one ends"
                )
                return Completed(name="Busy", message=said, data={"outcome": "busy", "said": said})
            with _journalled(workspace, missed) as run, at_most(max_hours):
                _retrain(workspace, run, quiet)
    except LockedError as error:
        said = f"{error}; this one ends"
        log.warning(said)
        return Completed(name="Busy", message=said, data={"outcome": "busy", "said": said})
    log.info(run["said"])
    name = "Nothing changed" if run["outcome"] == "nothing changed" else "Retrained"
    return Completed(name=name, message=run["said"], data=run)


@contextmanager
def _journalled(root: Path, missed: str | None) -> Iterator[dict[str, Any]]:
    """Keep in the journal, and on the run's page, what becomes of a run; tell of failures."""
    warn = get_run_logger().warning
    for crashed in journal.end_crashed(root):
        tell_of_failure(root, crashed, warn)
        set_crashed(crashed["id"], crashed["said"], warn)
    set_silent_crashed(deployment.get_id(), flow_run.get_id(), warn)
    run: dict[str, Any] = {"id": str(flow_run.get_id() or uuid4()), "missed": missed}
    scheduled = flow_run.get_scheduled_start_time() or journal.now()
    moment = max(scheduled.astimezone(), journal.now())
    plan = read_plan(root)
    due = next(iter(next_dates(plan, moment)), None) if plan and not plan.paused else None
    journal.begin(root, {**run, "scheduled": scheduled.astimezone().isoformat()}, due)
    run |= {"outcome": "failed", "reasons": [], "said": ""}
    try:
        yield run
    except BaseException as error:
        run["outcome"] = _outcome(error)
        run["said"] = first_line(error) or type(error).__name__
        raise
    finally:
        whole = journal.end(root, run)
        if run["outcome"] in ("failed", "too long"):
            tell_of_failure(root, whole, warn)
        if run["outcome"] != "cancelled":
            with contextlib.suppress(httpx.HTTPError):  # the server is gone; the journal has it all
                create_markdown_artifact(_page(run), ARTIFACT, run["said"])


def _outcome(error: BaseException) -> str:
    """Return what a run has come to that ended with an error."""
    match error:
        case TooLongError():
            return "too long"
        case LockedError():  # a run began by hand, between the look and this one's begin
            return "busy"
        case Exception():
            return "failed"
        case _:  # Ctrl-C, a plain kill, or a person on Prefect's page
            return "cancelled"


def _retrain(root: Path, run: dict[str, Any], quiet: bool) -> None:
    """Look, and run the line if there is a reason; fill in `outcome`, `reasons` and `said`."""
    params = load_params(root)
    model = f"mno-{params.dataset_name}"
    findings = look(root)
    drifted = drift(root, model, params.schedule.drift)
    reasons = [*findings.reasons, *([drifted] if drifted else [])]
    run["reasons"] = [str(reason) for reason in reasons]
    if not reasons:
        run |= {"outcome": "nothing changed", "said": "nothing changed: the model is up to date"}
        return
    edits, start = _edits(root, params, findings.trains, drifted)
    log = get_run_logger()
    log.info("reasons: %s", "; ".join(run["reasons"]))
    if drifted:
        run["served"] = served(root, model)
    if drifted and not findings.reasons and not edits:
        run["outcome"] = "nothing changed"
        run["said"] = (
            f"{drifted}; but the data and parameters are those of the model, so that training "
            "would make it again: import new data, or set schedule.drift.set or schedule.start"
        )
        tell_of_drift(root, run, log.warning)
        return
    result = run_line(RunOptions(None, None, edits, quiet))
    renewed = [stage["target"] for stage in result["stages"] if stage["action"] != "reused"]
    registered = result["registered"] or {}
    run |= {
        "outcome": "trained" if "train" in renewed else "updated",
        "start": start if "train" in renewed else None,
        "model": f"models:/{registered.get('name')}/{registered.get('version')}",
        "alias": registered.get("alias"),
        "stages": renewed,
        "relative_l2": (result["metrics"] or {}).get("relative_l2"),
        "seconds": result["seconds"],
    }
    run["said"] = (
        f"brought up to date: {', '.join(renewed) or 'nothing'}; {run['model']} "
        f"({run['alias'] or 'no alias'})"
    )
    if params.schedule.tidy:
        run["tidied"] = tidy_up()
        run["said"] += f"; {run['tidied']}"


def _edits(
    root: Path, params: Params, trains: bool, drifted: Reason | None
) -> tuple[list[str], str]:
    """Return the edits of the parameters that this run makes, and what training starts from."""
    present = read_params(root)
    wanted = params.schedule.drift.set if drifted else {}
    edits = [
        f"{key}={json.dumps(value)}"
        for key, value in wanted.items()
        if get_param(present, key) != value
    ]
    if not (trains or drifted):
        return edits, ""
    start, words = start_of(root, params)
    return [*edits, *start], words


def _page(run: dict[str, Any]) -> str:
    """Return what the run's page in Prefect shows."""
    lines = [f"# {run['outcome'].capitalize()}", run["said"]]
    if run["missed"]:
        lines.append(f"It makes up for the run of {local(run['missed'])}, which did not begin.")
    if run["reasons"]:
        lines += ["## Why", *(f"- {reason}" for reason in run["reasons"])]
    if run.get("start"):
        lines.append(f"Training started {run['start']}.")
    if run.get("relative_l2") is not None:
        lines.append(f"Test error (relative L2): {run['relative_l2']:.2%}.")
    return "\n\n".join(lines)
