"""Models asked backwards: `mno infer`, what is not measured; `mno optimise`, what is best set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows import options
from flows.data import from_here, table, workspace_or_none
from flows.options import Json, Model, Quiet, TableMapping, answer, console
from flows.predict import model_folder
from flows.workspace import progress_bar, require
from mno.core.config import read_file
from mno.core.errors import InputError
from mno.core.files import replacing, write_json

if TYPE_CHECKING:
    from mno.inverse.run import Run

_FILE, _SOLVED = "draws.nc", ".solved"
_STORE = "a Zarr store with what is known of the run"

Inputs = Annotated[Path | None, typer.Option(
    help="Zarr store with what is known of the run; data/.", metavar="STORE")]  # fmt: skip
Sample = Annotated[int | None, typer.Option(min=0, help="The run in the store.", metavar="NUMBER")]
Workers = Annotated[int, typer.Option(
    min=1, max=64, help="Processes that solve; answers do not depend on it.")]  # fmt: skip
Seed = Annotated[int, typer.Option(min=0, help="Of all that is drawn.")]


def _asked_run(
    model: str, folder: Path, inputs: Path | None, sample: int | None
) -> "tuple[Run, str]":
    """Return a run that a model in a folder is asked about, and what it is called."""
    from mno.inverse.run import Run
    from mno.sensors.inputs import from_store
    from mno.surrogate.surrogate import Surrogate

    surrogate, workspace = Surrogate.load(folder), workspace_or_none() or Path()
    if surrogate.description.observes or surrogate.description.times:
        raise InputError(
            f"{model} is an observer, or takes frames at times of their own; expected a model that "
            "predicts a run from what it is given: name another"
        )
    given = from_store(surrogate, inputs or from_here(workspace / "data"), sample)
    return Run(surrogate, given), given.source


def infer(
    model: Model,
    readings: Annotated[Path, typer.Argument(help="Table of readings of sensors (CSV).")],
    prior: Annotated[Path, typer.Option(
        help="YAML file: what is not known, and within what it is.")], inputs: Inputs = None,
    sample: Sample = None,
    start: Annotated[float, typer.Option(
        help="When the run begins on the readings' clock.", metavar="SECONDS")] = 0.0,
    solves: Annotated[int, typer.Option(
        min=0, help="How often the solver may be asked, which makes draws exact.")] = 0,
    workers: Workers = 1,
    draws: Annotated[int, typer.Option(min=50, help="Of 16 chains each, without --solves.")] = 600,
    seed: Seed = 0, mapping: TableMapping = None,
    output: Annotated[Path | None, typer.Option(
        help="Where to write; reports/inference/.", metavar="FOLDER")] = None, quiet: Quiet = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Infer what is not known of a run from readings: draws of its posterior, as ArviZ reads them.

    Chains follow the model's gradients, and reckon with its error as one more noise. With --solves
    the solver has the last word on each draw, and the draws are exact.

    Example: mno infer models:/mno-darcy@champion readings.csv --prior prior.yaml --sample 3
    """
    require(readings, "a table of readings (CSV)")
    require(prior, "a file of what is not known (YAML)")
    require(inputs, _STORE, folder=True)
    require(mapping, "a mapping file")
    held = model_folder(model)
    from mno.data.reading import read_split
    from mno.imports.mapping import read_mapping
    from mno.inverse.infer import LEAST_DRAWS, MOST_RHAT, Posterior, infer, rows_of
    from mno.inverse.page import write_answer
    from mno.inverse.question import Question, Unknowns, read_observations
    from mno.inverse.solving import solvers

    asked = read_file(Question, prior)
    run, source = _asked_run(model, held, inputs, sample)
    unknowns = Unknowns(asked, run)
    observed = read_observations(readings, read_mapping(mapping), run, asked.noise, start)
    validation = read_split(run.origin.store, "validation") if run.origin else None
    folder = output or (workspace_or_none() or Path()) / "reports/inference"
    with (
        options.writing_to(folder, "; name another with --output"),
        options.interruptible("what was solved is kept, run again to go on"),
        progress_bar(quiet or as_json) as show,
        solvers(workers, folder / _SOLVED) as run.solvers,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        posterior = Posterior(run, unknowns, observed)
        found = infer(posterior, validation, draws, solves, seed, show)
        with replacing(folder / _FILE) as path:
            found.draws.to_netcdf(str(path), engine="h5netcdf")
        told = {
            "model": model, "run": source, "readings": len(observed.value),
            "left_out": observed.left_out, "accepted": found.accepted,
            "effective_draws": found.effective, "rhat": found.rhat, "solves": found.solves,
        }  # fmt: skip
        page = write_answer(posterior, found, told, folder)
    told |= {
        "unknowns": rows_of(found), "exact": found.is_exact, "converged": found.has_converged,
        "draws": str(folder / _FILE), "page": str(page),
    }  # fmt: skip
    failed = (
        f"the chains have not converged: R-hat {found.rhat:.3f} (at most {MOST_RHAT}), "
        f"{found.effective:.0f} effective draws (at least {LEAST_DRAWS}); they are kept in "
        f"{folder / _FILE}: ask for more with --{'solves' if found.is_exact else 'draws'}"
    )
    answer(told, as_json, quiet, _print, "" if found.has_converged else failed)


def _print(told: dict[str, Any]) -> None:
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
    out.print(f"Page:   {told['page']}")


def optimise(
    model: Model,
    goal: Annotated[Path, typer.Argument(
        help="YAML file: what may be set, what to minimize, what must hold.")],
    inputs: Inputs = None, sample: Sample = None,
    solves: Annotated[int, typer.Option(
        min=0, help="How often the solver may be asked; 0 believes the model.")] = 30,
    workers: Workers = 1, seed: Seed = 0,
    output: Annotated[Path | None, typer.Option(
        help="Where to write; reports/optimum/.", metavar="FOLDER")] = None, quiet: Quiet = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Find the best settings of a run; each candidate is solved before it is believed.

    The search follows the model's gradients. What the solver says of a candidate is learned by a
    copy of the model, and the search goes on, until no more is promised or the solves are spent.

    Example: mno optimise models:/mno-batch_furnace-readings@champion goal.yaml --sample 3
    """
    require(goal, "a file of what may be set and what is wanted (YAML)")
    require(inputs, _STORE, folder=True)
    held = model_folder(model)
    from mno.data.reading import read_split
    from mno.inverse.goal import Goal, Wanted
    from mno.inverse.optimise import optimise
    from mno.inverse.solving import solvers

    asked = read_file(Goal, goal)
    run, source = _asked_run(model, held, inputs, sample)
    workspace = workspace_or_none() or Path()
    folder = output or workspace / "reports/optimum"
    wanted = Wanted(asked, run, seed)
    training = read_split(run.origin.store, "train") if run.origin else None
    with (
        options.writing_to(folder, "; name another with --output"),
        options.interruptible("what was solved is kept, run again to go on"),
        progress_bar(quiet or as_json, "done") as show,
        solvers(workers, folder / _SOLVED) as run.solvers,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        found = optimise(wanted, training, solves, seed, show)
        kept = _keep_asked(workspace, run, asked, found) if found.tried else None
        before = found.tried[1].solved if found.tried else None
        told = {
            "model": model, "run": source, "objective": wanted.named,
            "before": before and float(before.objective), "value": float(found.worth.objective),
            "promised": float(found.promised.objective), "set": wanted.settings(found.x),
            "missed": wanted.missed(found.worth), "violation": found.worth.violation,
            "solves": found.solves, "asked": kept,
        }  # fmt: skip
        write_json(folder / "optimum.json", {**told, "goal": asked.model_dump(exclude_unset=True)})
    worst = max(told["missed"], key=told["missed"].get, default="")
    failed = (
        f"nothing within what may be set meets the goal: {worst} misses its bound by "
        f"{told['missed'].get(worst, 0.0):.3g} at best; widen what may be set, or ask for less"
    )
    answer(told, as_json, quiet, _print_optimum, failed if found.worth.violation > 0 else "")


def _keep_asked(workspace: Path, run: "Run", goal: Any, found: Any) -> str | None:
    """Write the inputs that were solved where `generate.asked` finds them; return their digest."""
    import numpy as np

    from mno.data.asked import write_asked

    solved = [one.given for one in found.tried if one.found]
    own = {n: np.concatenate([g[n].numpy() for g in solved]) for n in solved[0]}
    count = len(next(iter(own.values())))
    arrays = {n: np.repeat(a[None], count, axis=0) for n, a in run.whole.items()} | own
    return write_asked(workspace, arrays, goal.model_dump_json(exclude_unset=True), run.whole)


def _print_optimum(told: dict[str, Any]) -> None:
    rows = [
        {"set": name, "to": ", ".join(f"{value:.4g}" for value in values)}
        for name, values in told["set"].items()
    ]
    out = console(width=120)
    out.print(table(rows, (), ()))
    was = f" (nearest the run: {told['before']:.5g})" if told["before"] is not None else ""
    out.print(f"{told['objective']}: {told['value']:.5g}{was}")
    for name, missed in told["missed"].items():
        out.print(f"{name}: misses its bound by {missed:.3g}" if missed > 0 else f"{name}: holds")
    if not told["solves"]:
        out.print("By the model alone: nothing was solved. Ask the solver with --solves 30")
        return
    regret = abs(told["value"] - told["promised"]) / max(abs(told["value"]), 1e-300)
    out.print(
        f"As solved, {told['solves']} solves; regret, by what the model has learned: {regret:.2%}"
    )
    if told["asked"]:
        out.print(f"Next:    mno run --set generate.asked={told['asked']}  (trains on them, too)")
