"""The `mno` command itself, and the options that several of its words take."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mno import __version__


class _Words(TyperGroup):
    """Takes two words for a command's name where there is such a one, as in `mno audit verify`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments begin with (called by click)."""
        two = " ".join(args[:2])
        return super().resolve_command(ctx, [two, *args[2:]] if two in self.commands else args)


app = typer.Typer(
    cls=_Words,
    name="mno",
    help=(
        "The production line for neural operators.\n\n"
        "[bold]mno run[/bold] goes from a PDE solver to a registered model: it generates the data, "
        "trains, evaluates and registers, and redoes only what a change has made stale.\n\n"
        "Exit codes: 0 done, 1 failed, 2 wrong use, 3 an audit found a difference."
    ),
    epilog=(
        "Start with: mno run --preset quick    then: mno status    "
        "and: mno predict models:/mno-darcy@champion data predictions.zarr"
    ),
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


inspect_app = typer.Typer(
    help="Look at what the line has made, before going on with it.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(inspect_app, name="inspect")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mno {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Options of all commands."""


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


def print_json(value: Any) -> None:
    """Print an answer for a program."""
    typer.echo(json.dumps(value, indent=2))
