"""The production line as a Prefect flow: one task per target of DVC's graph."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas import filters
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.runtime import flow_run
from prefect.states import Crashed
from rich.console import Console

from flows.promotion import decision_page
from flows.schedule import KILLED
from flows.stages import (
    REGISTERED,
    StageResult,
    forget_missing_version,
    read_graph,
    run_order,
    run_target,
)
from flows.workspace import find_workspace, handed_down, read_json
from mno.core.errors import MnoError, first_line
from mno.core.files import write_json
from mno.lineage.dvcfiles import read_data_version

FILE = Path("build/flow_run.json")
GRACE = timedelta(minutes=5)
"""A run that lives has the lock by then, or has ended because another has it."""
_AWAY = (ValueError, RuntimeError, httpx.HTTPError, PrefectHTTPStatusError)


@contextmanager
def at_work(root: Path, run: str | None, warn: Callable[[str], None]) -> Iterator[None]:
    """Leave a run's id while the body runs; set the run crashed that was killed before it.

    No other run of the workspace may be alive; `warn` is handed a line if Prefect cannot be told.
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
    """Have Prefect know that a flow run was killed, and what is known of that."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(run)).state
            if state is None or not state.is_final():
                client.set_flow_run_state(UUID(run), Crashed(message=said), force=True)
    except ObjectNotFound:  # of another server
        return
    except _AWAY as error:
        warn(f"the run {run} was killed, which Prefect was not told: {first_line(error)}")


def runs_of(deployment: UUID, *states: str) -> dict[str, Any]:
    """Return what a client of Prefect is asked for the runs of a deployment in some states."""
    of_type = filters.FlowRunFilterStateType.model_validate({"any_": states})
    by_id = filters.DeploymentFilterId(any_=[deployment])
    return {
        "deployment_filter": filters.DeploymentFilter(id=by_id),
        "flow_run_filter": filters.FlowRunFilter(state=filters.FlowRunFilterState(type=of_type)),
    }


def set_silent_crashed(
    deployment: str | None, run: str | None, warn: Callable[[str], None], grace: timedelta = GRACE
) -> None:
    """Have Prefect know of the runs of a deployment that were killed before they left a trace.

    Call it with the lock on retraining, which every living run of the deployment wants, too. The
    run that asks, and those that began within `grace`, are left.
    """
    if deployment is None:
        return
    try:
        with get_client(sync_client=True) as client:
            found = client.read_flow_runs(**runs_of(UUID(deployment), "RUNNING"))
    except _AWAY as error:
        warn(f"Prefect was not asked for runs that were killed: {first_line(error)}")
        return
    for other in found:
        began = other.state and other.state.timestamp
        if str(other.id) != run and began and began < datetime.now(UTC) - grace:
            set_crashed(str(other.id), KILLED, warn)


@flow(name="pipeline", validate_parameters=False)
def pipeline(
    root: str | None = None,
    target: str | None = None,
    quiet: bool = False,
    current: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Bring the line, or one target of it and what that needs, up to date.

    Args:
        root: The workspace; the one around the working folder if not given.
        target: A stage's name, or `data.dvc`; everything if not given.
        quiet: Print nothing but failures.
        current: Targets that are known to be up to date; DVC is not asked for them again.

    Returns:
        The result of each target, in the order in which they ran.
    """
    workspace = find_workspace(Path(root) if root else None)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    log = get_run_logger()

    def say(line: str) -> None:
        if not quiet or line.lower().startswith("error"):
            console.print(line)
        log.info(line)

    results: dict[str, StageResult] = {}
    with at_work(workspace, flow_run.get_id(), say):
        graph = read_graph(workspace)
        for name in run_order(graph, target):
            results[name] = StageResult(name, "reused", 0.0)
            if name not in current:
                reruns = any(results[other].action == "ran" for other in graph[name])
                results[name] = _bring(workspace, name, reruns, quiet, say)
            say(str(results[name]))
    return [result.to_dict() for result in results.values()]


def _bring(
    root: Path, name: str, reruns: bool, quiet: bool, say: Callable[[str], None]
) -> StageResult:
    """Bring one target up to date, as a task; `reruns` is whether one that it needs has run."""
    if name == "register":
        forget_missing_version(root, say)
    before = read_data_version(root / name).md5 if name.endswith(".dvc") else None
    stage = task(name=name, task_run_name=name, cache_policy=NO_CACHE)(run_target)
    result = stage(root, name, environment(root, quiet), say)
    ran = result.action == "ran"
    if ran and before and not reruns and read_data_version(root / name).md5 == before:
        # An import that ran for nothing upstream, to the same version, has mended its folder.
        return result._replace(action="restored")
    registered = read_json(root / REGISTERED) if name == "register" else {}
    if ran and registered.get("version") is not None:
        page = decision_page(registered)
        create_markdown_artifact(page, key="promotion", description="The decision on a version")
    return result


def environment(root: Path, quiet: bool) -> dict[str, str]:
    """Return what a stage is told by its environment (see `pipelines.stage.StageEnvironment`)."""
    run_id = flow_run.get_id()
    return handed_down(root, quiet) | ({"MNO_FLOW_RUN_ID": str(run_id)} if run_id else {})


def start_temporary_server() -> None:
    """Start the server that Prefect would start by itself, unless the user names another.

    A terminal sends Ctrl-C to every process of the command. The server must outlive it, or the
    flow waits for minutes to report to it that it was cancelled. A child inherits which signals
    its parent's thread blocks, so it is started from a thread that blocks this one.
    """
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value():
        return
    from prefect.server.api.server import SubprocessASGIServer

    failures: list[RuntimeError] = []

    def start() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            SubprocessASGIServer().start()
        except RuntimeError as error:
            failures.append(error)

    thread = threading.Thread(target=start, daemon=True, name="prefect-server")
    thread.start()
    thread.join()
    if failures:
        raise MnoError(
            f"Prefect's temporary server did not start ({first_line(failures[0])}); is the machine "
            "very busy? Run again: what is finished is kept"
        )
