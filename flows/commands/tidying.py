"""Making room: `mno gc`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from flows.commands.app import Json, Quiet, print_json


def gc(
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove it; without this nothing is written.")
    ] = False,
    retention: Annotated[
        bool,
        typer.Option(
            "--retention",
            help="Spare the latest runs, within the room on disk: retention in params.yaml.",
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show what no registered version, alias, certificate or present state needs; remove it.

    Objects of DVC's cache, training runs with their files, packages that were never registered,
    snapshots and what killed work has left. What `mno audit` looks at stays, and so does what
    branches, tags and experiments in git name.

    Example: mno gc    then: mno gc --delete
    """
    from flows.tidying import tidy
    from flows.tidying_report import print_plan

    plan = tidy(delete, retention, quiet or as_json)
    if as_json:
        print_json({"deleted": delete, **plan.to_dict()})
    elif not quiet:
        print_plan(plan, delete, retention, Console(highlight=False, markup=False, soft_wrap=True))
