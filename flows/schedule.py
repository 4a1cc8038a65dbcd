"""Retraining by the clock: `mno schedule`, what is planned, and what became of its runs.

All of it is in files of the workspace, so that `mno status` can tell without Prefect, and a run
that was killed with its server is not forgotten. When the plan fires is said by Prefect's own
schedules (`flows.schedule_service`), so that both always agree.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from zoneinfo import ZoneInfo

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from flows.notify import Event, tell
from flows.options import Json, Quiet, console, interrupted, print_json
from flows.workspace import find_workspace, read_json
from mno.core.config import Config
from mno.core.errors import InputError
from mno.core.files import lock_holder, locked, write_json

# What knows Prefect is imported where it is used: it takes seconds.

FOLDER = Path("build/schedule")
PLAN = FOLDER / "schedule.json"
JOURNAL = FOLDER / "runs.json"
SERVER = FOLDER / "server.json"
SERVE_LOCK = Path("build/locks/schedule")
RETRAIN_LOCK = Path("build/locks/retrain")
GRACE = timedelta(minutes=2)
"""What a run may be late: Prefect looks every few seconds, and a busy machine takes longer."""
KILLED = "its process was killed; what it had finished is kept"
_WRITING = Path("build/locks/journal")
_KEPT = 100  # runs in the journal
_SHOWN = 5  # of them in a table
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


schedule_app = typer.Typer(
    help="Retrain by the clock, if there is a reason to: new data, changed parameters or code, or "
    "drift of what the service is asked.\n\n"
    'Begin with: mno schedule --cron "0 3 * * *" --timezone Asia/Tokyo    then: mno schedule serve',
    invoke_without_command=True,
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@schedule_app.callback()
def schedule(
    context: typer.Context,
    cron: Annotated[
        str | None,
        typer.Option(
            help='When, as in cron: minute hour day month weekday, "0 3 * * *".', metavar="CRON"
        ),
    ] = None,
    interval: Annotated[
        str | None,
        typer.Option(help="Or how often, as 30m, 1h or 2d.", metavar="TIME"),
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(
            help="In which --cron is read, as Asia/Tokyo; this machine's if not given.",
            metavar="NAME",
        ),
    ] = None,
    max_hours: Annotated[
        float | None,
        typer.Option(help="Stop a run that takes longer; the next one continues.", metavar="HOURS"),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Retrain by the clock, if there is a reason to."""
    given = {"--cron": cron, "--interval": interval, "--timezone": timezone}
    if context.invoked_subcommand is not None:
        wrong = [name for name, value in {**given, "--max-hours": max_hours}.items() if value]
        if wrong:
            raise InputError(
                f"{wrong[0]} given to mno schedule {context.invoked_subcommand}; expected alone: "
                'mno schedule --cron "0 3 * * *"'
            )
        return
    made = _create(cron, interval, timezone, max_hours)
    if as_json:
        print_json(made)
    elif not quiet:
        out = console()
        describe(made, out)
        out.print(
            "Next:      mno schedule serve, which runs it as long as it is running itself "
            "(as a systemd unit: docs/how-to/retrain-at-night.md);  mno schedule run, to try it now"
            if not made["serving"]
            else "Next:      nothing; mno schedule serve runs and takes it over"
        )


@schedule_app.command("list")
def list_schedule(as_json: Json = False) -> None:
    """Show what is scheduled and when it runs next, what was missed, and the last runs."""
    found = read_schedule()
    if as_json:
        print_json(found)
        return
    out = console()
    if found["plan"] is None:
        out.print('Nothing is scheduled. Next: mno schedule --cron "0 3 * * *"')
    else:
        describe(found, out)
    _describe_runs(found["runs"], out)


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
    """Schedule nothing any more; models, runs and their journal stay."""
    _change("remove", as_json, "Removed; mno schedule serve, if it runs, ends by itself.")


@schedule_app.command("run")
def run_now(quiet: Quiet = False, as_json: Json = False) -> None:
    """Do now what would be done at night: look for a reason, and retrain if there is one."""
    from flows.schedule_service import run_schedule

    start = time.monotonic()
    try:
        run = run_schedule(quiet or as_json)
    except KeyboardInterrupt:
        raise interrupted() from None
    if as_json:
        print_json(run)
    elif not quiet:
        out = console()
        for reason in run.get("reasons", []):
            out.print(f"Reason:  {reason}")
        out.print(f"\nDone in {time.monotonic() - start:.0f} s; {run['said']}.")
        out.print("Next:    mno schedule list;  mno status")
    if run["outcome"] == "busy":
        raise typer.Exit(1)


@schedule_app.command()
def serve(
    port: Annotated[
        int, typer.Option(min=0, help="Port of the Prefect server and its page; 0: a free one.")
    ] = 0,
    quiet: Quiet = False,
) -> None:
    """Run what is scheduled, on time, as long as this command runs; on this machine only."""
    from flows.schedule_service import serve as serve_schedule

    serve_schedule(port, quiet)


def _change(how: str, as_json: bool, line: str) -> None:
    """Pause, resume or remove what is scheduled."""
    root = find_workspace()
    plan = need_plan(root)
    from flows import schedule_service as service

    with service.prefect_server(root):
        if how == "remove":
            service.remove(root, plan)
        else:
            service.set_paused(root, plan, how == "pause")
    if as_json:
        print_json(read_schedule())
    else:
        typer.echo(line)


def _create(
    cron: str | None, interval: str | None, timezone: str | None, max_hours: float | None
) -> dict[str, Any]:
    """Schedule the workspace's retraining in place of what was scheduled before."""
    root = find_workspace()
    if (cron is None) == (interval is None):
        raise InputError(
            'expected --cron "0 3 * * *" or --interval 1h, one of them; see mno schedule --help'
        )
    if max_hours is not None and not 0.0 < max_hours < math.inf:
        raise InputError(f"--max-hours {max_hours}: expected a number of hours above 0, as 6")
    plan = Plan(
        cron=cron,
        interval=None if interval is None else parse_interval(interval),
        timezone=parse_timezone(timezone),
        max_hours=max_hours,
        since=now().isoformat(),
    )
    from flows import schedule_service as service

    if cron is not None:
        service.check_cron(plan)
    with service.prefect_server(root):
        service.create(root, plan)
    return read_schedule()


def read_schedule() -> dict[str, Any]:
    """Return what `mno schedule list --json` prints.

    Keys: `plan` (see `Plan`, or null), `next` (ISO 8601, or null), `overdue` (one line, or null),
    `serving` (who serves it, or null), `runs` (see `Journal`, the newest last).
    """
    root = find_workspace()
    plan, known = read_plan(root), read_journal(root)
    runs = known.runs
    if lock_holder(root / RETRAIN_LOCK) is None:
        runs = [{**run, "outcome": run["outcome"] or "crashed"} for run in runs]
    return {
        "plan": plan.model_dump() if plan else None,
        "next": known.due if plan and not plan.paused else None,
        "overdue": overdue(root, plan),
        "serving": serving(root),
        "runs": runs,
    }


def describe(found: dict[str, Any], console: Console) -> None:
    """Print a plan, what serves it, and what it has missed."""
    plan, serves = Plan.model_validate(found["plan"]), found["serving"]
    limit = f", at most {plan.max_hours:g} h" if plan.max_hours else ""
    console.print(f"Schedule:  {plan.words}{limit}{', paused' if plan.paused else ''}")
    if found["overdue"]:
        console.print(f"Missed:    {found['overdue']}")
    elif found["next"]:
        console.print(f"Next run:  {local(found['next'])}")
    console.print(
        f"Served by: process {serves['pid']}, since {local(serves['since'])}; {serves['api']}"
        if serves
        else "Served by: nobody; start mno schedule serve"
    )


def _describe_runs(runs: list[dict[str, Any]], console: Console) -> None:
    """Print the last runs as a table."""
    table = Table("Began", "Outcome", "Why, and what came of it", box=None, pad_edge=False)
    for run in runs[-_SHOWN:]:
        reasons = "; ".join(run.get("reasons") or [])
        said = f"{reasons} → {run['said']}" if reasons else run["said"]
        table.add_row(local(run["began"]), run["outcome"] or "running", said)
    if runs:
        console.print()
        console.print(table)


class Plan(Config):
    """When a workspace retrains, by `cron` or every `interval` seconds."""

    cron: str | None = None  # read in the time zone, of the IANA database
    interval: float | None = None
    timezone: str = "UTC"
    max_hours: float | None = None  # a run that takes longer is stopped
    since: str = ""  # when it was made, or resumed last, ISO 8601; an interval counts from here
    paused: bool = False
    deployment: str = ""  # Prefect's id of it

    @property
    def words(self) -> str:
        """The plan in words."""
        if self.interval is None:
            return f"cron {self.cron} in {self.timezone}"
        for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
            if self.interval >= length and self.interval % length == 0:
                return f"every {self.interval / length:g}{unit}"
        return f"every {self.interval:g}s"


def read_plan(root: Path) -> Plan | None:
    """Return what is scheduled in a workspace; none if nothing is, or the file cannot be read."""
    try:
        return Plan.model_validate_json((root / PLAN).read_bytes())
    except (OSError, ValidationError):
        return None


def write_plan(root: Path, plan: Plan) -> None:
    """Keep what is scheduled."""
    write_json(root / PLAN, plan.model_dump())


def need_plan(root: Path) -> Plan:
    """Return what is scheduled; refuse to go on where nothing is."""
    plan = read_plan(root)
    if plan is None:
        raise InputError(
            'nothing is scheduled in this workspace; begin with: mno schedule --cron "0 3 * * *"'
        )
    return plan


def parse_interval(text: str) -> float:
    """Return the seconds of `30m`, `1h` or `2d`; refuse what is no time, or below a second."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)", text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
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


def local(time: str | datetime) -> str:
    """Return a moment for a person, in this machine's time, as `2026-11-26 03:00`."""
    moment = datetime.fromisoformat(time) if isinstance(time, str) else time
    near = abs(now() - moment) < timedelta(minutes=10)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S" if near else "%Y-%m-%d %H:%M")


def now() -> datetime:
    """Return the present moment, with this machine's time zone."""
    return datetime.now().astimezone()


class Journal(NamedTuple):
    """The last runs, the newest last, and when the plan wants one that has not begun (ISO 8601).

    A run has `id` (of the flow run), `scheduled`, `began`, `ended` (ISO 8601), `pid`, `outcome`
    (`trained`, `updated`, `nothing changed`, `failed`, `too long`, `busy`, `cancelled`, `crashed`),
    `reasons` and `said`, in one line. While it runs, there is no `ended` and no `outcome`.
    """

    runs: list[dict[str, Any]]
    due: str | None


def read_journal(root: Path) -> Journal:
    """Return what is known of a workspace's runs."""
    content = read_json(root / JOURNAL)
    runs = content.get("runs")
    return Journal(runs if isinstance(runs, list) else [], content.get("due"))


def _write(root: Path, change: Callable[[Journal], Journal]) -> list[dict[str, Any]]:
    with locked(root / _WRITING, "the journal of runs", patience=30.0):
        runs, due = change(read_journal(root))
        write_json(root / JOURNAL, {"due": due, "runs": runs[-_KEPT:]})
    return runs


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def set_due(root: Path, due: datetime | None) -> None:
    """Note when a run is wanted next."""
    _write(root, lambda known: known._replace(due=_iso(due)))


def begin(root: Path, run: dict[str, Any], due: datetime | None) -> None:
    """Note that a run began, and when the next is due."""
    started = {
        **run, "began": now().isoformat(timespec="seconds"), "ended": None, "pid": os.getpid(),
        "outcome": None, "reasons": [], "said": "",
    }  # fmt: skip

    def change(known: Journal) -> Journal:
        others = [other for other in known.runs if other.get("id") != run["id"]]
        return Journal([*others, started], _iso(due))

    _write(root, change)


def end(root: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Note how a run ended, by its `id`; returns all that is known of it."""
    ended = {**run, "ended": now().isoformat(timespec="seconds")}

    def change(known: Journal) -> Journal:
        runs = [{**r, **ended} if r.get("id") == run["id"] else r for r in known.runs]
        return known._replace(runs=runs)

    return next((r for r in _write(root, change) if r.get("id") == run["id"]), ended)


def end_crashed(root: Path) -> list[dict[str, Any]]:
    """Note of the runs that have not ended that they crashed; returns those.

    Call it only where none can be alive: while holding `RETRAIN_LOCK`, or where nobody does.
    """
    open_runs = [run for run in read_journal(root).runs if run.get("outcome") is None]
    return [end(root, {"id": run["id"], "outcome": "crashed", "said": KILLED}) for run in open_runs]


def overdue(root: Path, plan: Plan | None = None) -> str | None:
    """Say, in one line, that a run was due and did not begin; none if all is as planned."""
    plan = plan or read_plan(root)
    due = read_journal(root).due
    if plan is None or plan.paused or due is None:
        return None
    if now() < datetime.fromisoformat(due) + GRACE or lock_holder(root / RETRAIN_LOCK):
        return None
    why = "mno schedule serve runs" if serving(root) else "no mno schedule serve runs"
    return f"should have run at {local(due)}, did not: {why}"


def serving(root: Path) -> dict[str, Any] | None:
    """Return what serves the plan (`pid`, `since`, `api`), or none."""
    who = lock_holder(root / SERVE_LOCK)
    return who and {**who, "api": read_json(root / SERVER).get("api")}


def tell_of(root: Path, event: Event, say: Callable[[str], None]) -> None:
    """Tell of an event; `say` is handed a line for each receiver that was not reached."""
    for problem in tell(root, event):
        say(f"could not tell of it: {problem}")


def failure(root: Path, run: dict[str, Any], title: str, command: str) -> Event:
    """Return what is told of a run that is known by its entry in the journal."""
    figures = {"began": run.get("began"), "reasons": "; ".join(run.get("reasons") or [])}
    return Event("failure", title, run["said"], command, figures, str(root))


def tell_of_failure(root: Path, run: dict[str, Any], say: Callable[[str], None]) -> None:
    """Tell of a run that failed, took too long or crashed."""
    title = f"Scheduled retraining: {run['outcome']}"
    tell_of(root, failure(root, run, title, "mno schedule run"), say)
