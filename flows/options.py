"""Options that several commands take."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console


def _preset_names(incomplete: str) -> list[str]:
    from flows.params import preset_names
    from flows.workspace import find_workspace

    return [name for name in preset_names(find_workspace()) if name.startswith(incomplete)]


def _parameter_keys(incomplete: str) -> list[str]:
    from flows.params import parameter_keys
    from flows.workspace import find_workspace

    return [f"{k}=" for k in parameter_keys(find_workspace()) if k.startswith(incomplete)]


Preset = Annotated[
    str | None,
    typer.Option(
        help="Take the parameters of presets/NAME.yaml (written into params.yaml): quick reaches "
        "a registered model within a minute, standard is worth looking at.",
        autocompletion=_preset_names,
        metavar="NAME",
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Set a parameter in params.yaml, as in --set train.epochs=40; may be repeated.",
        autocompletion=_parameter_keys,
        metavar="KEY=VALUE",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--dask-scheduler",
        help="Solve on a running Dask cluster, as tcp://10.0.0.5:8786; "
        "the same as --set execution.scheduler=…",
        metavar="ADDRESS",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print failures only.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON on stdout.")]


def interrupted() -> typer.Exit:
    """Say that Ctrl-C has ended a run; what is raised then ends the command."""
    typer.echo("\ninterrupted; what is finished is kept, run again to continue", err=True)
    return typer.Exit(130)


def print_json(value: Any) -> None:
    """Print an answer for a program."""
    typer.echo(json.dumps(value, indent=2))


def console(width: int | None = None, stderr: bool = False, quiet: bool = False) -> Console:
    """Return what prints lines as they are: no colours from words, no shortening."""
    return Console(
        highlight=False, markup=False, soft_wrap=True, width=width, stderr=stderr, quiet=quiet
    )
