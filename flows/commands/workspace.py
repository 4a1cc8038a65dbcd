"""The workspace: `mno status`, `mno doctor`, `mno ui`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from flows.commands.app import Json, print_json


def status(as_json: Json = False) -> None:
    """Show in one screen what is current, stale, running and registered."""
    from flows.status import print_status, read_status

    found = read_status()
    if as_json:
        print_json(found)
    else:
        print_status(found, Console(highlight=False, markup=False, soft_wrap=True))


def doctor(
    versions: Annotated[
        bool,
        typer.Option(
            "--versions",
            help="Try every registered version; otherwise those with an alias and the ten latest.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check packages, workspace, locks, disk, leftovers and registered models; say what to do.

    Registered models are loaded and predict what their evaluation predicted: after an upgrade it
    says which no longer do.

    Example: mno doctor --versions
    """
    from flows.doctor import examine, print_findings

    findings = examine(versions, quiet=as_json)
    if as_json:
        print_json([finding.__dict__ for finding in findings])
    else:
        print_findings(findings, Console(highlight=False, markup=False, soft_wrap=True))
    if any(finding.verdict == "problem" for finding in findings):
        raise typer.Exit(1)


def ui(
    mlflow_port: Annotated[
        int, typer.Option(help="Port of MLflow's pages; 0 takes a free one.")
    ] = 5000,
    prefect_port: Annotated[
        int, typer.Option(help="Port of Prefect's pages; 0 takes a free one.")
    ] = 4200,
) -> None:
    """Serve MLflow's and Prefect's pages on this machine only, until Ctrl-C."""
    from flows.pages import serve_pages

    serve_pages(mlflow_port, prefect_port)
