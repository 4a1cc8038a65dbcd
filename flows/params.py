"""The parameters of a workspace as a whole: validation, presets and edits of `params.yaml`."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import Field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.config import PARAMS_FILE, Config, dataset_name, first_line, read_params, validate
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.errors import InputError
from mno.evaluation.config import EvaluateConfig
from mno.forecast import TaskConfig, forecast_of
from mno.nn.config import ModelConfig
from mno.registry.config import RegistryConfig
from mno.scenarios import source_class, source_parameters
from mno.training.config import TrainConfig, check_unroll

PRESETS_FOLDER = "presets"


class Params(Config):
    """The whole of `params.yaml`."""

    scenario: str = Field(description="The PDE family, one of the modules in mno/scenarios.")
    seed: int = Field(ge=0, description="Seed of the training: initial weights, data order.")
    generate: GenerateConfig = Field(description="The dataset.")
    scenarios: dict[str, dict[str, Any]] = Field(
        description="Each scenario's own parameters; what is not given takes its default."
    )
    task: TaskConfig = Field(description="What is given and predicted of fields over time.")
    model: ModelConfig = Field(description="The operator.")
    train: TrainConfig = Field(description="The training.")
    evaluate: EvaluateConfig = Field(description="The evaluation.")
    registry: RegistryConfig = Field(description="The registration.")
    execution: ExecutionConfig = Field(description="How work is executed; changes no result.")

    @property
    def dataset_name(self) -> str:
        """What datasets and models are named by."""
        return dataset_name(self.model_dump())


def check_params(values: Mapping[str, Any], root: Path) -> Params:
    """Validate everything that can be known before any work starts.

    Args:
        values: The content of `params.yaml`.
        root: The workspace, where imported data are.

    Raises:
        InputError: One line that names each key that cannot be used.
    """
    params = validate(Params, values)
    own = source_parameters(params.scenario, params.scenarios.get(params.scenario))
    scenario = source_class(params.scenario).open(own, params.generate, root)
    check_unroll(params.train, forecast_of(params.task, scenario.fields, scenario.axes))
    if any(field.role == "coordinate" for field in scenario.fields):
        _check_points(params)
    if params.model.backbone == "fno" and find_spec("neuralop") is None:
        raise InputError(
            "model.backbone=fno needs the package neuraloperator, which is not installed here; run "
            "`pip install neuraloperator` in this environment, or choose another backbone"
        )
    return params


def _check_points(params: Params) -> None:
    """Refuse what needs a grid where the scenario has unordered points."""
    model, train = params.model, params.train
    is_plain = model.backbone == "plain"
    has_mamba = "mamba" in model.mixer or (is_plain and "own" in model.mixer)
    scans = has_mamba and not set(model.path) <= {"bidirectional", "hilbert"}
    needs = {
        f"model.backbone={model.backbone}": (model.backbone in ("fno", "unet", "galerkin"), "gnot"),
        f"model.path={', '.join(model.path)}": (scans, "hilbert"),
        f"model.walls={model.walls}": (model.walls != "free", "free"),
        f"train.loss={train.loss}": (train.loss == "h1", "relative_l2"),
        f"train.residual_weight={train.residual_weight}": (bool(train.residual_weight), "0"),
        "train.augment=true": (train.augment, "false"),
    }
    for setting, (is_set, remedy) in needs.items():
        if is_set:
            raise InputError(
                f"{setting} needs a grid, but scenario={params.scenario} has unordered points; set "
                f"{setting.partition('=')[0]}={remedy}"
            )


def load_params(root: Path) -> Params:
    """Read and validate `params.yaml`.

    Raises:
        InputError: As for `check_params`, and where the file cannot be read.
    """
    return check_params(read_params(root), root)


def edit_params(root: Path, preset: str | None, assignments: Sequence[str]) -> Params:
    """Apply a preset, then `key=value` assignments, to `params.yaml`; keep its comments.

    The file is replaced only if the result is valid and differs.

    Args:
        root: The workspace.
        preset: Name of a file in `presets/`, or None.
        assignments: For example `["train.epochs=40", "scenario=darcy"]`; values are YAML.

    Raises:
        InputError: The preset or a key does not exist, or the result is not valid.
    """
    read_params(root)  # says in one line what is wrong with the file, if anything is
    path = root / PARAMS_FILE
    yaml = _round_trip()
    before = path.read_text(encoding="utf-8")
    document = yaml.load(before)
    if preset is not None:
        _merge(document, _read_preset(root, preset))
    for assignment in assignments:
        _assign(document, assignment)
    # DVC tracks scenarios.<name>, so the key must be there even where all values are defaults.
    document.setdefault("scenarios", {}).setdefault(document.get("scenario"), {})
    buffer = io.StringIO()
    yaml.dump(document, buffer)
    params = check_params(YAML(typ="safe").load(buffer.getvalue()), root)
    if (preset is not None or assignments) and buffer.getvalue() != before:
        partial = path.with_suffix(".yaml.partial")
        partial.write_text(buffer.getvalue(), encoding="utf-8")
        os.replace(partial, path)
    return params


def preset_names(root: Path) -> list[str]:
    """Return the names of the workspace's presets."""
    return sorted(path.stem for path in (root / PRESETS_FOLDER).glob("*.yaml"))


def parameter_keys(root: Path) -> list[str]:
    """Return the dotted keys of all parameters in `params.yaml`."""

    def walk(values: Mapping[str, Any], prefix: str) -> list[str]:
        keys = []
        for key, value in values.items():
            nested = isinstance(value, Mapping) and value
            keys += walk(value, f"{prefix}{key}.") if nested else [f"{prefix}{key}"]
        return keys

    return walk(read_params(root), "")


def _round_trip() -> YAML:
    """Return a reader and writer that keeps comments, quotes and `null` as they are written."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.representer.add_representer(
        type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def _read_preset(root: Path, name: str) -> dict[str, Any]:
    if name not in preset_names(root):
        raise InputError(f"preset {name!r} must be one of: {', '.join(preset_names(root))}")
    path = root / PRESETS_FOLDER / f"{name}.yaml"
    try:
        values = YAML(typ="safe").load(path)
    except YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {first_line(error)}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} must be a mapping of parameters")
    return values


def _merge(document: Any, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(document.get(key), Mapping):
            _merge(document[key], value)
        else:
            document[key] = value


def _assign(document: Any, assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    if not (key and equals):
        raise InputError(f"--set {assignment!r} must look like key=value, as in train.epochs=40")
    try:
        value = YAML(typ="safe").load(text)
    except YAMLError:
        raise InputError(f"--set {assignment!r}: the value is not valid YAML") from None
    *parents, last = key.split(".")
    section = document
    for part in parents:
        if not isinstance(section.get(part), Mapping):
            raise InputError(
                f"--set {key}: {part} is not a section of {PARAMS_FILE}; "
                f"there are: {', '.join(map(str, document))}"
            )
        section = section[part]
    section[last] = value
