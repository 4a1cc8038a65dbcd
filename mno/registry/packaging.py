"""Packaging a candidate as an MLflow model that loads with or without this project.

A package holds the candidate's files (safetensors and JSON, no pickle), a copy of the modules
that prediction needs, a signature and an input example.
"""

import shutil
import tempfile
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mno.core.errors import MnoError, first_line
from mno.core.imports import imported_files, other_packages
from mno.core.readings import from_points, is_made
from mno.registry.reading import TRUST_FILE
from mno.registry.settings import Workspace, import_mlflow
from mno.surrogate.surrogate import DESCRIPTION_FILE, WEIGHTS_FILE, Surrogate

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

Arrays = Mapping[str, np.ndarray]

_MODEL_CODE = Path(__file__).with_name("pyfunc_model.py")
_SOURCES = Path(__file__).parents[2]
_PREDICTION = "mno/surrogate/surrogate.py"
_OTHERWISE_NAMED = {"neuralop": "neuraloperator", "ruamel": "ruamel.yaml"}


def save_package(candidate: Path, inputs: Arrays, folder: Path, trust: bytes | None = None) -> None:
    """Write a candidate, the folder that `Surrogate.save` wrote, as an MLflow model in a new one.

    Inputs are fields of some samples in physical units, of which the first two become the example.
    What predictions are judged by, the content of `reports/trust.json`, goes beside the candidate,
    and does not change what the model predicts.
    """
    import_mlflow()
    from mlflow import pyfunc

    surrogate = Surrogate.load(candidate)
    description = surrogate.description
    example = {n: np.asarray(inputs[n][:2], dtype=np.float32) for n in description.given_names}
    code = imported_files(_SOURCES, [_PREDICTION], lazy=True)
    packages = ["mlflow", *other_packages(_SOURCES, code)]
    if description.model.backbone == "fno":
        packages.append("neuralop")  # imported by name, since the other backbones do without
    # With the files beside packages of ours that hold what their modules say.
    packaged = [Path(name).parent for name in code if Path(name).name == "__init__.py"]
    words = [path for inner in packaged for path in (_SOURCES / inner).glob("*.toml")]
    copies = {f"candidate/{name}": candidate / name for name in (WEIGHTS_FILE, DESCRIPTION_FILE)}
    copies |= {f"code/{name}": _SOURCES / name for name in code}
    copies |= {f"code/{path.relative_to(_SOURCES)}": path for path in words}
    with tempfile.TemporaryDirectory(prefix="mno-package-") as scratch:
        artifacts = {name: f"{scratch}/{name}" for name in ("candidate", "code")}
        for name, source in copies.items():
            copy = Path(scratch, name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
        if trust is not None:
            Path(scratch, TRUST_FILE).write_bytes(trust)
            artifacts["trust"] = f"{scratch}/{TRUST_FILE}"
        pyfunc.save_model(
            str(folder), python_model=str(_MODEL_CODE), artifacts=artifacts,
            signature=_signature(surrogate), pip_requirements=requirements(packages),
            input_example=from_points(description.readings, example, description.cells),
        )  # fmt: skip


def load_model(uri: str | Path, workspace: Workspace | None = None) -> Any:
    """Load a packaged model, by its folder or its address in an MLflow."""
    _ = workspace.client if workspace else import_mlflow()
    from mlflow import pyfunc

    try:
        return pyfunc.load_model(str(uri), suppress_warnings=True)
    except Exception as error:  # files missing, packages missing, anything in the model's code
        raise MnoError(f"{uri} does not load: {first_line(error)}") from error


def check_predictions(model: Any, inputs: Arrays, expected: Arrays) -> str | None:
    """Say how predictions differ from the evaluation's, by more than 1e-5 of the largest value.

    That is what float32 loses between two batch sizes.
    """
    found = model.predict(dict(inputs))
    if set(found) != set(expected):
        return f"it predicts {sorted(found)}, the evaluation had {sorted(expected)}"
    for name, truth in expected.items():
        if found[name].shape != truth.shape:
            return f"{name} has shape {found[name].shape}, the evaluation had {truth.shape}"
        limit = 1e-5 * float(np.max(np.abs(truth), initial=0.0))
        worst = float(np.max(np.abs(found[name] - truth), initial=0.0))
        if not worst <= limit:  # not a number is a difference, too
            return f"{name} differs by {worst:.3g}, more than {limit:.3g}"
    return None


def frames_given(model: Any) -> int:
    """Return how many frames of a state a loaded model is given; 0 where it knows no states."""
    given, predicted = model.metadata.get_input_schema(), model.metadata.get_output_schema()
    if given is None or predicted is None:  # registered by another hand
        return 0
    states = set(given.input_names()) & set(predicted.input_names())
    return max((spec.shape[1] for spec in given.inputs if spec.name in states), default=0)


def requirements(packages: Iterable[str]) -> list[str]:
    """Return ranges around installed versions that fit any build, for example `torch>=2.6,<3`."""
    found = set()
    for package in packages:
        name = _OTHERWISE_NAMED.get(package, package)
        major, minor = (version(name).split("+")[0].split(".") + ["0"])[:2]
        found.add(f"{name}>={major}.{minor},<{int(major) + 1}")
    return sorted(found)


def _signature(surrogate: Surrogate) -> "ModelSignature":
    """Describe fields of any number of samples on any grid, states by the frames they need.

    MLflow's own enforcement of tensors refuses float64 where float32 is named and the other way
    round. It leaves the check to the model where a signature comes from type hints, so that is
    what is claimed: the model then takes any numbers, also nested lists from JSON.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    description, forecast = surrogate.description, surrogate.description.forecast
    grid: tuple[int, ...] = (-1,) * len(description.space)
    given: dict[str, tuple[int, ...]] = dict.fromkeys(description.given_names, grid)
    given |= dict.fromkeys(description.scalars, ())
    given |= dict.fromkeys(description.forcings, (-1, *grid))
    given |= dict.fromkeys(description.times, (-1,))
    predicted: dict[str, tuple[int, ...]] = dict.fromkeys(description.outputs, grid)
    if forecast:
        given |= dict.fromkeys(description.states, (forecast.history, *grid))
        predicted |= dict.fromkeys(description.timed, (-1, *grid))
    for shapes in (given, predicted):  # readings as the dataset has them
        for name in shapes.keys() & description.readings.keys():
            axis, first, last = description.readings[name]
            number = (last - first,) if axis else ()
            own = description.cells if name in description.of_cells else number
            shapes[name] = (*shapes[name][:-1], *own)
        for name in filter(is_made, list(shapes)):
            del shapes[name]
    number = np.dtype(np.float32)
    inputs, outputs = (
        Schema([TensorSpec(number, (-1, *shape), name) for name, shape in fields.items()])
        for fields in (given, predicted)
    )
    params: Any = None
    if forecast and description.any_steps:
        params = ParamSchema([ParamSpec("steps", DataType.long, forecast.steps)])
    signature = ModelSignature(inputs, outputs, params=params)
    signature._is_signature_from_type_hint = True
    return signature
