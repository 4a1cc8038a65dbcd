"""What Prefect does for the plan: its dates, its deployment, and `mno schedule serve`.

One process serves a workspace, in the foreground, with a Prefect server of its own. When it begins
it settles what a killed one has left: processes are ended, runs that are said to be running are set
crashed, and of the times that passed meanwhile one is made up for.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from flows.pages import HOST, free_port, run_server, wait_until_it_answers
from flows.schedule import (
    KILLED,
    PLAN,
    RETRAIN_LOCK,
    SERVE_LOCK,
    SERVER,
    Plan,
    end_crashed,
    local,
    need_plan,
    now,
    read_journal,
    read_plan,
    serving,
    set_due,
    tell_of_failure,
    tell_of_missed,
    write_plan,
)
from flows.workspace import end_leftovers, find_workspace, marks, prepare_environment, program
from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import lock_holder, locked, write_json

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.schedules import SCHEDULE_TYPES

LOOK = 5.0  # seconds between two looks at the server, the plan and what has fallen due
_SLUG = "clock"


def prefect_schedule(plan: Plan) -> SCHEDULE_TYPES:
    """Return the plan as Prefect's server is given it.

    Raises:
        ValueError: `cron` cannot be read.
    """
    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

    if plan.interval is not None:
        return IntervalSchedule(
            interval=timedelta(seconds=plan.interval),
            anchor_date=datetime.fromisoformat(plan.since),
            timezone=plan.timezone,
        )
    return CronSchedule(cron=str(plan.cron), timezone=plan.timezone)


def next_dates(plan: Plan, after: datetime, count: int = 1) -> list[datetime]:
    """Return when the plan fires next, the first after a moment; fewer if it never does.

    At daylight saving a time of day that occurs twice fires once, and one that is left out fires an
    hour later.

    Args:
        plan: When to run.
        after: With a time zone.
        count: How many.
    """
    from prefect.server.schemas import schedules

    known = prefect_schedule(plan)
    kind = getattr(schedules, type(known).__name__)
    server_side = kind.model_validate(known.model_dump())
    start = after + timedelta(microseconds=1)

    def ask() -> list[datetime]:
        return asyncio.run(server_side.get_dates(n=count, start=start))

    # A thread of its own: the caller may have a running loop.
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(ask).result()
    return [datetime.fromisoformat(date.isoformat()).astimezone() for date in found]


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
    from flows.pipeline import start_temporary_server

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
            f"--cron {plan.cron!r} cannot be read ({_why(error)}); expected five fields, minute "
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


def _why(error: Exception) -> str:
    """Return what a validator of Prefect's says, without what pydantic says around it."""
    from pydantic import ValidationError

    found = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    return found.removeprefix("Value error, ").splitlines()[0]


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

    with locked(root / SERVE_LOCK, "mno schedule serve"):
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
    due = read_journal(root).due
    return local(due) if due else "never"


async def _settle(
    root: Path, client: PrefectClient, identity: UUID, say: Callable[[str], None]
) -> None:
    """End what a killed service has left, and make up for one run that did not begin."""
    from prefect.states import Crashed, Scheduled

    alive = lock_holder(root / RETRAIN_LOCK) is not None
    if not alive:
        for run in end_crashed(root):
            tell_of_failure(root, run, say)
        for run in await _runs(client, identity, ["RUNNING", "PENDING", "CANCELLING"]):
            died = Crashed(message=KILLED)
            await client.set_flow_run_state(run.id, died, force=True)
            say(f"{run.name} was killed while it ran; it is marked as crashed")
    for run in await _passed(client, identity):
        await client.delete_flow_run(run.id)
    missed = _missed(root)
    if missed is None or alive:
        return
    state: Any = Scheduled(scheduled_time=now())
    await client.create_flow_run_from_deployment(
        identity, parameters={"missed": missed}, state=state
    )
    if missed == read_journal(root).due:
        tell_of_missed(root, missed, say)
    say(f"the run of {local(missed)} did not begin, or was cut off; it is made up for now")


def _missed(root: Path) -> str | None:
    """Return when a run should have begun, or begun anew, that did not; none if there is none."""
    plan, known = read_plan(root), read_journal(root)
    if plan is None or plan.paused:
        return None
    if known.due and datetime.fromisoformat(known.due) < now():
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
    changed = plan.model_copy(update={"paused": paused})
    write_plan(root, changed)
    set_due(root, _due(changed))


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
    present = now()
    planned = [
        run
        for run in await _runs(client, identity, ["SCHEDULED"])
        if run.auto_scheduled and run.next_scheduled_start_time
        and run.next_scheduled_start_time < present
    ]  # fmt: skip
    return sorted(planned, key=lambda run: run.next_scheduled_start_time)


@contextmanager
def _server(root: Path, port: int) -> Iterator[Callable[[], None]]:
    """Have a Prefect server, and hand out what starts it anew if it has ended.

    A server that the user names by PREFECT_API_URL is the user's to keep.
    """
    if "PREFECT_API_URL" in os.environ:
        write_json(root / SERVER, {"api": os.environ["PREFECT_API_URL"]})
        yield lambda: None
        return
    write_json(root / SERVER, {"api": None})  # that of an earlier service answers no more
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

        write_json(root / SERVER, {"api": api})
        yield restart
