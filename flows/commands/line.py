"""The production line: `mno run` and one word for each of its stages."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from rich.console import Console

from flows.commands.app import Assignments, Json, Preset, Quiet, Scheduler, print_json
from flows.economics import OwnFigures
from flows.options import RunOptions

Repair = Annotated[
    bool,
    typer.Option(
        "--repair",
        help="First read every byte of the dataset and of DVC's copies of it, and remove what is "
        "damaged, so that it is made again.",
    ),
]

LEARNING_CURVE = "learning_curve.shares=[0.125, 0.25, 0.5]"


def run(
    preset: Preset = None,
    assignments: Assignments = None,
    dask_scheduler: Scheduler = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Bring the whole line up to date: generate, train, evaluate, register.

    Example: mno run --preset quick --set train.epochs=10
    """
    edits = _edits(assignments, dask_scheduler)
    _bring_up_to_date(RunOptions(None, preset, edits, quiet), as_json)


def generate(
    preset: Preset = None,
    assignments: Assignments = None,
    dask_scheduler: Scheduler = None,
    repair: Repair = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Solve the dataset and release it as data/.

    Example: mno generate --set generate.samples=2000 --dask-scheduler tcp://10.0.0.5:8786
    """
    edits = _edits(assignments, dask_scheduler)
    _bring_up_to_date(RunOptions("data.dvc", preset, edits, quiet, repair), as_json)


def train(
    preset: Preset = None,
    assignments: Assignments = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train the operator, after generating what it needs.

    Example: mno train --set train.epochs=40 --set model.width=64
    """
    _bring_up_to_date(RunOptions("train", preset, assignments or (), quiet), as_json)


def evaluate(
    preset: Preset = None,
    assignments: Assignments = None,
    solver_cost: Annotated[
        str | None,
        typer.Option(
            help="Time of one solve by your own solver, with its unit (ms, s, min, h); the "
            "scenario's own is measured if not given. Sets evaluate.economics.solver_seconds.",
            metavar="TIME",
        ),
    ] = None,
    queries_per_day: Annotated[
        float | None,
        typer.Option(help="Solutions you need in a day; sets evaluate.economics.queries_per_day."),
    ] = None,
    hourly_rate: Annotated[
        float | None,
        typer.Option(
            help="Price of one hour of computing, of one core; sets evaluate.economics.hourly_rate."
        ),
    ] = None,
    currency: Annotated[
        str | None,
        typer.Option(help="Of that price, as EUR; sets evaluate.economics.currency."),
    ] = None,
    lang: Annotated[
        Literal["en", "ja"],
        typer.Option(help="Language of the report that is named at the end; both are written."),
    ] = "en",
    learning_curve: Annotated[
        bool,
        typer.Option(
            "--learning-curve",
            help="Train on an eighth, a quarter and half of the training samples as well, to see "
            "what more of them would bring; from then on, until learning_curve.shares is [].",
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Evaluate on the test split, after training; write reports/report.html.

    Is it worth it: mno evaluate --solver-cost 3.5s --queries-per-day 2000 --hourly-rate 1.2
    """
    figures = OwnFigures(solver_cost, queries_per_day, hourly_rate, currency)
    chosen = [LEARNING_CURVE] if learning_curve else []
    edits = [*chosen, *(assignments or []), *figures.edits()]
    _bring_up_to_date(RunOptions("evaluate", preset, edits, quiet, language=lang), as_json)


def register(
    preset: Preset = None,
    assignments: Assignments = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Register the model in MLflow, after evaluating it; the better one becomes champion."""
    _bring_up_to_date(RunOptions("register", preset, assignments or (), quiet), as_json)


def _edits(assignments: list[str] | None, scheduler: str | None) -> list[str]:
    given = [] if scheduler is None else [f"execution.scheduler={scheduler}"]
    return [*(assignments or []), *given]


def _bring_up_to_date(options: RunOptions, as_json: bool) -> None:
    try:
        from flows.run import print_summary, run_line  # takes a second or two

        result = run_line(options)
    except KeyboardInterrupt:
        typer.echo("\ninterrupted; what is finished is kept, run again to continue", err=True)
        raise typer.Exit(130) from None
    if as_json:
        print_json(result)
    elif not options.quiet:
        console = Console(highlight=False, markup=False, soft_wrap=True)
        print_summary(result, console, options.language)
