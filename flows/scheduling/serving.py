"""`mno schedule serve`: runs the plan on time, in the foreground, with a Prefect server of its own.

One process serves a workspace. When it begins it settles what a killed one has left: processes are
ended, runs that are said to be running are set crashed, and of the times that passed meanwhile one
is made up for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.deployments import deployment_of
from flows.leftovers import end_leftovers, marks
from flows.pages import HOST, free_port, run_server, wait_until_it_answers
from flows.scheduling import journal
from flows.scheduling.plan import Plan, local, need_plan, read_plan, write_plan
from flows.scheduling.telling import tell_of_failure, tell_of_missed
from flows.workspace import find_workspace, prepare_environment, program
from mno.core.files import lock_holder, locked, write_json

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

LOOK = 5.0  # seconds between two looks at the server, the plan and what has fallen due


def serve(port: int, quiet: bool) -> None:
    """Serve the workspace's plan until Ctrl-C or a plain kill.

    Args:
        port: Of the Prefect server; 0 takes a free one. Not used where PREFECT_API_URL is set.
        quiet: Print failures only.

    Raises:
        InputError: Nothing is scheduled, or the port is taken.
        MnoError: Another process serves this workspace, or the server does not start.
    """
    root = find_workspace()
    need_plan(root)

    def say(line: str) -> None:
        if not quiet:
            print(line, flush=True)

    with locked(root / journal.SERVE_LOCK, "mno schedule serve"):
        os.chdir(root)
        if ended := end_leftovers(root):
            say(f"ended {ended} process(es) left behind by a run or service that was killed")
        os.environ.update(marks(root))
        # A server that comes back within a minute or so has missed nothing.
        os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "10")
        prepare_environment(root)
        # Until the runner takes over, which does it more gently.
        signal.signal(signal.SIGTERM, lambda *_: _interrupt())
        with _server(root, port) as restart, contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(root, restart, say))
    say("mno schedule serve has ended; nothing runs by the clock until it is started again")


def _interrupt() -> None:
    raise KeyboardInterrupt


async def _serve(root: Path, restart: Callable[[], None], say: Callable[[str], None]) -> None:
    from prefect.client.orchestration import get_client
    from prefect.runner import Runner

    plan = need_plan(root)
    runner = Runner(
        name=f"mno-{os.getpid()}",
        limit=1,
        pause_on_shutdown=False,
        query_seconds=LOOK,
        prefetch_seconds=LOOK,
    )
    identity = await runner.aadd_deployment(await _as_async(deployment_of(root, plan)))
    if str(identity) != plan.deployment:  # the server is a new one
        write_plan(root, plan.model_copy(update={"deployment": str(identity)}))
    async with get_client() as client:
        if plan.paused:
            await client.pause_deployment(identity)
        await _settle(root, client, identity, say)
        say(f"{plan.words}{', paused' if plan.paused else ''}; next: {_next(root)}")
        say(f"Prefect's page: {os.environ['PREFECT_API_URL'].removesuffix('/api')}")
        say("Ctrl-C ends it. In another terminal: mno schedule list;  mno schedule run")
        watch = asyncio.create_task(_watch(root, client, identity, restart, runner, say))
        starting = asyncio.create_task(runner.start())
        await asyncio.sleep(0)
        signal.signal(signal.SIGINT, runner.handle_sigterm)  # end runs at work, then stop
        try:
            await starting
        finally:
            watch.cancel()


async def _as_async(deployment: Any) -> Any:
    """Return a deployment whichever way Prefect makes it inside a loop."""
    return await deployment if asyncio.iscoroutine(deployment) else deployment


def _next(root: Path) -> str:
    due = journal.read_journal(root).due
    return local(due) if due else "never"


async def _settle(
    root: Path, client: PrefectClient, identity: UUID, say: Callable[[str], None]
) -> None:
    """End what a killed service has left, and make up for one run that did not begin."""
    from prefect.states import Crashed, Scheduled

    alive = lock_holder(root / journal.RETRAIN_LOCK) is not None
    if not alive:
        for run in journal.end_crashed(root):
            tell_of_failure(root, run, say)
        for run in await _runs(client, identity, ["RUNNING", "PENDING", "CANCELLING"]):
            died = Crashed(message="its process was killed; what it had finished is kept")
            await client.set_flow_run_state(run.id, died, force=True)
            say(f"{run.name} was killed while it ran; it is marked as crashed")
    for run in await _passed(client, identity):
        await client.delete_flow_run(run.id)
    missed = _missed(root)
    if missed is None or alive:
        return
    state: Any = Scheduled(scheduled_time=journal.now())
    await client.create_flow_run_from_deployment(
        identity, parameters={"missed": missed}, state=state
    )
    if missed == journal.read_journal(root).due:
        tell_of_missed(root, missed, say)
    say(f"the run of {local(missed)} did not begin, or was cut off; it is made up for now")


def _missed(root: Path) -> str | None:
    """Return when a run should have begun, or begun anew, that did not; none if there is none."""
    plan, known = read_plan(root), journal.read_journal(root)
    if plan is None or plan.paused:
        return None
    if known.due and datetime.fromisoformat(known.due) < journal.now():
        return known.due
    last = known.runs[-1] if known.runs else {}
    # One that crashed is tried once more, and not for ever.
    return last["scheduled"] if last.get("outcome") == "crashed" and not last["missed"] else None


async def _watch(
    root: Path, client: PrefectClient, identity: UUID, restart: Callable[[], None], runner: Any,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Keep the server up, the plan's file true, and no more than one late run waiting."""
    import httpx
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

    while True:
        await asyncio.sleep(LOOK)
        try:
            await asyncio.to_thread(restart)
            plan = read_plan(root)
            found = await client.read_deployment(identity)
            if plan and bool(found.paused) != plan.paused:  # on Prefect's page
                _follow(root, plan, bool(found.paused))
            for run in (await _passed(client, identity))[:-1]:
                await client.delete_flow_run(run.id)
        except ObjectNotFound:
            if read_plan(root) is None:
                say("the schedule was removed")
                runner.handle_sigterm()
                return
        except (httpx.HTTPError, PrefectHTTPStatusError):
            continue  # the server is starting anew, or very busy


def _follow(root: Path, plan: Plan, paused: bool) -> None:
    """Take over that somebody paused or resumed the deployment on Prefect's page."""
    from flows.scheduling.dates import next_dates

    write_plan(root, plan.model_copy(update={"paused": paused}))
    journal.set_due(root, None if paused else next(iter(next_dates(plan, journal.now())), None))


async def _runs(client: PrefectClient, identity: UUID, states: list[str]) -> list[Any]:
    from prefect.client.schemas import filters

    return await client.read_flow_runs(
        deployment_filter=filters.DeploymentFilter(id=filters.DeploymentFilterId(any_=[identity])),
        flow_run_filter=filters.FlowRunFilter(
            state=filters.FlowRunFilterState(
                type=filters.FlowRunFilterStateType.model_validate({"any_": states})
            )
        ),
    )


async def _passed(client: PrefectClient, identity: UUID) -> list[Any]:
    """Return the planned runs whose time has come, the latest last; those by hand excluded."""
    now = journal.now()
    planned = [
        run
        for run in await _runs(client, identity, ["SCHEDULED"])
        if run.auto_scheduled and run.next_scheduled_start_time
        and run.next_scheduled_start_time < now
    ]  # fmt: skip
    return sorted(planned, key=lambda run: run.next_scheduled_start_time)


@contextmanager
def _server(root: Path, port: int) -> Iterator[Callable[[], None]]:
    """Have a Prefect server, and hand out what starts it anew if it has ended.

    A server that the user names by PREFECT_API_URL is the user's to keep.
    """
    if "PREFECT_API_URL" in os.environ:
        write_json(root / journal.SERVER, {"api": os.environ["PREFECT_API_URL"]})
        yield lambda: None
        return
    write_json(root / journal.SERVER, {"api": None})  # that of an earlier service answers no more
    port = free_port(port)
    api = f"http://{HOST}:{port}/api"
    command = [program("prefect"), "server", "start", "--host", HOST, "--port", str(port)]
    settings = {"PREFECT_UI_API_URL": api, "PREFECT_API_SERVICES_SCHEDULER_LOOP_SECONDS": "20"}
    os.environ["PREFECT_API_URL"] = api
    with contextlib.ExitStack() as stack:

        def start() -> Any:
            server = stack.enter_context(run_server(command, root, "prefect-schedule", settings))
            wait_until_it_answers("prefect-schedule", server, port)
            return server

        running = [start()]

        def restart() -> None:
            if running[-1].poll() is not None:
                time.sleep(1.0)
                running.append(start())

        write_json(root / journal.SERVER, {"api": api})
        yield restart
