"""Data in and out: `mno import`, `mno inspect`, `mno predict`, `mno export`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.commands.app import Json, Quiet, print_json

inspect_app = typer.Typer(
    help="Look at what the line has made, before going on with it.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


def _kinds(incomplete: str) -> list[str]:
    from mno.imports import KINDS

    return [kind for kind in KINDS if kind.startswith(incomplete)]


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
        print_json(result)
    elif not quiet:
        console = Console(highlight=False, markup=False, soft_wrap=True)
        (print_preview if dry_run else print_import)(result, console)


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
        print_json({**inspection.to_dict(), "page": str(page)})
    elif not quiet:
        width = None if sys.stdout.isatty() else 120  # for files and pipes, which do not say theirs
        console = Console(highlight=False, markup=False, soft_wrap=True, width=width)
        print_inspection(inspection, page, console)


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
    fallback: Annotated[
        str,
        typer.Option(
            help="solver: inputs unlike the training data are solved, starting from the "
            "prediction where the solver iterates; none: the model answers all.",
            metavar="NAME",
        ),
    ] = "none",
    fallback_above: Annotated[
        str | None,
        typer.Option(
            help="With --fallback solver, also solve where the bound on the relative L2 error is "
            "larger, as 0.05 or 5%.",
            metavar="BOUND",
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Predict the output fields of every sample in a Zarr store, and how far to trust them.

    Example: mno predict models:/mno-darcy@champion data predictions.zarr --fallback solver
    """
    from flows.prediction import PredictOptions, predict_store, print_prediction, share

    above = None if fallback_above is None else share(fallback_above)
    result = predict_store(
        PredictOptions(
            model, source, destination, batch_size, steps, fallback, above, quiet or as_json
        )
    )
    if as_json:
        print_json(result)
    elif not quiet:
        print_prediction(result, Console(highlight=False, markup=False, soft_wrap=True))


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
    from mno.imports.export import Wanted

    samples = sample_numbers(sample)
    wanted = Wanted(source, destination, format, tuple(field or ()), samples, force)
    result = run_export(wanted, quiet or as_json)
    if as_json:
        print_json(result)
    elif not quiet:
        print_export(result, Console(highlight=False, markup=False, soft_wrap=True))
