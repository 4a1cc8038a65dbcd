"""A model's answers: `mno predict` on stored inputs, `mno compare` with the sensors of a plant."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.data import from_here, plain_console, table, workspace_or_none
from flows.options import Json, Quiet, print_json
from flows.workspace import find_workspace, prepare_environment, progress_bar
from mno.core.absent import Absent
from mno.core.errors import InputError

if TYPE_CHECKING:
    from mno.sensors.scores import Comparison
    from mno.surrogate.surrogate import Surrogate
    from mno.surrogate.trust.answers import Answers
    from mno.surrogate.trust.trust import Trust

_MOST_SENSORS = 12  # in the terminal, of each quantity


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

    With each field go bounds on its error, the residual it leaves in the equation, and whether the
    input is unlike the training data, where the model has what that takes.

    Example: mno predict models:/mno-darcy@champion data predictions.zarr --fallback solver
    """
    from mno.surrogate.predictions import predict_store
    from mno.surrogate.surrogate import Surrogate

    above = None if fallback_above is None else _share(fallback_above)
    folder = _model_folder(model)
    surrogate, trust = Surrogate.load(folder), _trust_of(model, folder)
    answers = _answers(surrogate, trust, source, steps, fallback, above)
    start = time.monotonic()
    with progress_bar(quiet or as_json) as show:
        samples = predict_store(
            surrogate, source, destination, batch_size,
            lambda done, total: show("predicting", done, total), steps, answers,
        )  # fmt: skip
    result = {
        "samples": samples,
        "seconds": round(time.monotonic() - start, 2),
        "destination": str(destination),
        "trust": answers.summary() if answers else None,
        **({"no_trust": str(trust)} if isinstance(trust, Absent) else {}),
    }
    if as_json:
        print_json(result)
    elif not quiet:
        console = plain_console()
        console.print(f"{samples} samples predicted in {result['seconds']:.1f} s: {destination}")
        for line in _trust_lines(result):
            console.print(line)
        look = f"import xarray; print(xarray.open_zarr('{destination}'))"
        console.print(f'Look at it with: python -c "{look}"')


def compare(
    readings: Annotated[Path, typer.Argument(help="Table of readings of sensors (CSV).")],
    model: Annotated[
        str | None,
        typer.Option(
            help="models:/NAME@ALIAS, models:/NAME/VERSION or a model's folder; the champion of "
            "the current scenario if not given.",
        ),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(
            help="Zarr store with the inputs of the measured run; data/ if not given, or the "
            "readings themselves where the model was trained on such.",
            metavar="STORE",
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of the measured run in the store; may be left out where there is but one.",
            metavar="NUMBER",
        ),
    ] = None,
    start: Annotated[
        float | None,
        typer.Option(
            help="When the run begins on the clock of the readings; 0 if not given.",
            metavar="SECONDS",
        ),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(help="Mapping file that says what the table's columns are.", metavar="FILE"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Where to write the page; reports/comparison/ if not given.", metavar="FOLDER"
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare a model with readings of sensors, beside the solver where there is one.

    Example: mno compare sensors.csv --sample 3
    """
    from flows.params import load_params
    from mno.imports.mapping import read_mapping
    from mno.sensors.compare import compare_with_file
    from mno.sensors.page import write_comparison
    from mno.surrogate.surrogate import Surrogate

    rules, name = read_mapping(mapping), model
    if name is None:
        name = f"models:/mno-{load_params(find_workspace()).dataset_name}@champion"
    surrogate, workspace = Surrogate.load(_model_folder(name)), workspace_or_none() or Path()
    given, data = inputs and from_here(inputs), from_here(workspace / "data")
    comparison = compare_with_file(surrogate, name, readings, rules, given, data, sample, start)
    folder = output or workspace / "reports/comparison"
    try:
        page = write_comparison(comparison, folder)
    except OSError as error:
        raise InputError(
            f"cannot write to {folder}: {error.strerror or error}; name another with --output"
        ) from None
    if as_json:
        print_json({**comparison.to_dict(), "page": str(page)})
    elif not quiet:
        _print_comparison(comparison, page)


def _share(text: str) -> float:
    """Return what `0.05` or `5%` stands for; refuse what is no number above zero."""
    try:
        found = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError:
        found = math.nan
    if not 0.0 < found < math.inf:
        raise InputError(f"--fallback-above {text}: expected a number above 0, as 0.05 or 5%")
    return found


_REGISTERED = ("models:/", "runs:/")


def _model_folder(model: str) -> Path:
    if not model.startswith(_REGISTERED):
        return Path(model)
    root = find_workspace()
    prepare_environment(root)
    from mno.registry.reading import registered_folder

    return registered_folder(root, model)


def _trust_of(model: str, folder: Path) -> Trust | Absent:
    """Return what a model's predictions are judged by.

    It lies beside a registered model, and among the reports of the workspace that trained one.
    """
    from mno.registry.reading import registered_trust, trust_in

    if model.startswith(_REGISTERED):
        return registered_trust(folder)
    path = folder.resolve().parents[1] / "reports/trust.json"
    return (
        trust_in(path, folder) if path.is_file() else Absent("estimate.not_there", {"path": path})
    )


def _answers(
    surrogate: Surrogate,
    trust: Trust | Absent,
    source: Path,
    steps: int | None,
    fallback: str,
    above: float | None,
) -> Answers | None:
    """Return what judges predictions, with a solver to fall back on if one is asked for."""
    from mno.surrogate.predictions import open_inputs
    from mno.surrogate.trust.answers import Answers, fallback_to

    if fallback not in ("none", "solver"):
        raise InputError(f"--fallback {fallback}: expected solver, or none")
    if fallback == "none" and above is not None:
        raise InputError("--fallback-above says when to solve; give --fallback solver, too")
    if isinstance(trust, Absent):
        if fallback != "none":
            raise InputError(f"--fallback {fallback} needs an error estimate; {trust}")
        return None
    description = surrogate.description
    if fallback == "none":
        return Answers(trust, description)
    inputs = open_inputs(surrogate, source, steps)
    shape = inputs[description.fields[0]].shape[-len(description.space) :]
    return Answers(trust, description, fallback_to(trust, description, shape, steps, above))


def _trust_lines(result: Mapping[str, Any]) -> list[str]:
    """Say how far predictions may be trusted."""
    trust, samples = result["trust"], result["samples"]
    if trust is None:
        return [str(result["no_trust"])]
    flagged, bound = trust["unlike_training"], trust["typical_relative_bound"]
    lines = [f"none of {samples} inputs is unlike the training data"]
    if flagged:
        most = ", ".join(f"{name} ({count})" for name, count in trust["most_unusual"].items())
        are = "is" if flagged == 1 else "are"
        lines = [f"{flagged} of {samples} inputs {are} unlike the training data, most by: {most}"]
    if bound is not None:
        lines.append(
            f"typical error bound {bound:.2g} relative L2 ({bound:.1%}), which "
            f"{trust['level']:.0%} of predictions of inputs like the training data keep"
        )
    if "solved" in trust:
        solved = f"{trust['solved']} of {samples} samples are answered by the solver (answered_by)"
        if trust["iterations"] is not None:
            solved += (
                f": {trust['iterations']:.1f} iterations each from the prediction, "
                f"{trust['iterations_from_zero']:.1f} from zero"
            )
        kept = "could not be solved and keep the prediction"
        lines += [solved, *(f"{n} {kept}: {why}" for why, n in trust["not_solved"].items())]
    return [*lines, *trust["notes"]]


def _print_comparison(comparison: Comparison, page: Path) -> None:
    """Draw it as tables, say what it means, and what to do next."""
    from mno.sensors.page import error_rows, left_out, sensor_rows, title_of, verdicts

    def drawn(rows: list[dict[str, str]]) -> Any:
        return table(rows, [name for name in [*rows[0]][1:] if name != "quantity"], ())

    console = plain_console(width=150)
    facts = comparison.facts
    console.print(f"{facts['readings']}  against {facts['model']}, given {facts['inputs']}")
    several = [comparison.overall] if len(comparison.quantities) > 1 else []
    for scores in (*comparison.quantities, *several):
        console.print(
            f"\n{title_of(scores)}  {scores.readings} readings of {scores.sensors} sensors"
        )
        console.print(drawn(error_rows(scores)))
    console.print()
    console.print(drawn(sensor_rows(comparison, _MOST_SENSORS)))
    console.print()
    for line in verdicts(comparison):
        console.print(line)
    for remark in (*comparison.remarks, *filter(None, [left_out(comparison)])):
        console.print(f"remark   {remark}")
    console.print(f"\nNext: open {from_here(page)}")
