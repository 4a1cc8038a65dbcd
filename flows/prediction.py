"""`mno predict`: a registered model, or a model's folder, on a store of inputs."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress

from flows.workspace import find_workspace, prepare_environment
from mno.core.errors import InputError
from mno.surrogate.surrogate import Surrogate

if TYPE_CHECKING:
    from mno.surrogate.trust.answers import Answers
    from mno.surrogate.trust.trust import Trust

_TRUST = "trust.json"


@dataclass(frozen=True)
class PredictOptions:
    """What the user asks for.

    Attributes:
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION` or the folder of a saved surrogate.
        source: Zarr group with the model's input fields.
        destination: Zarr group to write; must not exist.
        batch_size: Samples per forward pass.
        steps: Frames of states to predict; those of the training data if none is given.
        fallback: `solver`, if inputs unlike the training data are to be solved; else `none`.
        fallback_above: Bound on the relative L2 error, as a fraction, beyond which samples are
            solved, too.
        quiet: Draw no progress.
    """

    model: str
    source: Path
    destination: Path
    batch_size: int = 32
    steps: int | None = None
    fallback: str = "none"
    fallback_above: float | None = None
    quiet: bool = False


def predict_store(options: PredictOptions) -> dict[str, Any]:
    """Predict every sample of a Zarr store and write the outputs as another.

    With each field go bounds on its error, the residual it leaves in the equation, and whether the
    input is unlike the training data, where the model has what that takes.

    Returns:
        `samples`, `seconds`, `destination`; `trust`, the summary of `Answers`, or none and then
        `no_trust`, why.

    Raises:
        InputError: The model, the source, the destination or the fallback cannot be used.
    """
    from mno.surrogate.predictions import predict_store as predict

    folder = _model_folder(options.model)
    surrogate = Surrogate.load(folder)
    trust = _trust_of(options.model, folder)
    answers = _answers(surrogate, trust, options)
    console = Console(stderr=True, quiet=options.quiet)
    start = time.monotonic()
    hidden = options.quiet or not console.is_terminal
    with Progress(console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("predicting", total=None)
        samples = predict(
            surrogate, options.source, options.destination, options.batch_size,
            lambda done, total: progress.update(task, completed=done, total=total),
            options.steps, answers,
        )  # fmt: skip
    seconds = round(time.monotonic() - start, 2)
    return {
        "samples": samples,
        "seconds": seconds,
        "destination": str(options.destination),
        "trust": answers.summary() if answers else None,
        **({"no_trust": trust} if isinstance(trust, str) else {}),
    }


def load_model(model: str) -> Surrogate:
    """Load a model.

    Args:
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION` or the folder of a saved surrogate.

    Raises:
        InputError: There is none, or it cannot be read.
    """
    return Surrogate.load(_model_folder(model))


def share(text: str) -> float:
    """Return what `0.05` or `5%` stands for.

    Raises:
        InputError: It is no number above zero.
    """
    number, percent = text.removesuffix("%"), text.endswith("%")
    try:
        found = float(number) / (100.0 if percent else 1.0)
    except ValueError:
        found = math.nan
    if not 0.0 < found < math.inf:
        raise InputError(f"--fallback-above {text}: expected a number above 0, as 0.05 or 5%")
    return found


def print_prediction(result: Mapping[str, Any], console: Console) -> None:
    """Say what was written, and how far it may be trusted."""
    destination = result["destination"]
    console.print(
        f"{result['samples']} samples predicted in {result['seconds']:.1f} s: {destination}"
    )
    for line in _trust_lines(result):
        console.print(line)
    console.print(
        f"Look at it with: python -c \"import xarray; print(xarray.open_zarr('{destination}'))\""
    )


def _model_folder(model: str) -> Path:
    if not model.startswith(("models:/", "runs:/")):
        return Path(model)
    root = find_workspace()
    prepare_environment(root)
    from mno.registry.reading import registered_folder

    return registered_folder(root, model)


def _trust_of(model: str, folder: Path) -> Trust | str:
    """Return what a model's predictions are judged by; or, in one line, why nothing is.

    It lies beside a registered model, and among the reports of the workspace that trained one.
    """
    from mno.registry.serving import registered_trust, trust_in

    if model.startswith(("models:/", "runs:/")):
        return registered_trust(folder)
    path = folder.resolve().parents[1] / "reports" / _TRUST
    if not path.is_file():
        return f"no error estimate: there is no {path}; make one with: mno evaluate"
    return trust_in(path, folder)


def _answers(surrogate: Surrogate, trust: Trust | str, options: PredictOptions) -> Answers | None:
    """Return what judges predictions, with a solver to fall back on if one is asked for."""
    from mno.surrogate.predictions import open_inputs
    from mno.surrogate.trust.answers import Answers
    from mno.surrogate.trust.fallback import fallback_to

    if options.fallback not in ("none", "solver"):
        raise InputError(f"--fallback {options.fallback}: expected solver, or none")
    if options.fallback == "none" and options.fallback_above is not None:
        raise InputError("--fallback-above says when to solve; give --fallback solver, too")
    if isinstance(trust, str):
        if options.fallback != "none":
            raise InputError(f"--fallback {options.fallback} needs an error estimate; {trust}")
        return None
    description = surrogate.description
    if options.fallback == "none":
        return Answers(trust, description)
    inputs = open_inputs(surrogate, options.source, options.steps)
    shape = inputs[description.fields[0]].shape[-len(description.space) :]
    above = options.fallback_above
    return Answers(trust, description, fallback_to(trust, description, shape, options.steps, above))


def _trust_lines(result: Mapping[str, Any]) -> list[str]:
    trust = result["trust"]
    if trust is None:
        return [str(result["no_trust"])]
    lines = []
    flagged, samples = trust["unlike_training"], result["samples"]
    verb = "is" if flagged == 1 else "are"
    if flagged:
        most = ", ".join(f"{name} ({count})" for name, count in trust["most_unusual"].items())
        lines.append(
            f"{flagged} of {samples} inputs {verb} unlike the training data, most by: {most}"
        )
    else:
        lines.append(f"none of {samples} inputs is unlike the training data")
    bound = trust["typical_relative_bound"]
    if bound is not None:
        lines.append(
            f"typical error bound {bound:.2g} relative L2 ({bound:.1%}), which "
            f"{trust['level']:.0%} of predictions of inputs like the training data keep"
        )
    if "solved" in trust:
        lines += _solver_lines(trust, samples)
    return [*lines, *trust["notes"]]


def _solver_lines(trust: Mapping[str, Any], samples: int) -> list[str]:
    lines = [f"{trust['solved']} of {samples} samples are answered by the solver (answered_by)"]
    if trust["iterations"] is not None:
        lines[0] += (
            f": {trust['iterations']:.1f} iterations each from the prediction, "
            f"{trust['iterations_from_zero']:.1f} from zero"
        )
    return lines + [
        f"{count} could not be solved and keep the prediction: {reason}"
        for reason, count in trust["not_solved"].items()
    ]
