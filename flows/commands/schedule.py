"""Retraining by the clock: `mno schedule`."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Console

from flows.commands.app import Json, Quiet, print_json
from mno.core.errors import InputError

schedule_app = typer.Typer(
    help="Retrain by the clock, if there is a reason to: new data, changed parameters or code, or "
    "drift of what the service is asked.\n\n"
    'Begin with: mno schedule --cron "0 3 * * *" --timezone Asia/Tokyo    then: mno schedule serve',
    invoke_without_command=True,
    no_args_is_help=True,
    rich_markup_mode="rich",
)


def _console() -> Console:
    return Console(highlight=False, markup=False, soft_wrap=True)


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
    from flows.scheduling.commands import create_schedule, describe

    made = create_schedule(cron, interval, timezone, max_hours)
    if as_json:
        print_json(made)
    elif not quiet:
        console = _console()
        describe(made, console)
        console.print(
            "Next:      mno schedule serve, which runs it as long as it is running itself "
            "(as a systemd unit: docs/how-to/retrain-at-night.md);  mno schedule run, to try it now"
            if not made["serving"]
            else "Next:      nothing; mno schedule serve runs and takes it over"
        )


@schedule_app.command("list")
def list_schedule(as_json: Json = False) -> None:
    """Show what is scheduled and when it runs next, what was missed, and the last runs."""
    from flows.scheduling.commands import describe, describe_runs, read_schedule

    found = read_schedule()
    if as_json:
        print_json(found)
        return
    console = _console()
    if found["plan"] is None:
        console.print('Nothing is scheduled. Next: mno schedule --cron "0 3 * * *"')
    else:
        describe(found, console)
    describe_runs(found, console)


@schedule_app.command()
def pause(as_json: Json = False) -> None:
    """Let nothing run by the clock until it is resumed; a run at work goes on."""
    from flows.scheduling.commands import pause_schedule

    _changed(pause_schedule(True), as_json, "Paused. Next: mno schedule resume")


@schedule_app.command()
def resume(as_json: Json = False) -> None:
    """Run by the clock again; what was paused over is not made up for."""
    from flows.scheduling.commands import pause_schedule

    _changed(pause_schedule(False), as_json, "Resumed. Next: mno schedule list")


@schedule_app.command()
def remove(as_json: Json = False) -> None:
    """Schedule nothing any more; models, runs and their journal stay."""
    from flows.scheduling.commands import remove_schedule

    _changed(remove_schedule(), as_json, "Removed; mno schedule serve, if it runs, ends by itself.")


@schedule_app.command("run")
def run_now(quiet: Quiet = False, as_json: Json = False) -> None:
    """Do now what would be done at night: look for a reason, and retrain if there is one."""
    from flows.scheduling.commands import run_schedule

    start = time.monotonic()
    try:
        run = run_schedule(quiet or as_json)
    except KeyboardInterrupt:
        typer.echo("\ninterrupted; what is finished is kept, run again to continue", err=True)
        raise typer.Exit(130) from None
    if as_json:
        print_json(run)
    elif not quiet:
        console = _console()
        for reason in run.get("reasons", []):
            console.print(f"Reason:  {reason}")
        console.print(f"\nDone in {time.monotonic() - start:.0f} s; {run['said']}.")
        console.print("Next:    mno schedule list;  mno status")
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
    from flows.scheduling.serving import serve as serve_schedule

    serve_schedule(port, quiet)


def _changed(found: dict[str, Any], as_json: bool, line: str) -> None:
    if as_json:
        print_json(found)
    else:
        typer.echo(line)
