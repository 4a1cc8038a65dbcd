"""The production line as a Prefect flow: one task per target of DVC's graph."""

import signal
import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.context import TagsContext
from prefect.exceptions import PrefectHTTPStatusError
from prefect.runtime import flow_run
from prefect.states import Crashed

from flows.options import Say, teller
from flows.schedule import KILLED, mark, noted
from flows.stages import StageResult, forget_what_is_gone, read_graph, run_order, run_target
from flows.workspace import find_workspace, handed_down
from mno.core.config import dataset_name, read_params
from mno.core.errors import MnoError, first_line
from mno.lineage.dvcfiles import read_data_version

AWAY = (RuntimeError, httpx.HTTPError, PrefectHTTPStatusError)
"""What is raised where Prefect's server is gone, or refuses."""
GRACE = timedelta(minutes=5)  # a run that lives has the lock by then, or has ended


def end_killed(
    root: Path,
    flow: str,
    warn: Say,
    deployment: str | None = None,
    states: Sequence[str] = ("RUNNING",),
    grace: timedelta = GRACE,
) -> list[FlowRun]:
    """Have Prefect know of the runs of a flow that were killed, and return those.

    Call it while holding the lock that every living run of the flow has, or wants. Those with the
    workspace's mark had it. One of the deployment without the mark may still come to the lock,
    within `grace`, and this run is left. `warn` is handed a line if Prefect cannot be told.
    """
    marked, me, killed = mark(root), flow_run.get_id(), []
    wanted: list[dict[str, Any]] = [{"tags": {"all_": [marked]}}]
    if deployment:
        wanted.append({"deployment_id": {"any_": [deployment]}})
    by_name = FlowFilter.model_validate({"name": {"any_": [flow]}})
    try:
        with get_client(sync_client=True) as client:
            for one in wanted:
                asked = FlowRunFilter.model_validate({**one, "state": {"type": {"any_": states}}})
                for run in client.read_flow_runs(flow_filter=by_name, flow_run_filter=asked):
                    since = run.state.timestamp if run.state else datetime.now(UTC)
                    late = marked in run.tags or since <= datetime.now(UTC) - grace
                    if late and str(run.id) != me and not noted(run.labels).get("outcome"):
                        client.set_flow_run_state(run.id, Crashed(message=KILLED), force=True)
                        killed.append(run)
    except AWAY as error:
        warn(f"Prefect was not asked for runs that were killed: {first_line(error)}")
    return killed


@flow(name="pipeline", validate_parameters=False)
def pipeline(
    root: str | None = None,
    target: str | None = None,
    quiet: bool = False,
    current: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Bring the line, or one target of it and what that needs, up to date; return what each did.

    DVC is not asked again for targets that are known to be `current`.
    """
    workspace = find_workspace(Path(root) if root else None)
    shown, log = teller(quiet), get_run_logger()

    def say(line: str) -> None:
        shown(line)
        log.info(line)

    end_killed(workspace, "pipeline", say)
    results: dict[str, StageResult] = {}
    graph, of = read_graph(workspace), dataset_name(read_params(workspace))
    for name in run_order(graph, target):
        results[name] = StageResult(name, "reused", 0.0)
        if name not in current:
            reruns = any(results[other].action == "ran" for other in graph[name])
            try:
                results[name] = _bring(workspace, name, reruns, quiet, say)
            except BaseException:
                _name_run(f"{of}: not finished at {name}")
                raise
        say(str(results[name]))
    ran = [name for name, result in results.items() if result.action != "reused"]
    _name_run(f"{of}: {', '.join(ran) or 'all was up to date'}")
    return [result.to_dict() for result in results.values()]


def _name_run(name: str) -> None:
    """Have Prefect's pages call this run by what came of it, if its server is there."""
    with suppress(*AWAY), get_client(sync_client=True) as client:
        client.update_flow_run(UUID(str(flow_run.get_id())), name=name)


def _bring(root: Path, name: str, reruns: bool, quiet: bool, say: Say) -> StageResult:
    """Bring one target up to date, as a task; `reruns` is whether one that it needs has run."""
    if name in ("register", "report"):
        forget_what_is_gone(root, (lambda _: None) if reruns else say)
    before = read_data_version(root / name).md5 if name.endswith(".dvc") else None
    stage = task(name=name, task_run_name=name, cache_policy=NO_CACHE)(run_target)
    with TagsContext(current_tags=set()):  # a task's tag would ask the server for a limit by it
        result = stage(root, name, environment(root, quiet), say)
    mends = result.action == "ran" and before and not reruns
    if mends and read_data_version(root / name).md5 == before:
        # An import that ran for nothing upstream, to the same version, has mended its folder.
        return result._replace(action="restored")
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
