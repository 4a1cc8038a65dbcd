"""The production line: `mno run` and one word for each of its stages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from flows.commands.app import Assignments, Json, Preset, Quiet, Scheduler, print_json
from flows.economics import OwnFigures
from flows.options import RunOptions
from mno.core.errors import InputError

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
    against: Annotated[
        Path | None,
        typer.Option(
            help="Compare a model with these readings of sensors (CSV) instead, beside the solver "
            "where there is one; trains nothing.",
            metavar="SENSORS.CSV",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="With --against: models:/NAME@ALIAS, models:/NAME/VERSION or a model's folder; "
            "the champion of the current scenario if not given.",
        ),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(
            help="With --against: Zarr store with the inputs of the measured run; data/ if not "
            "given, or the readings themselves where the model was trained on such.",
            metavar="STORE",
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="With --against: number of the measured run in the store; may be left out where "
            "there is but one.",
            metavar="NUMBER",
        ),
    ] = None,
    start: Annotated[
        float | None,
        typer.Option(
            help="With --against: when the run begins on the clock of the readings; 0 if not "
            "given.",
            metavar="SECONDS",
        ),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(
            help="With --against: mapping file that says what the table's columns are.",
            metavar="FILE",
        ),
    ] = None,
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
    output: Annotated[
        Path | None,
        typer.Option(
            help="With --against: where to write the page; reports/against/ if not given.",
            metavar="FOLDER",
        ),
    ] = None,
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

    Or compare with a plant: mno evaluate --against sensors.csv --sample 3
    """
    figures = OwnFigures(solver_cost, queries_per_day, hourly_rate, currency)
    if against is None:
        given = {"--model": model, "--inputs": inputs, "--sample": sample, "--start": start}
        _refuse(
            {**given, "--mapping": mapping, "--output": output}, "without --against SENSORS.CSV"
        )
        chosen = [LEARNING_CURVE] if learning_curve else []
        edits = [*chosen, *(assignments or []), *figures.edits()]
        _bring_up_to_date(RunOptions("evaluate", preset, edits, quiet, language=lang), as_json)
        return
    own = {f"--{name.replace('_', '-')}": value for name, value in vars(figures).items()}
    own |= {"--learning-curve": learning_curve or None}
    _refuse(
        {"--preset": preset, "--set": assignments, **own}, "with --against, which trains nothing"
    )
    from flows.against import AgainstOptions, compare_with_sensors, print_comparison

    options = AgainstOptions(against, model, inputs, sample, start, mapping, output)
    comparison, page = compare_with_sensors(options)
    if as_json:
        print_json({**comparison.to_dict(), "page": str(page)})
    elif not quiet:
        print_comparison(comparison, page)


def register(
    preset: Preset = None,
    assignments: Assignments = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Register the model in MLflow, after evaluating it; the better one becomes champion."""
    _bring_up_to_date(RunOptions("register", preset, assignments or (), quiet), as_json)


def _refuse(options: dict[str, Any], why: str) -> None:
    """Refuse options that do not go with, or without, another."""
    given = [name for name, value in options.items() if value not in (None, [])]
    if given:
        raise InputError(f"{', '.join(given)} given {why}; expected otherwise: mno evaluate --help")


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
