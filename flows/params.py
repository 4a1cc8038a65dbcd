"""The parameters of a workspace as a whole: validation, presets and edits of `params.yaml`."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core import config
from mno.core.config import Config
from mno.core.errors import InputError, did_you_mean
from mno.core.files import write_text
from mno.core.forecast import TaskConfig, forecast_of
from mno.core.observing import observing_of
from mno.core.readings import has_readings
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.generate.plan import rates_of
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.decision import check_kpis
from mno.lineage.record import entry
from mno.lineage.snapshot import asked
from mno.lineage.tidying import RetentionConfig
from mno.nn.config import ModelConfig, for_dataset
from mno.registry.config import PromotionConfig, RegistryConfig
from mno.scenarios.part import part_of
from mno.training.config import (
    LearningCurveConfig,
    TrainConfig,
    check_derivatives,
    check_unroll,
    scales_of,
)


class DriftConfig(Config):
    """When the inputs that the service sees are a reason to retrain."""

    flagged_share: float | None = Field(default=0.2, gt=0, le=1)
    """share of served samples that are unlike the training data, above which it is; null: never"""
    mean_bound: float | None = Field(default=None, gt=0)
    """mean bound on the relative L2 error that the service reports, as a fraction, above which it
    is; null: never"""
    least_samples: int = Field(default=100, ge=1)
    """samples that must have been served since the last run that drift has led to"""
    set: dict[str, Any] = Field(default_factory=dict)
    """parameters to set before such a run, by dotted key, as {generate.samples: 8000}; without any,
    and with the same data, only `start: champion` gives such a run something to do"""


class ScheduleConfig(Config):
    """What `mno schedule` runs do."""

    start: Literal["champion"] | None = None
    """what a scheduled training starts from: the champion's weights, written into train.warm_start;
    null: as train.warm_start says"""
    tidy: bool = False
    """after a run that has brought something up to date, remove what nothing needs, as `mno gc
    --retention --delete` does"""
    drift: DriftConfig = DriftConfig()
    """Of the service's inputs."""


class Params(Config):
    """The whole of `params.yaml`."""

    scenario: str
    """The PDE family, one of the modules in mno/scenarios."""
    seed: int = Field(ge=0)
    """Seed of the training: initial weights, data order."""
    generate: GenerateConfig
    """The dataset."""
    scenarios: dict[str, dict[str, Any]]
    """Each scenario's own parameters; what is not given takes its default."""
    task: TaskConfig
    """What is given and predicted of fields over time."""
    model: ModelConfig
    """The operator."""
    train: TrainConfig
    """The training."""
    learning_curve: LearningCurveConfig
    """The error by training samples."""
    evaluate: EvaluateConfig
    """The evaluation."""
    registry: RegistryConfig
    """The registration."""
    promotion: PromotionConfig = Field(default_factory=PromotionConfig)
    """Who becomes champion."""
    retention: RetentionConfig = RetentionConfig()
    """What `mno gc --retention` keeps; changes no result."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Scheduled retraining; changes no result by itself."""
    execution: ExecutionConfig
    """How work is executed; changes no result."""

    @property
    def dataset_name(self) -> str:
        """What datasets and models are named by."""
        return config.dataset_name(self.model_dump())

    @property
    def model_subject(self) -> str:
        """What models are named by, behind `mno-`."""
        return config.model_subject(self.model_dump())


def check_params(values: Mapping[str, Any], root: Path) -> Params:
    """Validate what can be known before any work starts; refuse, in a line, what cannot be used."""
    params = config.validate(Params, values)
    source = _source(params, root)
    rates_of(source, params.generate.derivatives or 0)  # refused where there are none
    scenario = part_of(source, params.task.part)
    task, fields = params.task, scenario.fields
    if task.observes:
        said = scenario.provenance.get("observe")
        fields = observing_of(fields, task.sensors, task.hidden, said).fields
    forecast = forecast_of(task, fields, scenario.axes)
    check_unroll(params.train, forecast)
    there = params.generate.derivatives is not None and task.part == "fields"
    check_derivatives(params.train, there, forecast)
    told = [field.name for field in fields if field.role in ("output", "state")]
    check_kpis(params.evaluate.kpis, told)
    model = for_dataset(params.model, scenario, task)
    if any(field.role == "coordinate" for field in scenario.fields):
        for key, (setting, remedy) in _unsuited_to_points(params).items():
            to = json.dumps(remedy).strip('"')
            raise InputError(
                f"{setting} needs a grid, but scenario={params.scenario} has unordered points; set "
                f"{key}={to}"
            )
    scales_of(fields, params.train.scales, model.walls)
    if params.model.backbone == "fno" and find_spec("neuralop") is None:
        raise InputError(
            "model.backbone=fno needs the package neuraloperator, which is not installed: "
            "pip install 'mno[fno]', or choose another backbone"
        )
    return params


def _source(params: Params, root: Path) -> Any:
    """Return where samples come from: a scenario, which takes a second to import, or files."""
    from mno.data.imported import source_class, source_parameters

    own = source_parameters(params.scenario, params.scenarios.get(params.scenario))
    return source_class(params.scenario).open(own, params.generate, root)


def _unsuited_to_points(params: Params) -> dict[str, tuple[str, Any]]:
    """Return the settings that need a grid: how each is written, and what to set instead."""
    model, train = params.model, params.train
    is_plain = model.backbone == "plain"
    has_scans = {"mamba", "ssd"} & {*model.mixer} or (is_plain and "own" in model.mixer)
    latent = model.backbone == "latent"
    scans = bool(has_scans) and not latent and not set(model.path) <= {"bidirectional", "hilbert"}
    grid_only = model.backbone in ("fno", "unet", "galerkin")
    needs = {
        "model.backbone": (grid_only, model.backbone, "gnot"),
        "model.cells": (latent and not model.cells, model.cells, 8),
        "model.path": (scans, ", ".join(model.path), "hilbert"),
        "model.walls": (model.walls in ("zero", "periodic"), model.walls, "free"),
        "train.loss": (train.loss == "h1", train.loss, "relative_l2"),
        "train.residual_weight": (bool(train.residual_weight), train.residual_weight, 0),
    }
    return {key: (f"{key}={now}", remedy) for key, (is_set, now, remedy) in needs.items() if is_set}


_FOR_FIELDS = "darcy"


def fitting_settings(root: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return which settings to change so that a model can be trained on imported data at all.

    Where the settings are those of readings, they become those of a preset for fields. The data are
    among the values that are to be set, by dotted key.
    """
    content = config.read_params(root)
    _put(content, values)
    params = config.validate(Params, content)
    fields = _source(params, root).fields
    roles, changes = {field.role for field in fields}, dict[str, Any]()
    if not has_readings(fields) and params.task.part != "fields":
        changes["task.part"] = "fields"
        # A model of a few readings is none of a grid; there is a preset that is.
        for_fields = _read_preset(root, _FOR_FIELDS) if _FOR_FIELDS in preset_names(root) else {}
        for section in ("generate", "model", "train"):
            changes |= {f"{section}.{k}": v for k, v in for_fields.get(section, {}).items()}
        _put(content, changes)
        params = config.validate(Params, content)
    if "coordinate" in roles:
        changes |= {key: remedy for key, (_, remedy) in _unsuited_to_points(params).items()}
    if params.train.residual_weight:
        changes["train.residual_weight"] = 0
    if "times" in roles and not params.task.along_time:
        changes["task.time"] = "axis"
    if {"state", "output"} <= roles and params.task.scheme == "rollout":
        changes["task.scheme"] = "horizon"
    return changes


def replace_params(root: Path, values: Mapping[str, Any]) -> list[str]:
    """Set parameters by dotted key in `params.yaml`, and return the keys whose values are new."""
    before = config.read_params(root)
    _edit(root, lambda document: _put(document, values))
    after = config.read_params(root)
    paths = {key: key.split(".") for key in values}
    return [key for key, path in paths.items() if entry(before, *path) != entry(after, *path)]


def parse_params(root: Path) -> Params:
    """Read `params.yaml` and refuse wrong values, but not those that do not go together."""
    return config.validate(Params, config.read_params(root))


def load_params(root: Path) -> Params:
    """Read `params.yaml`, and refuse what `check_params` does."""
    return check_params(config.read_params(root), root)


def edit_params(root: Path, preset: str | None, assignments: Sequence[str]) -> Params:
    """Apply a preset, then assignments such as `train.epochs=40`, to `params.yaml`."""

    def change(document: Any) -> None:
        if preset is not None:
            own, committed = _read_preset(root, preset), _committed(root)
            whole = {"task", "model"} if "scenario" in own else set()
            for name in whole.intersection(committed, document):
                # Another preset may have left here what this one does not name.
                for key in set(document[name]) - set(committed[name]):
                    del document[name][key]
                document[name].update(committed[name])
            _merge(document, own)
        for assignment in assignments:
            _assign(document, assignment)
        told = {key.partition("=")[0] for key in assignments}
        if "train.warm_start" in told and (start := entry(document, "train", "warm_start")):
            from pipelines.training import find_warm_start

            bare = "#" not in str(start)
            if (found := find_warm_start(root, str(start), pin=bare)) and bare:
                document["train"]["warm_start"] = found.pinned
        # Before notations are compared, for which true is 1.
        document.setdefault("scenarios", {})
        params = config.validate(Params, document)
        free = "task.part" not in told and params.task.part != "fields"
        if "scenario" in told and free and not has_readings(_source(params, root).fields):
            document["task"]["part"] = "fields"
        # DVC tracks scenarios.<name>, so the key must be there even where all are defaults.
        document["scenarios"].setdefault(params.scenario, {})

    return _edit(root, change, keep=preset is None and not assignments)


def preset_names(root: Path) -> list[str]:
    """Return the names of the workspace's presets."""
    return sorted(path.stem for path in root.glob("presets/*.yaml"))


def _edit(root: Path, change: Callable[[Any], None], keep: bool = False) -> Params:
    """Change the document, keeping comments; replace the file if that is valid and differs."""
    config.read_params(root)  # says in one line what is wrong with the file, if anything is
    path, yaml, buffer = root / config.PARAMS_FILE, config.yaml_writer(), io.StringIO()
    before = path.read_text(encoding="utf-8")
    document = yaml.load(before)
    change(document)
    _write_as_committed(document, _committed(root))
    yaml.dump(document, buffer)
    params = check_params(YAML(typ="safe").load(buffer.getvalue()), root)
    if not keep and buffer.getvalue() != before:
        write_text(path, buffer.getvalue())
    return params


def _committed(root: Path) -> Any:
    """Return the document that was committed last; an empty one where there is none."""
    text = asked(root, "show", f"HEAD:./{config.PARAMS_FILE}")
    try:
        document = config.yaml_writer().load(text or "")
    except (YAMLError, ValueError):
        return {}
    return document if isinstance(document, Mapping) else {}


def _write_as_committed(document: Any, committed: Any) -> None:
    """Take the committed notation of values that are the same: 1.0e-2 is not rewritten as 0.01."""
    for key in set(document) & set(committed):
        value, then = document[key], committed[key]
        if isinstance(value, Mapping) and isinstance(then, Mapping):
            _write_as_committed(value, then)
        elif value == then and type(value) is not type(then):
            document[key] = then


def _put(document: Any, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        *parents, last = key.split(".")
        section = document
        for part in parents:
            section = section.setdefault(part, {})
        section[last] = value


def _read_preset(root: Path, name: str) -> dict[str, Any]:
    if name not in (known := preset_names(root)):
        near = did_you_mean(name, known)
        raise InputError(f"preset {name!r} must be one of: {', '.join(known)}{near}")
    return config.read_yaml(root / f"presets/{name}.yaml")


def _merge(document: Any, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(document.get(key), Mapping):
            _merge(document[key], value)
        else:
            _replace(document, key, value)


def _replace(section: Any, key: str, value: Any) -> None:
    """Set a value; a list stays the same object, by which the comments behind it hang."""
    if isinstance(value, list) and isinstance(section.get(key), list):
        section[key][:] = value
    else:
        section[key] = value


def _assign(document: Any, assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    if not (key and equals):
        raise InputError(f"--set {assignment!r} must look like key=value, as in train.epochs=40")
    try:
        value = YAML(typ="safe").load(text)
    except (YAMLError, ValueError):  # of a date that there is not
        raise InputError(f"--set {assignment!r}: the value is not valid YAML") from None
    *parents, last = key.split(".")
    section = document
    for part in parents:
        if not isinstance(section.get(part), Mapping):
            known = [str(name) for name, held in section.items() if isinstance(held, Mapping)]
            raise InputError(
                f"--set {key}: {part} is not a section of {config.PARAMS_FILE}"
                f"{did_you_mean(part, known)} (known here: {', '.join(known)})"
            )
        section = section[part]
    _replace(section, last, value)
