"""The `mno` command: its words, options and help; the work is done in the modules it calls."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from flows.options import RunOptions
from mno import __version__
from mno.errors import InputError, MnoError

app = typer.Typer(
    name="mno",
    help=(
        "The production line for neural operators.\n\n"
        "[bold]mno run[/bold] goes from a PDE solver to a registered model: it generates the data, "
        "trains, evaluates and registers, and redoes only what a change has made stale.\n\n"
        "Exit codes: 0 done, 1 failed, 2 wrong use."
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


def _kinds(incomplete: str) -> list[str]:
    from mno.data.importers import KINDS

    return [kind for kind in KINDS if kind.startswith(incomplete)]


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


Repair = Annotated[
    bool,
    typer.Option(
        "--repair",
        help="First read every byte of the dataset and of DVC's copies of it, and remove what is "
        "damaged, so that it is made again.",
    ),
]


@app.command()
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


@app.command()
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


@app.command("import")
def import_(
    kind: Annotated[
        str,
        typer.Argument(
            help="pdebench, the-well, fno-mat, neuralop, npz, zarr, netcdf or csv (sensor logs).",
            autocompletion=_kinds,
        ),
    ],
    files: Annotated[
        list[Path],
        typer.Argument(help="Files of one kind with the same fields; for csv folders, too."),
    ],
    name: Annotated[
        str | None,
        typer.Option(help="Name of the dataset and its models; the first file's if not given."),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(
            help="YAML file that renames fields and sets roles, units and splits.", metavar="FILE"
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would become which field; write nothing.")
    ] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Forget what was imported under this name before."),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make files of others the workspace's data; the same name again adds files to a dataset.

    Example: mno import pdebench 2D_DarcyFlow_beta1.0_Train.hdf5 --dry-run
    """
    from flows.importing import ImportOptions, preview, print_import, print_preview, run_import

    options = ImportOptions(kind, files, name, mapping, replace, quiet or as_json)
    try:
        result = preview(options) if dry_run else run_import(options)
    except KeyboardInterrupt:
        typer.echo("\ninterrupted; what is converted is kept, run again to continue", err=True)
        raise typer.Exit(130) from None
    if as_json:
        _print_json(result)
    elif not quiet:
        console = Console(highlight=False, markup=False, soft_wrap=True)
        (print_preview if dry_run else print_import)(result, console)


@app.command()
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


@app.command()
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
    output: Annotated[
        Path | None,
        typer.Option(
            help="With --against: where to write the page; reports/against/ if not given.",
            metavar="FOLDER",
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Evaluate on the test split, after training; write reports/report.html.

    Or compare with a plant: mno evaluate --against sensors.csv --sample 3
    """
    if against is None:
        given = {"--model": model, "--inputs": inputs, "--sample": sample, "--start": start}
        _refuse(
            {**given, "--mapping": mapping, "--output": output}, "without --against SENSORS.CSV"
        )
        _bring_up_to_date(RunOptions("evaluate", preset, assignments or (), quiet), as_json)
        return
    _refuse({"--preset": preset, "--set": assignments}, "with --against, which trains nothing")
    from flows.against import AgainstOptions, compare_with_sensors, print_comparison

    options = AgainstOptions(against, model, inputs, sample, start, mapping, output)
    comparison, page = compare_with_sensors(options)
    if as_json:
        _print_json({**comparison.to_dict(), "page": str(page)})
    elif not quiet:
        print_comparison(comparison, page)


@app.command()
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
    from flows.run import print_summary, run_line

    try:
        result = run_line(options)
    except KeyboardInterrupt:
        typer.echo("\ninterrupted; what is finished is kept, run again to continue", err=True)
        raise typer.Exit(130) from None
    if as_json:
        _print_json(result)
    elif not options.quiet:
        print_summary(result, Console(highlight=False, markup=False, soft_wrap=True))


@app.command()
def status(as_json: Json = False) -> None:
    """Show in one screen what is current, stale, running and registered."""
    from flows.status import print_status, read_status

    found = read_status()
    if as_json:
        _print_json(found)
    else:
        print_status(found, Console(highlight=False, markup=False, soft_wrap=True))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check versions, the workspace, locks, disk and what killed runs have left; say what to do."""
    from flows.doctor import examine, print_findings

    findings = examine()
    if as_json:
        _print_json([finding.__dict__ for finding in findings])
    else:
        print_findings(findings, Console(highlight=False, markup=False, soft_wrap=True))
    if any(finding.verdict == "problem" for finding in findings):
        raise typer.Exit(1)


@app.command()
def predict(
    model: Annotated[
        str, typer.Argument(help="models:/NAME@ALIAS, models:/NAME/VERSION or a model's folder.")
    ],
    source: Annotated[Path, typer.Argument(help="Zarr store with the model's input fields.")],
    destination: Annotated[Path, typer.Argument(help="Zarr store to write; must not exist yet.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per forward pass.")] = 32,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Frames of states to predict; as many as in training if not given."
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Predict the output fields of every sample in a Zarr store, in physical units.

    Example: mno predict models:/mno-darcy@champion data predictions.zarr
    """
    from flows.prediction import predict_store

    result = predict_store(model, source, destination, batch_size, steps, quiet=quiet or as_json)
    if as_json:
        _print_json(result)
    elif not quiet:
        typer.echo(
            f"{result['samples']} samples predicted in {result['seconds']:.1f} s: {destination}\n"
            "Look at it with: "
            f"python -c \"import xarray; print(xarray.open_zarr('{destination}'))\""
        )


@app.command()
def export(
    source: Annotated[
        Path, typer.Argument(help="Zarr store: a dataset, or what mno predict has written.")
    ],
    destination: Annotated[
        Path,
        typer.Argument(help="File to write: .nc, .npz, .vtr, .vtu; with --format vtk a folder."),
    ],
    format: Annotated[
        str | None,
        typer.Option(
            help="netcdf, vtk (for ParaView: a file for each sample and frame) or npz; from the "
            "suffix if not given.",
            metavar="NAME",
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(help="Export this field only; may be repeated.", metavar="NAME"),
    ] = None,
    sample: Annotated[
        list[str] | None,
        typer.Option(
            help="Export this sample only, or a range as in 0:10; may be repeated.", metavar="N"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write fields of a dataset or of predictions as NetCDF, VTK or npz, for other programs.

    Example: mno export predictions.zarr pressure.nc --field pressure --sample 0:10
    """
    from flows.exporting import export as run_export
    from flows.exporting import print_export, sample_numbers
    from mno.data.export import Wanted

    samples = sample_numbers(sample)
    wanted = Wanted(source, destination, format, tuple(field or ()), samples, force)
    result = run_export(wanted, quiet or as_json)
    if as_json:
        _print_json(result)
    elif not quiet:
        print_export(result, Console(highlight=False, markup=False, soft_wrap=True))


@inspect_app.command("data")
def inspect_data(
    data: Annotated[
        Path | None,
        typer.Option(help="The dataset; data/ of the workspace if not given.", metavar="PATH"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Where to write the page and its figures; reports/inspection/ if not given.",
            metavar="FOLDER",
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure and draw a dataset: ranges, splits, duplicates, gaps, noise, spectra, checks.

    Example: mno inspect data --output /tmp/inspection
    """
    from flows.inspection import inspect_data, print_inspection

    inspection, page = inspect_data(data, output, quiet or as_json)
    if as_json:
        _print_json({**inspection.to_dict(), "page": str(page)})
    elif not quiet:
        width = None if sys.stdout.isatty() else 120  # for files and pipes, which do not say theirs
        console = Console(highlight=False, markup=False, soft_wrap=True, width=width)
        print_inspection(inspection, page, console)


@app.command()
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


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


def main() -> None:
    """Run the command line; turn what goes wrong into one line and an exit code."""
    try:
        app()
    except MnoError as error:
        from flows.stages import StageFailedError

        if not isinstance(error, StageFailedError):  # which has printed its own line already
            print(f"error: {error}", file=sys.stderr)
        if "--json" in sys.argv:
            _print_json({"error": str(error), "exit_code": error.exit_code})
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output has gone, as in `mno status | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
