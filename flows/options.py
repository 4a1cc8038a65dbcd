"""Options that several commands take."""

import json
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mno.core.errors import InputError

_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([a-z]+)\s*")

Preset = Annotated[str | None, typer.Option(
    help="Take the parameters of presets/NAME.yaml (written into params.yaml): quick is a "
    "first look in the least time, furnace-small what a fresh checkout has.", metavar="NAME"
)]  # fmt: skip
Scenario = Annotated[str | None, typer.Option(
    help="Take this scenario, as --set scenario=NAME does; --preset darcy beside it takes settings "
    "that fit fields.", metavar="NAME"
)]  # fmt: skip
Assignments = Annotated[list[str] | None, typer.Option(
    "--set", help="Set a parameter in params.yaml, as in --set train.epochs=40; may be repeated.",
    metavar="KEY=VALUE"
)]  # fmt: skip
TableMapping = Annotated[Path | None, typer.Option(
    help="File that says what the table's columns are.", metavar="FILE")]  # fmt: skip
Model = Annotated[str, typer.Argument(
    help="models:/NAME@ALIAS, models:/NAME/VERSION or a model's folder.")]  # fmt: skip


def _computing_on(device: str | None) -> str | None:
    if device:
        from mno.core.device import DEVICE, asked_device

        os.environ[DEVICE] = device  # for all processes of the command
        asked_device()
    return device


Device = Annotated[str | None, typer.Option(
    callback=_computing_on, help="Train, or predict, on cpu or cuda. If not given, training takes "
    "a GPU where there is one; an evaluation measures the processor in any case.",
    metavar="cpu|cuda")]  # fmt: skip
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print failures only.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON on stdout.")]


def seconds_of(option: str, text: str) -> float:
    """Return the seconds of a time that an option is given, such as `40ms`, `3.5s` or `1h`."""
    found = _DURATION.fullmatch(text)
    try:
        seconds = float(found[1]) * _UNITS[found[2]] if found else math.nan
    except (ValueError, KeyError):
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InputError(
            f"{option} {text!r}: expected a number above 0 and its unit ({', '.join(_UNITS)}), as "
            "30m, 1.5h or 2d"
        )
    return seconds


@contextmanager
def interruptible(said: str = "what is finished is kept, run again to continue") -> Iterator[None]:
    """End the command where Ctrl-C or a plain kill ends the body, and say what came of it."""
    code = 130

    def end(*_: object) -> None:
        nonlocal code
        code = 143
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\ninterrupted; {said}", err=True)
        raise typer.Exit(code) from None
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def writing_to(place: object, remedy: str = "") -> Iterator[None]:
    """Refuse in one line a place that the body cannot write to."""
    try:
        yield
    except BrokenPipeError:  # the reader of our output has gone
        raise
    except OSError as error:
        raise InputError(f"cannot write to {place}: {error.strerror or error}{remedy}") from None


def command_group(words: str, **settings: Any) -> typer.Typer:
    """Return what holds subcommands."""
    return typer.Typer(help=words, no_args_is_help=True, rich_markup_mode="rich", **settings)


Say = Callable[[str], None]


def teller(quiet: bool) -> Say:
    """Return what is handed lines for the person who watches; if quiet, failures alone are said."""
    out = console(stderr=True)

    def say(line: str) -> None:
        if not quiet or ": failed: " in line or line.lower().startswith("error"):
            out.print(line)

    return say


def print_json(value: Any) -> None:
    """Print an answer for a program."""
    typer.echo(json.dumps(value, indent=2))


def answer(
    result: Any, as_json: bool, quiet: bool, show: Callable[[Any], object], failed: str = ""
) -> None:
    """Print what a command has found, for a program or a person, or nothing; then why it fails."""
    if as_json:
        print_json({**result, "error": failed, "exit_code": 1} if failed else result)
    elif not quiet:
        show(result)
    if failed:
        typer.echo(f"error: {failed}", err=True)
        raise typer.Exit(1)


def console(width: int | None = None, stderr: bool = False, quiet: bool = False) -> Console:
    """Return what prints lines as they are; the width is for files and pipes, which have none."""
    width = None if sys.stdout.isatty() else width
    return Console(
        highlight=False, markup=False, soft_wrap=True, width=width, stderr=stderr, quiet=quiet
    )
