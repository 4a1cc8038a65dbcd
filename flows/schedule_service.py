"""What Prefect does for `mno schedule`: its deployment, and serving it.

One process serves a workspace, in the foreground, with a Prefect server of its own. When it begins
it settles what a killed one has left: processes are ended, runs that are said to be running are set
crashed, and of the times that passed meanwhile one is made up for.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from pydantic import ValidationError

from flows import schedule
from flows.notify import Event, tell
from flows.options import Say
from flows.pages import HOST, free_port, run_server, wait_until_it_answers
from flows.workspace import end_leftovers, find_workspace, marks, prepare_environment, program
from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import lock_holder, locked

LOOK = 5.0  # seconds between two looks at the server and what has fallen due
_say: Say = partial(print, flush=True)


def next_dates(
    clock: Mapping[str, Any], count: int = 1, after: datetime | None = None
) -> Sequence[datetime]:
    """Return when a schedule fires next, as Prefect's server says; fewer if it never does.

    At daylight saving a time of day that occurs twice fires once, one left out an hour later.
    """
    from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule

    kind = CronSchedule if "cron" in clock else IntervalSchedule
    return asyncio.run(kind.model_validate(clock).get_dates(n=count, start=after))


def check_cron(clock: Mapping[str, Any]) -> None:
    """Refuse a cron that cannot be read, or that never comes."""
    cron = clock["cron"]
    try:
        if len(cron.split()) > 5:
            raise ValueError("there are more")  # seconds and years, for croniter
        dates = next_dates(clock)
    except Exception as error:  # croniter's, wrapped by pydantic, and its own for impossible days
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        why = why.removeprefix("Value error, ").splitlines()[0]
        raise InputError(
            f"--cron {cron!r} cannot be read ({why}); expected five fields, minute hour day "
            'month weekday, as "0 3 * * *"'
        ) from None
    if not dates:
        raise InputError(f"--cron {cron!r} never comes; expected a day that exists")


@contextmanager
def prefect_server(root: Path) -> Iterator[None]:
    """Have a Prefect server: the user's, that of `mno schedule serve`, or a temporary one."""
    if serves := schedule.serving(root):
        os.environ.setdefault("PREFECT_API_URL", serves["api"])
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


def _deployment_of(root: Path, clock: Mapping[str, Any], max_hours: float | None) -> Any:
    """Return the deployment, to be served by whoever asks; given anew, a paused one stays so."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

    from flows.retrain import retrain

    kind = CronSchedule if "cron" in clock else IntervalSchedule
    plan = DeploymentScheduleCreate(schedule=kind.model_validate(clock), active=True, slug="clock")
    # Prefect notes where the flow is, relative to the working folder.
    os.chdir(root)
    return retrain.to_deployment(
        schedule.deployment_name(root), schedules=[plan], tags=["mno"],
        parameters={"root": str(root), "max_hours": max_hours},
        description=f"Retrains {root} if there is a reason to.",
    )  # fmt: skip


def create(root: Path, clock: Mapping[str, Any], max_hours: float | None) -> None:
    """Make the deployment, or change the one there is; it is not paused."""
    if "interval" in clock:
        clock = {**clock, "anchor_date": schedule.now()}
    change({"deployment": _deployment_of(root, clock, max_hours).apply()}, "resume")


def change(plan: Mapping[str, Any], how: str) -> None:
    """Pause, resume (nothing is caught up) or remove what is scheduled; runs that were stay."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    identity = plan["deployment"]
    with get_client(sync_client=True) as client:
        if how == "pause":
            client.pause_deployment(identity)
        elif how == "resume":
            client.resume_deployment(identity)
            _plan_ahead(client, identity)
        else:  # unless it was deleted on Prefect's page meanwhile
            with suppress(ObjectNotFound):
                client.delete_deployment(UUID(identity))


def _plan_ahead(client: Any, identity: Any) -> Any:
    """Have the server plan the next run at once: its own scheduler may never get to it."""
    path, least = "/deployments/{id}/schedule", {"min_runs": 1, "min_time": 0.0}
    return client.request("POST", path, path_params={"id": identity}, json=least)


def run_schedule(quiet: bool) -> dict[str, Any]:
    """Do now what is done by the clock; return what is known of the run, see `read_schedule`."""
    root = find_workspace()
    plan = schedule.read_schedule(root)["plan"]
    with prefect_server(root):
        from flows.retrain import retrain

        # Called as a function, a flow that returns a state gives what the state holds.
        found: Any = retrain(str(root), plan["max_hours"] if plan else None, None, quiet)
        return found


def serve(port: int) -> None:
    """Serve the workspace's plan until Ctrl-C or a plain kill, at a port or, for 0, a free one."""
    root = find_workspace()
    schedule.need_plan(root)
    own = None if "PREFECT_API_URL" in os.environ else port or free_port(0)
    api = os.environ.get("PREFECT_API_URL", f"http://{HOST}:{own}/api")
    with locked(root / schedule.SERVE_LOCK, f"mno schedule serve at {api}"):
        if ended := end_leftovers(root):
            _say(f"ended {ended} process(es) left behind by a run or service that was killed")
        # A server that comes back within a minute or so has missed nothing.
        os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "10")
        os.environ.update(marks(root) | {"PREFECT_API_URL": api})
        prepare_environment(root)
        # Until the runner takes over, which does it more gently.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with suppress(KeyboardInterrupt), _server(root, own) as restart:
            known = schedule.read_schedule(root)
            plan = known["plan"]
            deployment = _deployment_of(root, plan["schedule"], plan["max_hours"])
            _settle(root, known)
            asyncio.run(_serve(root, plan, deployment, restart))
    _say("mno schedule serve has ended; nothing runs by the clock until it is started again")


def _settle(root: Path, known: Mapping[str, Any]) -> None:
    """End what a killed service has left, and make up for one run that did not begin."""
    from prefect.client.orchestration import get_client
    from prefect.states import Scheduled

    from flows.pipeline import end_killed
    from flows.retrain import tell_of_crash

    if lock_holder(root / schedule.RETRAIN_LOCK):
        return
    identity, states = known["plan"]["deployment"], ("RUNNING", "PENDING", "CANCELLING")
    killed = end_killed(root, "retrain", _say, identity, states, timedelta(0))
    for run in killed:
        _say(f"{run.name} was killed while it ran; it is marked as crashed")
        tell_of_crash(root, run, _say)
    last = known["runs"][-1] if known["runs"] else {}
    due = known["next"]
    missed = due if due and schedule.moment(due) < schedule.now() else None
    # One that crashed is tried once more, and not for ever.
    crashed = last.get("outcome") == "crashed" or last.get("id") in {str(run.id) for run in killed}
    wanted = (last["scheduled"] if crashed and not last["missed"] else None) or missed
    if known["plan"]["paused"] or wanted is None:
        return
    then = schedule.local(wanted)
    state: Any = Scheduled(scheduled_time=schedule.now())
    with get_client(sync_client=True) as client:
        for run in _late(client.read_flow_runs(**_waiting(UUID(identity)))):
            client.delete_flow_run(run.id)
        client.create_flow_run_from_deployment(
            UUID(identity), parameters={"missed": wanted}, state=state
        )
    if missed:
        text = f"The run of {schedule.local(missed)} did not begin; it is made up for now."
        event = Event("missed", "A scheduled run was missed", text, "mno schedule list")
        tell(root, event, _say)
    _say(f"the run of {then} did not begin, or was cut off; it is made up for now")


def _waiting(identity: UUID) -> dict[str, Any]:
    """Return what a client of Prefect is asked for the runs of a deployment that have not begun."""
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    of_it = {"deployment_id": {"any_": [identity]}, "state": {"type": {"any_": ["SCHEDULED"]}}}
    earliest_first = FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC
    return {"flow_run_filter": FlowRunFilter.model_validate(of_it), "sort": earliest_first}


def _late(waiting: Sequence[Any]) -> list[Any]:
    """Return those whose time has come, but for those by hand."""
    return [r for r in waiting if r.auto_scheduled and r.next_scheduled_start_time < schedule.now()]


async def _serve(
    root: Path, plan: Mapping[str, Any], deployment: Any, restart: Callable[[], None]
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.runner import Runner

    name = f"mno-{os.getpid()}"
    runner = Runner(
        name=name, limit=1, pause_on_shutdown=False, query_seconds=LOOK, prefetch_seconds=LOOK
    )
    identity = await runner.aadd_deployment(deployment)
    async with get_client() as client:
        if not plan["paused"]:
            await _plan_ahead(client, identity)
        due = (await asyncio.to_thread(schedule.read_schedule, root))["next"]
        paused, then = ", paused" if plan["paused"] else "", schedule.local(due) if due else "never"
        _say(f"{plan['words']}{paused}; next: {then}")
        _say(f"Prefect's page: {os.environ['PREFECT_API_URL'].removesuffix('/api')}")
        _say("Ctrl-C ends it. In another terminal: mno schedule list;  mno schedule run")
        watch = asyncio.create_task(_watch(client, identity, restart, runner))
        starting = asyncio.create_task(runner.start())
        await asyncio.sleep(0)
        signal.signal(signal.SIGINT, runner.handle_sigterm)  # end runs at work, then stop
        try:
            await starting
        finally:
            watch.cancel()


async def _watch(client: Any, identity: UUID, restart: Callable[[], None], runner: Any) -> None:
    """Keep the server up, and no more than one late run waiting; end with the deployment."""
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

    down = False
    while True:
        await asyncio.sleep(LOOK)
        try:
            await asyncio.to_thread(restart)
            down = False
            await client.read_deployment(identity)
            for run in _late(await client.read_flow_runs(**_waiting(identity)))[:-1]:
                await client.delete_flow_run(run.id)
        except ObjectNotFound:
            _say("the schedule was removed")
            runner.handle_sigterm()
            return
        except MnoError as error:
            if not down:
                _say(f"{error}; it is tried again until it does")
            down = True
        except (httpx.HTTPError, PrefectHTTPStatusError):
            continue  # the server is starting anew, or very busy


@contextmanager
def _server(root: Path, port: int | None) -> Iterator[Callable[[], None]]:
    """Have a Prefect server at a port, if one is given, and hand out what starts it anew."""
    if port is None:
        yield lambda: None
        return
    free_port(port)
    command = [program("prefect"), "server", "start", "--host", HOST, "--port", str(port)]
    api = f"http://{HOST}:{port}/api"
    settings = {"PREFECT_UI_API_URL": api, "PREFECT_API_SERVICES_SCHEDULER_LOOP_SECONDS": "20"}
    with ExitStack() as stack:
        running: list[Any] = []

        def restart() -> None:
            if not running or running[0].poll() is not None:
                stack.close()
                server = run_server(command, root, "prefect-schedule", settings)
                running[:] = [stack.enter_context(server)]
                wait_until_it_answers("prefect-schedule", running[0], port)

        restart()
        yield restart
