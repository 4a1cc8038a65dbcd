"""The plan of a workspace as a deployment on its Prefect server: one for each workspace."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from flows.scheduling.dates import next_dates, prefect_schedule
from flows.scheduling.journal import now, serving, set_due
from flows.scheduling.plan import PLAN, Plan, write_plan
from flows.server import start_temporary_server
from flows.workspace import prepare_environment
from mno.core.errors import InputError, MnoError, first_line

FLOW = "retrain"
_SLUG = "clock"


@contextmanager
def prefect_server(root: Path) -> Iterator[None]:
    """Have a Prefect server: the user's, that of `mno schedule serve`, or a temporary one.

    Raises:
        MnoError: It does not answer.
    """
    serves = serving(root)
    if "PREFECT_API_URL" not in os.environ and serves and serves["api"]:
        os.environ["PREFECT_API_URL"] = serves["api"]
    prepare_environment(root)
    start_temporary_server()
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        yield
    except PrefectHTTPStatusError as error:
        raise MnoError(f"Prefect's server refuses: {first_line(error)}") from None
    except httpx.TransportError as error:
        raise MnoError(
            f"Prefect's server does not answer ({first_line(error)}); is it running? "
            "PREFECT_API_URL says where it is"
        ) from None


def deployment_name(root: Path) -> str:
    """Return the name of a workspace's deployment, which differs for two folders of one name."""
    digest = hashlib.sha256(str(root).encode()).hexdigest()[:6]
    return f"{root.name.replace('/', '-').replace('%', '-')}-{digest}"


def deployment_of(root: Path, plan: Plan) -> Any:
    """Return the deployment, as Prefect is given it; its runs are made by whoever serves it.

    It says nothing of pauses, so that to give it anew leaves a paused one paused.
    """
    from prefect.client.schemas.actions import DeploymentScheduleCreate

    from flows.retrain import retrain

    clock = DeploymentScheduleCreate(schedule=prefect_schedule(plan), active=True, slug=_SLUG)
    # Prefect notes where the flow is, relative to the working folder.
    os.chdir(root)
    return retrain.to_deployment(
        deployment_name(root),
        schedules=[clock],
        parameters={"root": str(root), "max_hours": plan.max_hours},
        description=f"Retrains {root} if there is a reason to: {plan.words}.",
        tags=["mno"],
    )


def check_cron(plan: Plan) -> None:
    """Refuse a cron that cannot be read, or that never comes.

    Raises:
        InputError: It is one of these.
    """
    try:
        dates = next_dates(plan, now())
    except Exception as error:  # croniter's, wrapped by pydantic, and its own for impossible days
        raise InputError(
            f"--cron {plan.cron!r} cannot be read ({_reason(error)}); expected five fields, minute "
            'hour day month weekday, as "0 3 * * *"'
        ) from None
    if not dates:
        raise InputError(f"--cron {plan.cron!r} never comes; expected a day that exists")


def create(root: Path, plan: Plan) -> Plan:
    """Make the deployment, or change the one there is; returns the plan with its id."""
    from prefect.client.orchestration import get_client

    identity = deployment_of(root, plan).apply()
    with get_client(sync_client=True) as client:
        client.resume_deployment(identity) if not plan.paused else None
    made = plan.model_copy(update={"deployment": str(identity)})
    write_plan(root, made)
    set_due(root, _due(made))
    return made


def set_paused(root: Path, plan: Plan, paused: bool) -> Plan:
    """Pause or resume the deployment; what it would have run meanwhile is not caught up."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        act = client.pause_deployment if paused else client.resume_deployment
        act(UUID(plan.deployment))
    since = plan.since if paused or plan.interval is not None else now().isoformat()
    changed = plan.model_copy(update={"paused": paused, "since": since})
    write_plan(root, changed)
    set_due(root, None if paused else _due(changed))
    return changed


def remove(root: Path, plan: Plan) -> None:
    """Delete the deployment with what it has planned; the journal of its runs is kept."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    # It may have been deleted on Prefect's page, or the server be a new one.
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectNotFound):
        client.delete_deployment(UUID(plan.deployment))
    (root / PLAN).unlink(missing_ok=True)
    set_due(root, None)


def run_now(plan: Plan) -> tuple[UUID, str]:
    """Have whoever serves the deployment run it; returns the flow run's id and name."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        made = client.create_flow_run_from_deployment(UUID(plan.deployment))
    return made.id, made.name


def state_of(run: UUID) -> Any:
    """Return the state of a flow run."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_flow_run(run).state


def _due(plan: Plan) -> datetime | None:
    return None if plan.paused else next(iter(next_dates(plan, now())), None)


def _reason(error: Exception) -> str:
    """Return what a validator of Prefect's says, without what pydantic says around it."""
    from pydantic import ValidationError

    found = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    return found.removeprefix("Value error, ").splitlines()[0]
