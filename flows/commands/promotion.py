"""Who is in production, and who is told: `mno promote`, `mno notify`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from flows.commands.app import Json, Quiet, print_json
from mno.core.errors import InputError


def promote(
    version: Annotated[
        str | None,
        typer.Argument(help="Number of the version, or models:/NAME/VERSION."),
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option(help="Why; needed to approve or refuse what waits.", metavar="TEXT"),
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Go back to the champion before the present one.")
    ] = False,
    refuse: Annotated[
        bool, typer.Option("--refuse", help="Refuse the version, which waits for approval.")
    ] = False,
    waiting: Annotated[
        bool, typer.Option("--waiting", help="List the versions that wait for approval.")
    ] = False,
    history: Annotated[
        bool,
        typer.Option(
            "--history",
            help="Show what was in production from when to when, who decided, and why.",
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(help="Registered model; that of the current scenario if not given."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make a version champion by hand, approve or refuse one that waits, or go back.

    The version is loaded and must predict what was recorded before the alias moves to it. What
    the line itself promotes is said by the section promotion of params.yaml.

    Example: mno promote 3 --reason "tried on furnace 2 for a week"
    """
    from flows import promotion

    width = None if sys.stdout.isatty() else 240  # for files and pipes, which do not say theirs
    console = Console(highlight=False, markup=False, soft_wrap=True, width=width)
    wishes = {"VERSION": version, "--rollback": rollback, "--waiting": waiting}
    given = [name for name, value in {**wishes, "--history": history}.items() if value]
    if len(given) != 1:
        raise InputError(
            f"{' and '.join(given) or 'nothing'} given; expected one of VERSION, --rollback, "
            "--waiting and --history: mno promote --help"
        )
    if refuse and version is None:
        raise InputError(f"--refuse given with {given[0]}; expected: mno promote VERSION --refuse")
    if history or waiting:
        if reason is not None:
            raise InputError(f"--reason given with {given[0]}, which decides nothing; leave it out")
        found = promotion.read_history(model) if history else promotion.read_waiting(model)
        show = promotion.print_history if history else promotion.print_waiting
    else:
        options = promotion.PromoteOptions(version, reason, model, refuse, rollback)
        found, show = promotion.decide(options), promotion.print_decision
    if as_json:
        print_json(found)
    elif not quiet:
        show(found, console)


def notify(
    test: Annotated[
        bool, typer.Option("--test", help="Send an event to everybody in notify.yaml.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show who is told of failures, promotions and refusals; with --test, tell them something.

    Example: mno notify --test
    """
    from flows.telling import receivers, try_receivers

    found = try_receivers() if test else receivers()
    if as_json:
        print_json(found)
    elif not quiet:
        for line in found["lines"]:
            typer.echo(line)
    if found["problems"]:
        for problem in found["problems"]:
            typer.echo(f"error: {problem}", err=True)
        raise typer.Exit(1)
