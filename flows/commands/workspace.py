"""The workspace: `mno status`, `mno doctor`, `mno ui`, `mno serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.commands.app import Json, Quiet, print_json


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


def serve(
    alias: Annotated[
        str, typer.Option(help="Serve the version that has this alias, and follow it.")
    ] = "champion",
    model: Annotated[
        str | None,
        typer.Option(help="Registered model; that of the current scenario if not given."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 serves other machines, too.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, help="Port; 0 takes a free one.")] = 5002,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with a token of 8 characters or more that clients must send; or set "
            "MNO_SERVE_TOKEN.",
            metavar="FILE",
        ),
    ] = None,
    max_body: Annotated[
        float, typer.Option(min=0.001, help="Largest request, MiB.", metavar="MIB")
    ] = 64.0,
    max_batch: Annotated[
        int, typer.Option(min=1, help="Samples of waiting requests that are predicted at once.")
    ] = 32,
    timeout: Annotated[
        float,
        typer.Option(min=0.1, help="Time in which a request is answered, s.", metavar="SECONDS"),
    ] = 120.0,
    poll: Annotated[
        float,
        typer.Option(min=0.1, help="Time between looks at the alias, s.", metavar="SECONDS"),
    ] = 2.0,
    solver_timeout: Annotated[
        float,
        typer.Option(
            min=0.1, help="Time in which the page's solver must be done, s.", metavar="SECONDS"
        ),
    ] = 60.0,
    quiet: Quiet = False,
) -> None:
    """Answer requests for predictions over HTTP, by MLflow's protocol; follow the champion.

    Example: mno serve --port 5002    then: curl http://127.0.0.1:5002/model
    or open http://127.0.0.1:5002/ to try the model by hand.
    """
    from flows.serving import ServeOptions
    from flows.serving import serve as run_service
    from mno.serving.config import ServingConfig

    config = ServingConfig(
        max_body_mib=max_body,
        max_batch=max_batch,
        answer_timeout=timeout,
        poll_interval=poll,
        solver_timeout=solver_timeout,
    )
    run_service(ServeOptions(alias, model, host, port, token_file, config, quiet))
