"""What Prefect does for the plan: its dates, its deployment, and `mno schedule serve`.

One process serves a workspace, in the foreground, with a Prefect server of its own. When it begins
it settles what a killed one has left: processes are ended, runs that are said to be running are set
crashed, and of the times that passed meanwhile one is made up for.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from pydantic import ValidationError

from flows.notify import Event
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
    tell_of,
    tell_of_failure,
    write_plan,
)
from flows.workspace import end_leftovers, find_workspace, marks, prepare_environment, program
from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import lock_holder, locked, sha256, write_json

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.schedules import SCHEDULE_TYPES

LOOK = 5.0  # seconds between two looks at the server, the plan and what has fallen due


def _prefect_schedule(plan: Plan) -> SCHEDULE_TYPES:
    """Return the plan as Prefect's server is given it; a cron that cannot be read is refused."""
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
    """
    from prefect.server.schemas import schedules

    known = _prefect_schedule(plan)
    kind = getattr(schedules, type(known).__name__)
    dates = kind.model_validate(known.model_dump()).get_dates(
        n=count, start=after + timedelta(microseconds=1)
    )
    # A thread of its own: the caller may have a running loop.
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(asyncio.run, dates).result()
    return [datetime.fromisoformat(date.isoformat()).astimezone() for date in found]


def next_date(plan: Plan | None, after: datetime | None = None) -> datetime | None:
    """Return when the plan fires next; none if there is none, it is paused, or never does."""
    if plan is None or plan.paused:
        return None
    return next(iter(next_dates(plan, after or now())), None)


@contextmanager
def prefect_server(root: Path) -> Iterator[None]:
    """Have a Prefect server: the user's, that of `mno schedule serve`, or a temporary one."""
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


def _deployment_of(root: Path, plan: Plan) -> Any:
    """Return the deployment, as Prefect is given it; its runs are made by whoever serves it.

    It says nothing of pauses, so that to give it anew leaves a paused one paused.
    """
    from prefect.client.schemas.actions import DeploymentScheduleCreate

    from flows.retrain import retrain

    # Two folders of one name have two deployments.
    name = f"{root.name.replace('%', '-')}-{sha256(str(root))[:6]}"
    clock = DeploymentScheduleCreate(schedule=_prefect_schedule(plan), active=True, slug="clock")
    # Prefect notes where the flow is, relative to the working folder.
    os.chdir(root)
    return retrain.to_deployment(
        name,
        schedules=[clock],
        parameters={"root": str(root), "max_hours": plan.max_hours},
        description=f"Retrains {root} if there is a reason to: {plan.words}.",
        tags=["mno"],
    )


def check_cron(plan: Plan) -> None:
    """Refuse a cron that cannot be read, or that never comes."""
    try:
        dates = next_dates(plan, now())
    except Exception as error:  # croniter's, wrapped by pydantic, and its own for impossible days
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        why = why.removeprefix("Value error, ").splitlines()[0]
        raise InputError(
            f"--cron {plan.cron!r} cannot be read ({why}); expected five fields, minute hour day "
            'month weekday, as "0 3 * * *"'
        ) from None
    if not dates:
        raise InputError(f"--cron {plan.cron!r} never comes; expected a day that exists")


def create(root: Path, plan: Plan) -> None:
    """Make the deployment, or change the one there is, and keep the plan with its id."""
    from prefect.client.orchestration import get_client

    identity = _deployment_of(root, plan).apply()
    with get_client(sync_client=True) as client:
        client.resume_deployment(identity)
    _keep(root, plan.model_copy(update={"deployment": str(identity)}))


def set_paused(root: Path, plan: Plan, paused: bool) -> None:
    """Pause or resume the deployment; what it would have run meanwhile is not caught up."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        act = client.pause_deployment if paused else client.resume_deployment
        act(UUID(plan.deployment))
    since = plan.since if paused or plan.interval is not None else now().isoformat()
    _keep(root, plan.model_copy(update={"paused": paused, "since": since}))


def _keep(root: Path, plan: Plan) -> None:
    write_plan(root, plan)
    set_due(root, next_date(plan))


def remove(root: Path, plan: Plan) -> None:
    """Delete the deployment with what it has planned; the journal of its runs is kept."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    # It may have been deleted on Prefect's page, or the server be a new one.
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectNotFound):
        client.delete_deployment(UUID(plan.deployment))
    (root / PLAN).unlink(missing_ok=True)
    set_due(root, None)


def run_schedule(quiet: bool) -> dict[str, Any]:
    """Do now what is done by the clock; served by `mno schedule serve` if it runs, else here.

    Returns:
        The run's entry in the journal; `outcome` is `busy` where another run is active.
    """
    root = find_workspace()
    plan = read_plan(root)
    with prefect_server(root):
        if plan is not None and serving(root):
            return _served_run(root, plan, quiet)
        from flows.retrain import retrain

        # Called as a function, a flow that returns a state gives what the state holds.
        found: Any = retrain(str(root), plan.max_hours if plan else None, None, quiet)
        return found


def _served_run(root: Path, plan: Plan, quiet: bool) -> dict[str, Any]:
    """Have whoever serves the deployment run it, and wait for that."""
    from prefect.client.orchestration import get_client

    serves = serving(root)
    with get_client(sync_client=True) as client:
        made = client.create_flow_run_from_deployment(UUID(plan.deployment))
        if not quiet:
            print(f"mno schedule serve runs it as {made.name}; Ctrl-C leaves it to it", flush=True)
        while True:
            try:
                state = client.read_flow_run(made.id).state
            except httpx.HTTPError as error:
                raise MnoError(
                    f"Prefect's server cannot be asked any more how {made.name} fares "
                    f"({first_line(error)}); see mno schedule list"
                ) from None
            if state is not None and state.is_final():
                break
            if serving(root) != serves:
                raise MnoError(
                    f"the mno schedule serve that ran {made.name} was killed; start it again, and "
                    "the run is begun anew from what it had finished"
                )
            time.sleep(1.0)
    found = next((run for run in read_journal(root).runs if run["id"] == str(made.id)), None)
    if state.name == "Busy" or (found is None and state.is_completed()):
        return {"outcome": "busy", "said": state.message or "another run is active", "reasons": []}
    if not state.is_completed():
        raise MnoError(f"{made.name}: {(found or {}).get('said') or state.message or state.name}")
    return found or {}


def serve(port: int, quiet: bool) -> None:
    """Serve the workspace's plan until Ctrl-C or a plain kill.

    The Prefect server has a port, 0 for a free one, unless PREFECT_API_URL names another server.

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
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with _server(root, port) as restart, contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(root, restart, say))
    say("mno schedule serve has ended; nothing runs by the clock until it is started again")


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
    deployment = _deployment_of(root, plan)  # inside a loop, Prefect may make a coroutine of it
    deployment = await deployment if asyncio.iscoroutine(deployment) else deployment
    identity = await runner.aadd_deployment(deployment)
    if str(identity) != plan.deployment:  # the server is a new one
        write_plan(root, plan.model_copy(update={"deployment": str(identity)}))
    async with get_client() as client:
        if plan.paused:
            await client.pause_deployment(identity)
        await _settle(root, client, identity, say)
        due = read_journal(root).due
        paused, then = ", paused" if plan.paused else "", local(due) if due else "never"
        say(f"{plan.words}{paused}; next: {then}")
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


async def _settle(
    root: Path, client: PrefectClient, identity: UUID, say: Callable[[str], None]
) -> None:
    """End what a killed service has left, and make up for one run that did not begin."""
    from prefect.states import Crashed, Scheduled

    alive = lock_holder(root / RETRAIN_LOCK) is not None
    if not alive:
        for run in end_crashed(root):
            tell_of_failure(root, run, say)
        for run in await _runs(client, identity, "RUNNING", "PENDING", "CANCELLING"):
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
        text = f"The run of {local(missed)} did not begin; it is made up for now."
        event = Event("missed", "A scheduled run was missed", text, "mno schedule list")
        tell_of(root, event, say)
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
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

    while True:
        await asyncio.sleep(LOOK)
        try:
            await asyncio.to_thread(restart)
            plan = read_plan(root)
            found = await client.read_deployment(identity)
            if plan and bool(found.paused) != plan.paused:  # on Prefect's page
                _keep(root, plan.model_copy(update={"paused": bool(found.paused)}))
            for run in (await _passed(client, identity))[:-1]:
                await client.delete_flow_run(run.id)
        except ObjectNotFound:
            if read_plan(root) is None:
                say("the schedule was removed")
                runner.handle_sigterm()
                return
        except (httpx.HTTPError, PrefectHTTPStatusError):
            continue  # the server is starting anew, or very busy


async def _runs(client: PrefectClient, identity: UUID, *states: str) -> list[Any]:
    from flows.pipeline import runs_of

    return await client.read_flow_runs(**runs_of(identity, *states))


async def _passed(client: PrefectClient, identity: UUID) -> list[Any]:
    """Return the planned runs whose time has come, the latest last; those by hand excluded."""
    present = now()
    planned = [
        run
        for run in await _runs(client, identity, "SCHEDULED")
        if run.auto_scheduled and (run.next_scheduled_start_time or present) < present
    ]
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
