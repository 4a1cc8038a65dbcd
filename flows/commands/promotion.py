"""Who is in production, and who is told: `mno promote`, `mno notify`."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.app import Json, Quiet, print_json


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
