"""`mno infer`: what is not measured, from what is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.data import from_here, workspace_or_none
from flows.options import (
    Json,
    Quiet,
    TableMapping,
    answer,
    console,
    interruptible,
    writing_to,
)  # fmt: skip
from flows.predict import model_folder
from flows.workspace import progress_bar
from mno.core.config import read_file
from mno.core.errors import InputError, MnoError
from mno.core.files import replacing

if TYPE_CHECKING:
    pass

_FILE = "draws.nc"


def infer(
    model: Annotated[
        str, typer.Argument(help="models:/NAME@ALIAS, models:/NAME/VERSION or a model's folder.")
    ],
    readings: Annotated[Path, typer.Argument(help="Table of readings of sensors (CSV).")],
    prior: Annotated[
        Path, typer.Option(help="YAML file: what is not known, and within what it is.")
    ],
    inputs: Annotated[
        Path | None,
        typer.Option(help="Zarr store with what is known of the run; data/.", metavar="STORE"),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=0, help="The run in the store.", metavar="NUMBER")
    ] = None,
    start: Annotated[
        float, typer.Option(help="When the run begins on the readings' clock.", metavar="SECONDS")
    ] = 0.0,
    solves: Annotated[
        int,
        typer.Option(min=0, help="How often the solver may be asked, which makes draws exact."),
    ] = 0,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Processes that solve; draws do not depend on it.")
    ] = 1,
    draws: Annotated[int, typer.Option(min=50, help="Of each of sixteen chains.")] = 600,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    mapping: TableMapping = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Where to write; reports/inference/.", metavar="FOLDER"),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Infer what is not known of a run from readings: draws of its posterior, as ArviZ reads them.

    Chains follow the model's gradients, and reckon with its error as one more noise. With --solves
    the solver has the last word on each draw, and the draws are exact.

    Example: mno infer models:/mno-darcy@champion readings.csv --prior prior.yaml --sample 3
    """
    from mno.data.reading import read_split
    from mno.imports.mapping import read_mapping
    from mno.inverse.infer import MOST_RHAT, infer, rows_of
    from mno.inverse.posterior import Posterior
    from mno.inverse.question import Question, Unknowns, read_observations
    from mno.inverse.solving import solvers
    from mno.sensors.inputs import from_store
    from mno.surrogate.surrogate import Surrogate

    asked = read_file(Question, prior)
    surrogate, workspace = Surrogate.load(model_folder(model)), workspace_or_none() or Path()
    description = surrogate.description
    if description.observes or description.times:
        raise InputError(
            f"{model} is an observer, or takes frames at times of their own; mno infer asks models "
            "that predict a run from what it is given: name another"
        )
    given = from_store(surrogate, inputs or from_here(workspace / "data"), sample)
    arrays, _ = surrogate.at_points(given.inputs, given.steps)
    unknowns = Unknowns(asked, description, arrays, given.origin and given.origin.store)
    observed = read_observations(
        readings, read_mapping(mapping), description, given, asked.noise, start
    )
    validation = read_split(given.origin.store, "validation") if given.origin else None
    folder = output or workspace / "reports/inference"
    with (
        writing_to(folder, "; name another with --output"),
        interruptible("no draws are kept"),
        progress_bar(quiet or as_json) as show,
        solvers(workers) as at_work,
    ):
        posterior = Posterior(surrogate, given, unknowns, observed, at_work)
        found = infer(posterior, validation, draws, solves, seed, show)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / _FILE) as path:
        found.draws.to_netcdf(str(path), engine="h5netcdf")
    told = {
        "model": model, "run": given.source, "readings": len(observed.value),
        "left_out": observed.left_out, "unknowns": rows_of(found), "exact": found.is_exact,
        "rhat": found.rhat, "effective_draws": found.effective, "accepted": found.accepted,
        "solves": found.solves, "converged": found.has_converged, "draws": str(folder / _FILE),
    }  # fmt: skip
    answer(told, as_json, quiet, _print)
    if not found.has_converged:
        raise MnoError(
            f"the chains have not converged: R-hat {found.rhat:.3f} (at most {MOST_RHAT}), "
            f"{found.effective:.0f} effective draws; the draws are kept in {folder / _FILE}: ask "
            f"for more with --{'solves' if found.is_exact else 'draws'}"
        )


def _print(told: dict[str, Any]) -> None:
    from flows.data import table

    rows = [
        {
            "unknown": row["name"],
            "before": "{:.4g} ± {:.2g}".format(*row["prior"]),
            "now": "{:.4g} ± {:.2g}".format(*row["posterior"]),
            "90 % within": "{:.4g} to {:.4g}".format(*row["interval"]),
            "learned": f"{max(row['learned'], 0.0):.0%}",
        }
        for row in told["unknowns"]
    ]
    out = console(width=120)
    left_out = f", {told['left_out']} left out" if told["left_out"] else ""
    out.print(f"{told['readings']} readings of {told['run']}{left_out}")
    out.print(table(rows, [*rows[0]][1:], ()))
    by = f"exact: {told['solves']} solves" if told["exact"] else "by the model alone, not exact"
    out.print(
        f"{by}; {told['accepted']:.0%} of proposals taken, {told['effective_draws']:.0f} effective "
        f"draws, R-hat {told['rhat']:.3f}"
    )
    out.print(f"Draws:  {told['draws']} (arviz.from_netcdf)")
