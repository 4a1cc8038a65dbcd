"""A model's answers: `mno predict` on stored inputs, `mno compare` with the sensors of a plant."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.data import from_here, table, workspace_or_none
from flows.options import Device, Json, Model, Quiet, TableMapping, answer, console, writing_to
from flows.workspace import find_workspace, prepare_environment, progress_bar, require, require_new
from mno.core.absent import Absent
from mno.core.config import model_subject, read_params
from mno.core.errors import InputError

if TYPE_CHECKING:
    from mno.sensors.scores import Comparison
    from mno.surrogate.trust.trust import Trust

_MOST_SENSORS = 12  # in the terminal, of each quantity


def predict(
    model: Model,
    source: Annotated[Path, typer.Argument(help="Zarr store with the model's input fields.")],
    destination: Annotated[Path, typer.Argument(help="Zarr store to write; must not exist yet.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per forward pass.")] = 32,
    steps: Annotated[int | None, typer.Option(
        min=1, help="Frames of states; as many as in training.")] = None,
    fallback: Annotated[Literal["none", "solver"], typer.Option(
        help="Who answers for inputs that are unlike the training data.")] = "none",
    fallback_above: Annotated[float | None, typer.Option(
        min=0.0, help="Also solve where the error bound is larger.", metavar="BOUND")] = None,
    readings_alone: Annotated[bool, typer.Option(
        "--readings-alone", help="Leave fields out, of a model of both; it costs less.")] = False,
    device: Device = None, quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Predict the output fields of every sample in a Zarr store, and how far to trust them.

    With each field go bounds on its error, the residual it leaves in the equation, and whether the
    input is unlike the training data, where the model has what that takes.

    Example: mno predict models:/mno-darcy@champion data predictions.zarr --fallback solver
    """
    solves = fallback == "solver"
    if fallback_above is not None and not solves:
        raise InputError("--fallback-above says when to solve; give --fallback solver, too")
    require(source, "a Zarr store with the model's input fields, as data/", folder=True)
    require_new(destination)
    folder = model_folder(model)
    from mno.core.device import asked_device
    from mno.surrogate.predictions import open_inputs, predict_store, read_inputs
    from mno.surrogate.surrogate import Surrogate
    from mno.surrogate.trust.answers import Answers, Fallback

    surrogate, trust = Surrogate.load(folder), trust_of(model, folder)
    surrogate.device = asked_device() or "cpu"
    description, solver, answers = surrogate.description, None, None
    if steps is not None and description.observes:
        raise InputError(
            f"--steps {steps}: {model} is an observer, which tells as many frames as it is given; "
            "leave it out"
        )
    if readings_alone and not description.cells:
        raise InputError(
            f"--readings-alone is for models of fields and readings (task.part=both); {model} is "
            f"of {description.part}: leave it out"
        )
    if isinstance(trust, Absent):
        if solves:
            raise InputError(f"--fallback solver needs an error estimate; {trust}")
    else:
        if solves:
            stored = open_inputs(surrogate, source, steps)
            first = read_inputs(surrogate, source, stored, slice(0, 1), steps)
            shape = first[description.fields[0]].shape[-len(description.space) :]
            solver = Fallback(trust, description, shape, steps, fallback_above)
        answers = Answers(trust, description, solver)
    start = time.monotonic()
    with progress_bar(quiet or as_json) as show:
        samples = predict_store(
            surrogate, source, destination, batch_size,
            lambda done, total: show("predicting", done, total), steps, answers,
            readings_alone=readings_alone,
        )  # fmt: skip
    result = {
        "samples": samples, "seconds": round(time.monotonic() - start, 2),
        "destination": str(destination), "trust": answers.summary() if answers else None,
        **({"no_trust": str(trust)} if isinstance(trust, Absent) else {}),
    }  # fmt: skip
    answer(result, as_json, quiet, _print_prediction)


def compare(
    readings: Annotated[Path, typer.Argument(help="Table of readings of sensors (CSV).")],
    model: Annotated[str | None, typer.Option(
        help="As for mno predict; the current scenario's champion if not given.")] = None,
    inputs: Annotated[Path | None, typer.Option(
        help="Zarr store with the inputs of the measured run; data/ if not given, or the readings "
        "themselves where the model was trained on such.", metavar="STORE")] = None,
    sample: Annotated[int | None, typer.Option(
        min=0, help="The measured run in the store, if several.", metavar="NUMBER")] = None,
    start: Annotated[float | None, typer.Option(
        help="When the run begins on the readings' clock; 0.", metavar="SECONDS")] = None,
    mapping: TableMapping = None,
    output: Annotated[Path | None, typer.Option(
        help="Where to write; reports/comparison/ if not given.", metavar="FOLDER")] = None,
    quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Compare a model with readings of sensors, beside the solver where there is one.

    Example: mno compare sensors.csv --sample 3
    """
    require(readings, "a table of readings (CSV)")
    require(inputs, "a Zarr store with the inputs of the measured run", folder=True)
    require(mapping, "a mapping file")
    name = model or f"models:/mno-{model_subject(read_params(find_workspace()))}@champion"
    folder_of_model, workspace = model_folder(name), workspace_or_none() or Path()
    from mno.imports.mapping import read_mapping
    from mno.sensors.compare import compare_with_file
    from mno.sensors.page import write_comparison
    from mno.surrogate.surrogate import Surrogate

    rules, surrogate = read_mapping(mapping), Surrogate.load(folder_of_model)
    if surrogate.description.observes:
        raise InputError(
            f"{name} is an observer, which is given readings: follow a log with mno watch, or name "
            "another --model"
        )
    if surrogate.description.times:
        raise InputError(
            f"{name} takes frames at times of their own; mno compare has frames at equal distances "
            "alone: import the readings and use mno evaluate, or name another --model"
        )
    given, data = inputs and from_here(inputs), from_here(workspace / "data")
    comparison = compare_with_file(surrogate, name, readings, rules, given, data, sample, start)
    folder = output or workspace / "reports/comparison"
    with writing_to(folder, "; name another with --output"):
        page = write_comparison(comparison, folder)
    told = {**comparison.to_dict(), "page": str(page)}
    answer(told, as_json, quiet, lambda _: _print_comparison(comparison, page))


_REGISTERED = ("models:/", "runs:/")


def model_folder(model: str) -> Path:
    """Return the folder of a model by its name in the registry, or as it is given."""
    from mno.registry.catalogue import meant
    from mno.registry.evidence import DESCRIPTION
    from mno.registry.reading import registered_folder

    if not model.startswith(_REGISTERED):
        if not Path(model, DESCRIPTION).is_file():
            near = "" if Path(model).exists() else meant(model)
            raise InputError(
                f"{model} does not hold a readable model (there is no {DESCRIPTION}); expected "
                f"models:/NAME@ALIAS, models:/NAME/VERSION or a model's folder{near}"
            )
        return Path(model)
    root = find_workspace()
    prepare_environment(root)
    return registered_folder(root, model)


def trust_of(model: str, folder: Path) -> "Trust | Absent":
    """Return what predictions are judged by: beside a registered model, or among the reports."""
    from mno.registry.reading import registered_trust, trust_in

    if model.startswith(_REGISTERED):
        return registered_trust(folder)
    path = folder.resolve().parent.parent / "reports/trust.json"
    return (
        trust_in(path, folder) if path.is_file() else Absent("estimate.not_there", {"path": path})
    )


def _print_prediction(result: Mapping[str, Any]) -> None:
    store = result["destination"]
    print(f"{result['samples']} samples predicted in {result['seconds']:.1f} s: {store}")
    print(*_trust_lines(result), sep="\n")
    print(f"Look at it with: python -c \"import xarray; print(xarray.open_zarr('{store}'))\"")


def _trust_lines(result: Mapping[str, Any]) -> list[str]:
    trust, samples = result["trust"], result["samples"]
    if trust is None:
        return [str(result["no_trust"])]
    flagged = trust["unlike_training"]
    bounds = {n: b for n, b in trust["typical_relative_bounds"].items() if b is not None}
    lines = [f"none of {samples} inputs is unlike the training data"]
    if flagged:
        most = ", ".join(f"{name} ({count})" for name, count in trust["most_unusual"].items())
        are = "is" if flagged == 1 else "are"
        lines = [f"{flagged} of {samples} inputs {are} unlike the training data, most by: {most}"]
    if bounds:
        least, most = min(bounds, key=bounds.__getitem__), max(bounds, key=bounds.__getitem__)
        said = f"{bounds[most]:.2g} relative L2 ({bounds[most]:.1%})"
        if least != most:
            said = f"{bounds[least]:.1%} ({least}) to {bounds[most]:.1%} ({most}), relative L2"
        lines.append(
            f"typical error bound {said}, which {100 * trust['level']:g}% of predictions of inputs "
            "like the training data keep"
        )
    if "solved" in trust:
        solved = f"{trust['solved']} of {samples} samples are answered by the solver (answered_by)"
        kept = "could not be solved and keep the prediction"
        lines += [solved, *(f"{n} {kept}: {why}" for why, n in trust["not_solved"].items())]
    return [*lines, *trust["notes"]]


def _print_comparison(comparison: "Comparison", page: Path) -> None:
    from mno.report.panels import labelled
    from mno.sensors.page import error_rows, left_out, sensor_rows, verdicts

    def drawn(rows: list[dict[str, str]]) -> Any:
        return table(rows, [name for name in [*rows[0]][1:] if name != "quantity"], ())

    out, facts = console(width=150), comparison.facts
    out.print(f"{facts['readings']}  against {facts['model']}, given {facts['inputs']}")
    for scores in comparison.quantities:
        title = labelled(scores.quantity, scores.units)
        out.print(f"\n{title}  {scores.readings} readings of {scores.sensors} sensors")
        out.print(drawn(error_rows(scores)))
    out.print("", drawn(sensor_rows(comparison, _MOST_SENSORS)), "", sep="\n")
    remarks = (*comparison.remarks, *filter(None, [left_out(comparison)]))
    for line in (*verdicts(comparison), *(f"remark   {remark}" for remark in remarks)):
        out.print(line)
    out.print(f"\nNext: open {from_here(page)}")
