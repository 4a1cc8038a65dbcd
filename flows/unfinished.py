"""Flow runs whose process was killed, which Prefect would call running for ever.

Nobody but the workspace can tell that they are dead: Prefect's server hears nothing of a kill. So a
run of the line leaves its id in a file while it is at work, and the next one, which holds the lock
on runs, knows of a file that it finds that its run is dead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas import filters
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Crashed

from flows.scheduling.plan import read_json
from mno.core.errors import first_line
from mno.core.files import write_json

FILE = Path("build/flow_run.json")
GRACE = timedelta(minutes=5)
"""A run that lives has the lock by then, or has ended because another has it."""
KILLED = "its process was killed; what it had finished is kept"


@contextmanager
def at_work(root: Path, run: str | None, warn: Callable[[str], None]) -> Iterator[None]:
    """Leave a run's id while the body runs; set the run crashed that was killed before it.

    Args:
        root: The workspace, of which no other run is alive.
        run: The flow run's id; none where Prefect does not know the run.
        warn: Is handed a line if Prefect cannot be told.
    """
    file = root / FILE
    killed = read_json(file).get("id")
    if killed and killed != run:
        set_crashed(killed, KILLED, warn)
    if run:
        write_json(file, {"id": run})
    yield
    file.unlink(missing_ok=True)  # after an error the next run looks whether Prefect knows of it


def set_crashed(run: str, said: str, warn: Callable[[str], None]) -> None:
    """Have Prefect know that a flow run was killed.

    Args:
        run: Its id.
        said: What is known of it, in one line.
        warn: Is handed a line if Prefect cannot be told.
    """
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(run)).state
            if state is None or not state.is_final():
                client.set_flow_run_state(UUID(run), Crashed(message=said), force=True)
    except ObjectNotFound:  # of another server
        return
    except (ValueError, RuntimeError, httpx.HTTPError, PrefectHTTPStatusError) as error:
        warn(f"the run {run} was killed, which Prefect was not told: {first_line(error)}")


def set_silent_crashed(
    deployment: str | None, run: str | None, warn: Callable[[str], None], grace: timedelta = GRACE
) -> None:
    """Have Prefect know of the runs of a deployment that were killed before they left a trace.

    Call it with the lock on retraining, which every living run of the deployment wants, too.

    Args:
        deployment: Its id; without one nothing is done.
        run: The id of the run that asks.
        warn: Is handed a line if Prefect cannot be told.
        grace: Runs that began within it are left.
    """
    if deployment is None:
        return
    running = filters.FlowRunFilterStateType(any_=[StateType.RUNNING])
    try:
        with get_client(sync_client=True) as client:
            found = client.read_flow_runs(
                deployment_filter=filters.DeploymentFilter(
                    id=filters.DeploymentFilterId(any_=[UUID(deployment)])
                ),
                flow_run_filter=filters.FlowRunFilter(
                    state=filters.FlowRunFilterState(type=running)
                ),
            )
    except (ValueError, RuntimeError, httpx.HTTPError, PrefectHTTPStatusError) as error:
        warn(f"Prefect was not asked for runs that were killed: {first_line(error)}")
        return
    for other in found:
        began = other.state and other.state.timestamp
        if str(other.id) != run and began and began < datetime.now(UTC) - grace:
            set_crashed(str(other.id), KILLED, warn)
