"""Retraining by the clock: `mno schedule`, what is planned, and what became of its runs.

Prefect alone knows both. It is asked here without being imported, which takes seconds: a server
that is named or that serves the plan over HTTP, else the database in the workspace.
"""

import json
import math
import os
import platform
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from flows.options import Json, Quiet, answer, command_group, interruptible, seconds_of
from flows.workspace import aligned, find_workspace
from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import lock_holder, sha256

SERVE_LOCK = Path("build/locks/schedule")
RETRAIN_LOCK = Path("build/locks/retrain")
GRACE = timedelta(minutes=2)
"""What a run may be late: Prefect looks every few seconds, and a busy machine takes longer."""
KILLED = "its process was killed; what it had finished is kept"
LABEL = "mno.run"  # of a flow run: what is known of it besides its state, see `read_schedule`
_BY_CLOCK = "auto-scheduled"  # Prefect's tag
_LISTED = 100  # runs
_SHOWN = 5  # of them in a table

schedule_app = command_group(
    "Retrain by the clock, if there is a reason to: new data, changed parameters or code, or "
    "drift of what the service is asked.\n\n"
    'Begin with: mno schedule --cron "0 3 * * *" --timezone Asia/Tokyo    then: mno schedule serve',
    invoke_without_command=True,
)


@schedule_app.callback()
def schedule(
    context: typer.Context,
    cron: Annotated[str | None, typer.Option(
        help='Minute hour day month weekday, as "0 3 * * *".', metavar="CRON")] = None,
    interval: Annotated[str | None, typer.Option(
        help="Or how often, as 30m, 1h or 2d.", metavar="TIME")] = None,
    timezone: Annotated[str | None, typer.Option(
        help="Of --cron, as Asia/Tokyo; this machine's if not given.", metavar="NAME")] = None,
    max_hours: Annotated[float | None, typer.Option(
        help="Stop a run that takes longer; the next one continues.", metavar="HOURS")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Retrain by the clock, if there is a reason to."""
    given = {"--cron": cron, "--interval": interval, "--timezone": timezone}
    given |= {"--max-hours": max_hours, "--json": as_json}
    if context.invoked_subcommand is not None:
        wrong = [name for name, value in given.items() if value]
        if wrong:
            raise InputError(
                f"{wrong[0]} stands before {context.invoked_subcommand}; leave it out, or give it "
                f"behind, as far as mno schedule {context.invoked_subcommand} --help names it"
            )
        return
    if (cron is None) == (interval is None):
        raise InputError(
            'expected --cron "0 3 * * *" or --interval 1h, one of them; see mno schedule --help'
        )
    if max_hours is not None and not 0.0 < max_hours < math.inf:
        raise InputError(f"--max-hours {max_hours}: expected a number of hours above 0, as 6")
    every = {"cron": cron} if interval is None else {"interval": parse_interval(interval)}
    clock = {**every, "timezone": parse_timezone(timezone)}
    from flows import schedule_service as service

    root = find_workspace()
    if cron is not None:
        service.check_cron(clock)
    with service.prefect_server(root):
        service.create(root, clock, max_hours)
    answer(read_schedule(root), as_json, False, _print_made)


@schedule_app.command("list")
def list_schedule(as_json: Json = False) -> None:
    """Show what is scheduled and when it runs next, what was missed, and the last runs."""
    answer(read_schedule(find_workspace()), as_json, False, _print_schedule)


def _print_made(made: dict[str, Any]) -> None:
    _describe(made)
    print(
        "Next:      mno schedule serve, which runs it as long as it is running itself "
        "(as a systemd unit: docs/deploy.md);  mno schedule run, to try it now"
    )


def _print_schedule(found: dict[str, Any]) -> None:
    if found["plan"] is None:
        print('Nothing is scheduled. Next: mno schedule --cron "0 3 * * *"')
    else:
        _describe(found)
    last = found["runs"][-_SHOWN:]
    rows = [(local(run["began"]), run["outcome"] or "running", why_and_what(run)) for run in last]
    if rows:
        print(f"\n{aligned(('Began', 'Outcome', 'Why, and what came of it'), rows)}")


@schedule_app.command()
def pause(as_json: Json = False) -> None:
    """Let nothing run by the clock until it is resumed; a run at work goes on."""
    _change("pause", as_json, "Paused. Next: mno schedule resume")


@schedule_app.command()
def resume(as_json: Json = False) -> None:
    """Run by the clock again; what was paused over is not made up for."""
    _change("resume", as_json, "Resumed. Next: mno schedule list")


@schedule_app.command()
def remove(as_json: Json = False) -> None:
    """Schedule nothing any more; models and runs stay."""
    _change("remove", as_json, "Removed; mno schedule serve, if it runs, ends by itself.")


@schedule_app.command("run")
def run_now(quiet: Quiet = False, as_json: Json = False) -> None:
    """Do now what would be done at night: look for a reason, and retrain if there is one."""
    from flows.schedule_service import run_schedule

    start = time.monotonic()
    with interruptible():
        run = run_schedule(quiet or as_json)

    def show(run: dict[str, Any]) -> None:
        for reason in run.get("reasons", []):
            print(f"Reason:  {reason}")
        print(f"\nDone in {time.monotonic() - start:.0f} s; {run['said']}.")
        print("Next:    mno schedule list;  mno status")

    answer(run, as_json, quiet, show)
    if run["outcome"] == "busy":
        raise typer.Exit(1)


@schedule_app.command()
def serve(
    port: Annotated[int, typer.Option(
        min=0, help="Port of the Prefect server and its page; 0: a free one.")] = 0,
) -> None:  # fmt: skip
    """Run what is scheduled, on time, as long as this command runs; on this machine only."""
    from flows.schedule_service import serve as serve_schedule

    serve_schedule(port)


def _change(how: str, as_json: bool, line: str) -> None:
    root = find_workspace()
    plan = need_plan(root)
    from flows import schedule_service as service

    with service.prefect_server(root):
        service.change(plan, how)
    answer(read_schedule(root), as_json, False, lambda _: print(line))


def need_plan(root: Path) -> dict[str, Any]:
    """Return what is scheduled; refuse to go on where nothing is."""
    if (plan := read_schedule(root)["plan"]) is None:
        raise InputError(
            'nothing is scheduled in this workspace; begin with: mno schedule --cron "0 3 * * *"'
        )
    return plan


def read_schedule(root: Path) -> dict[str, Any]:
    """Return what Prefect knows of a workspace's schedule, as `mno schedule list --json` prints it.

    Keys: `plan` (or null; its `words`, `schedule` as Prefect has it, `max_hours`, `paused`,
    `deployment`), `next` (ISO 8601, or null), `overdue` (one line if a run
    was due and did not begin, or null), `serving` (who serves it: `pid`, `since`, `api`, or null),
    and `runs`, those of the last hundred that had the workspace to themselves, the newest last.

    A run has `id` (of the flow run), `scheduled`, `began`, `ended` (ISO 8601), `missed` (when the
    run should have begun that it makes up for), `outcome` (`trained`, `updated`, `nothing changed`,
    `failed`, `too long`, `busy`, `cancelled`, `crashed`), `reasons`, and `said`, in one line. While
    it runs there is no `ended` and no `outcome`.
    """
    serves, plan, overdue = serving(root), None, None
    api = os.environ.get("PREFECT_API_URL") or (serves["api"] if serves else "")
    deployment, due, runs = _ask_server(api, root) if api else _ask_database(root)
    alive = lock_holder(root / RETRAIN_LOCK) is not None
    if deployment:
        clock = next((one["schedule"] for one in deployment["schedules"]), {})
        plan = {
            "words": _words(clock), "schedule": clock,
            "max_hours": deployment["parameters"]["max_hours"],
            "paused": bool(deployment["paused"]), "deployment": deployment["id"],
        }  # fmt: skip
    if plan is None or plan["paused"]:
        due = None
    if due is not None and moment(due) + GRACE < now() and not alive:
        why = "mno schedule serve runs" if serves else "no mno schedule serve runs"
        overdue = f"should have run at {local(due)}, did not: {why}"
    return {
        "plan": plan, "next": due and moment(due).isoformat(), "overdue": overdue,
        "serving": serves, "runs": [_run(found, alive) for found in reversed(runs)],
    }  # fmt: skip


def _words(clock: Mapping[str, Any]) -> str:
    if (seconds := clock.get("interval")) is None:
        return f"cron {clock.get('cron')} in {clock.get('timezone')}"
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"every {seconds / length:g}{unit}"
    return f"every {seconds:g}s"


def _run(found: Mapping[str, Any], alive: bool) -> dict[str, Any]:
    """Return what is known of a run; where none can be alive, one that has not ended was killed."""
    began, ended = found["start_time"], found["end_time"]
    run = {
        "id": found["id"], "scheduled": moment(found["expected_start_time"]).isoformat(),
        "began": moment(began).isoformat(timespec="seconds"),
        "ended": ended and moment(ended).isoformat(timespec="seconds"),
        "missed": found["parameters"].get("missed"), "outcome": None, "reasons": [], "said": "",
        **noted(found["labels"]),
    }  # fmt: skip
    if run["outcome"] is None and ended:  # without a word of its own
        run |= {"outcome": found["state_name"].lower(), "said": found["state"]["message"] or ""}
    elif run["outcome"] is None and not alive:
        run |= {"outcome": "crashed", "said": KILLED}
    return run


def noted(labels: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a run has noted of itself, from the labels of the flow run."""
    return json.loads((labels or {}).get(LABEL, "{}"))


def why_and_what(run: Mapping[str, Any]) -> str:
    """Return a run's reasons, if there were any, and what came of it, in one line."""
    return " → ".join(filter(None, ("; ".join(run["reasons"]), run["said"])))


def deployment_name(root: Path) -> str:
    """Return the name of a workspace's deployment; two folders of one name have two."""
    return f"{root.name.replace('%', '-')}-{sha256(str(root))[:6]}"


def mark(root: Path) -> str:
    """Return the tag of the flow runs that have had a workspace to themselves."""
    return f"mno:{platform.node()}:{root}"


_Answer = tuple[dict[str, Any] | None, str | None, list[dict[str, Any]]]
"""The deployment, when its next run is due (or was, if it has not begun), the newest runs first."""


def _ask_server(api: str, root: Path) -> _Answer:
    """Ask over HTTP; answers are Prefect's own, see its pages for /deployments and /flow_runs."""
    import httpx

    key, login = (os.environ.get(f"PREFECT_API_{name}") for name in ("KEY", "AUTH_STRING"))
    headers = {"Authorization": f"Bearer {key}"} if key else {}

    def ask(order: str, limit: int, flow_runs: dict[str, Any]) -> list[dict[str, Any]]:
        flows = {"name": {"any_": ["retrain"]}}
        asked = {"flow_runs": flow_runs, "flows": flows, "sort": order, "limit": limit}
        return client.post("/flow_runs/filter", json=asked).raise_for_status().json()

    try:
        auth = httpx.BasicAuth(*login.split(":", 1)) if login else None
        with httpx.Client(base_url=api, headers=headers, auth=auth, timeout=10.0) as client:
            found = client.get(f"/deployments/name/retrain/{deployment_name(root)}")
            missing = found.status_code == httpx.codes.NOT_FOUND
            deployment = None if missing else found.raise_for_status().json()
            of_it = {"any_": [deployment["id"]]} if deployment else {"any_": []}
            scheduled = {"deployment_id": of_it, "state": {"type": {"any_": ["SCHEDULED"]}}}
            scheduled["tags"] = {"all_": [_BY_CLOCK]}
            waiting = ask("NEXT_SCHEDULED_START_TIME_ASC", 1, scheduled) if deployment else []
            begun = {"tags": {"all_": [mark(root)]}, "start_time": {"is_null_": False}}
            runs = ask("START_TIME_DESC", _LISTED, begun)
    except (httpx.HTTPError, httpx.InvalidURL, TypeError, ValueError) as error:
        raise MnoError(
            f"Prefect's server at {api} does not answer ({first_line(error)}); is it running? "
            "PREFECT_API_URL says where it is"
        ) from None
    return deployment, next((run["next_scheduled_start_time"] for run in waiting), None), runs


_DEPLOYMENT = """
    SELECT json_object(
        'id', deployment.id, 'paused', paused, 'parameters', json(parameters),
        'schedules', (SELECT json_group_array(json_object('schedule', json(schedule)))
                      FROM deployment_schedule WHERE deployment_id = deployment.id))
    FROM deployment JOIN flow ON flow.id = flow_id
    WHERE flow.name = 'retrain' AND deployment.name = ?"""
_DUE = """
    SELECT min(next_scheduled_start_time) FROM flow_run
    WHERE deployment_id = ? AND state_type = 'SCHEDULED'
        AND EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)"""
_RUNS = """
    SELECT json_object(
        'id', run.id, 'state_name', state_name, 'state', json_object('message', message),
        'expected_start_time', expected_start_time, 'start_time', start_time,
        'end_time', end_time, 'parameters', json(parameters), 'labels', json(run.labels))
    FROM flow_run AS run
    JOIN flow ON flow.id = run.flow_id
    LEFT JOIN flow_run_state AS state ON state.id = run.state_id
    WHERE flow.name = 'retrain' AND start_time IS NOT NULL
        AND EXISTS (SELECT 1 FROM json_each(run.tags) WHERE value = ?)
    ORDER BY start_time DESC LIMIT ?"""


def _ask_database(root: Path) -> _Answer:
    """Ask the database of the workspace's own servers, in the form in which a server answers."""
    home = Path(os.environ.get("PREFECT_HOME", root / ".prefect")).expanduser()
    file = home.absolute() / "prefect.db"
    if not file.exists():
        return None, None, []
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=10.0)) as known:
            found = known.execute(_DEPLOYMENT, [deployment_name(root)]).fetchone()
            deployment = json.loads(found[0]) if found else None
            (due,) = known.execute(_DUE, [deployment and deployment["id"], _BY_CLOCK]).fetchone()
            runs = known.execute(_RUNS, [mark(root), _LISTED]).fetchall()
    except sqlite3.Error as error:
        raise MnoError(f"{file}, Prefect's database, cannot be read: {error}") from None
    return deployment, due, [json.loads(run) for (run,) in runs]


def serving(root: Path) -> dict[str, Any] | None:
    """Return what serves the plan (`pid`, `since`, `api`), or none."""
    who = lock_holder(root / SERVE_LOCK)
    return who and {**who, "api": str(who["activity"]).rpartition(" at ")[2]}


def _describe(found: dict[str, Any]) -> None:
    plan, serves = found["plan"], found["serving"]
    limit = f", at most {plan['max_hours']:g} h" if plan["max_hours"] else ""
    print(f"Schedule:  {plan['words']}{limit}{', paused' if plan['paused'] else ''}")
    if found["overdue"]:
        print(f"Missed:    {found['overdue']}")
    elif found["next"]:
        print(f"Next run:  {local(found['next'])}")
    who = "nobody; start mno schedule serve"
    if serves:
        who = f"process {serves['pid']}, since {local(serves['since'])}; {serves['api']}"
    print(f"Served by: {who}")


def parse_interval(text: str) -> float:
    """Return the seconds of `30m`, `1h` or `2d`; refuse what is below a second or above a year."""
    seconds = seconds_of("--interval", text)
    if not 1.0 <= seconds <= 366 * 86400:
        raise InputError(f"--interval {text}: expected a time of 1s to 366d, as 30m, 1h or 2d")
    return seconds


def parse_timezone(name: str | None) -> str:
    """Return a time zone that exists, this machine's (or UTC) for none; refuse other names."""
    # The ways in which systems name their own.
    link = os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2]
    own = (os.environ.get("TZ", "").lstrip(":"), link, "UTC")
    for known in own if name is None else (name,):
        with suppress(ValueError, OSError, KeyError):  # which it is differs by system
            return ZoneInfo(known).key
    raise InputError(
        f"--timezone {name}: there is no such time zone; expected a name like Asia/Tokyo, "
        "Europe/Berlin or UTC"
    )


def moment(text: str) -> datetime:
    """Return a moment from ISO 8601, in this machine's time zone; in UTC where none is given."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone()


def local(text: str) -> str:
    """Return a moment for a person, in this machine's time, as `2026-11-26 03:00`."""
    near = abs(now() - moment(text)) < timedelta(minutes=10)
    return moment(text).strftime("%Y-%m-%d %H:%M:%S" if near else "%Y-%m-%d %H:%M")


def now() -> datetime:
    """Return the present moment, with this machine's time zone."""
    return datetime.now().astimezone()
