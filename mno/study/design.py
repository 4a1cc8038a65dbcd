"""What a study file says, and its cells: every scenario with every model and every seed."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core.config import Config
from mno.core.errors import InputError, first_line
from mno.core.forecast import TaskConfig
from mno.data.config import ExecutionConfig
from mno.evaluation.config import EvaluateConfig
from mno.nn.config import ModelConfig
from mno.registry.config import PromotionConfig, RegistryConfig
from mno.training.config import LearningCurveConfig, TrainConfig

FOLDER = Path("studies")
WITHIN_BACKBONE, ALL_PAIRS = "backbone", "all"

_NAME = re.compile(r"[a-z0-9][a-z0-9_]*(-[a-z0-9_]+)*")
_SECTIONS = ("generate", "task", "model", "train", "learning_curve", "evaluate")

Options = dict[str, Any]
_Spec = TypeVar("_Spec", bound=Config)


class MatchConfig(Config):
    """Operators of equal size: the width of each is chosen so that its parameters come close."""

    target: int = Field(ge=1, description="Trainable parameters of every model")
    tolerance: float = Field(
        default=0.05, gt=0, lt=0.5, description="Largest distance from them, as a share"
    )


class ScalingConfig(Config):
    """Time and memory of untrained operators on larger and larger grids."""

    resolutions: list[Annotated[int, Field(ge=4, le=4096)]] = Field(
        default=[16, 32, 64, 128], min_length=1, description="Points along each axis"
    )
    seconds: float = Field(
        default=0.5, gt=0, allow_inf_nan=False, description="Time to spend on each measurement"
    )
    scenarios: list[str] = Field(
        default=[], description="Scenarios whose fields the operators take; the first if none"
    )


class StudySpec(Config):
    """A study, as its file says.

    What it does not say takes the default of the code, never what `params.yaml` says at the moment:
    cells do not become stale because somebody works on the line.
    """

    title: str = Field(description="What the report is called")
    question: str = Field(default="", description="What the study is to answer")
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        min_length=1, description="Seeds of the training; the same for every model"
    )
    base: Options = Field(default={}, description="Parameters that all cells share, by section")
    scenarios: dict[str, Options] = Field(
        min_length=1,
        description="By a name of your choice: `scenario` (that name if not given), `parameters` "
        "of the scenario, sections of parameters, and `only`, the models that it is asked of "
        "(all if not given)",
    )
    backbones: dict[str, Options] = Field(
        default={}, description="Section `model` of each backbone, crossed with the mixers"
    )
    mixers: dict[str, Options] = Field(
        default={}, description="What each mixer changes in the section `model` of a backbone"
    )
    models: dict[str, Options] = Field(
        default={},
        description="Further models, not crossed: their section `model`; `train` within it "
        "changes how they are trained",
    )
    parameters: MatchConfig | None = Field(
        default=None, description="The size that all models have; each its own if not given"
    )
    compare: str = Field(
        default=WITHIN_BACKBONE,
        description="Which models are compared: those of a backbone with each other (`backbone`), "
        "all with each other (`all`), or all with the one that is named here",
    )
    scaling: ScalingConfig | None = Field(default=None, description="None: it is not measured")

    @field_validator("scenarios", "backbones", "mixers", "models")
    @classmethod
    def _has_plain_names(cls, value: dict[str, Options]) -> dict[str, Options]:
        for name in value:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"the name {name!r} must consist of small letters, digits, _ and single "
                    "hyphens between them; it becomes part of file names"
                )
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> StudySpec:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds={self.seeds} lists one twice; give each once")
        if bool(self.backbones) != bool(self.mixers):
            raise ValueError("backbones and mixers are crossed: give both, or models instead")
        if not self.backbones and not self.models:
            raise ValueError("there is no model; give backbones and mixers, or models")
        twice = set(self.models) & {f"{b}-{m}" for b in self.backbones for m in self.mixers}
        if twice:
            raise ValueError(f"the model {min(twice)} is there twice; rename it in models")
        names = [*self.models, *(f"{b}-{m}" for b in self.backbones for m in self.mixers)]
        if self.compare not in (WITHIN_BACKBONE, ALL_PAIRS, *names):
            raise ValueError(
                f"compare={self.compare} must be backbone, all, or a model: {', '.join(names)}"
            )
        for where, options in [("base", self.base), *self.scenarios.items()]:
            extra = () if where == "base" else ("scenario", "parameters", "only")
            for key, section in options.items():
                if key not in (*_SECTIONS, *extra):
                    raise ValueError(
                        f"{where}.{key} is not known (known here: "
                        f"{', '.join((*extra, *_SECTIONS))})"
                    )
                if key == "only":
                    _check_only(where, section, names)
                elif key != "scenario" and not isinstance(section, dict):
                    raise ValueError(f"{where}.{key} must be a mapping of parameters")
        unknown = set(self.scaling.scenarios if self.scaling else ()) - set(self.scenarios)
        if unknown:
            raise ValueError(
                f"scaling.scenarios names {min(unknown)}, which is not a scenario here"
            )
        return self


def _check_only(where: str, only: Any, names: list[str]) -> None:
    listed = isinstance(only, list) and len(only) > 0
    unknown = [name for name in only if name not in names] if listed else [only]
    if unknown:
        raise ValueError(f"{where}.only={only!r} must list models of the study: {', '.join(names)}")


def study_file(root: Path, given: str) -> Path:
    """Return the file of a study that is given by its path or by its name in `studies/`.

    Raises:
        InputError: There is none.
    """
    return find_file(root, FOLDER, given, "study")


def study_names(root: Path) -> list[str]:
    """Return the names of the studies that a workspace has files of."""
    return names_in(root, FOLDER)


def read_study(path: Path) -> StudySpec:
    """Read and check a study file; whether each cell can be made is checked with its parameters.

    Raises:
        InputError: One line that says what cannot be used.
    """
    return read_file(path, StudySpec, "study", "title, seeds, scenarios and models")


def find_file(root: Path, folder: Path, given: str, kind: str) -> Path:
    """Return a file of a kind that is given by its path or by its name in a folder.

    Raises:
        InputError: There is none.
    """
    path = Path(given)
    by_path = path.suffix in (".yaml", ".yml")
    for candidate in (path, root / path) if by_path else (root / folder / f"{given}.yaml",):
        if candidate.is_file():
            return candidate
    known = ", ".join(names_in(root, folder)) or "none"
    raise InputError(
        f"there is no {kind} {given!r}; give a file, or one of those in {folder}/: {known}"
    )


def names_in(root: Path, folder: Path) -> list[str]:
    """Return the names of the files of a kind that a workspace has in a folder."""
    return sorted(path.stem for path in (root / folder).glob("*.yaml"))


def read_file(path: Path, model: type[_Spec], kind: str, keys: str) -> _Spec:
    """Read and check a file of a kind, and its name.

    Args:
        path: The file.
        model: What it has to say.
        kind: What it is called in messages.
        keys: What it must have, in words.

    Raises:
        InputError: One line that says what cannot be used.
    """
    if not _NAME.fullmatch(path.stem):
        raise InputError(
            f"{path.name}: the name of a {kind} file must consist of small letters, digits, _ and "
            "single hyphens, and end in .yaml; rename it"
        )
    try:
        content = YAML(typ="safe").load(path)
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {first_line(error)}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must be a mapping with {keys}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        found = "; ".join(_problem(item, model) for item in error.errors())
        raise InputError(f"{path.name}: {found}") from None


def _problem(item: Any, model: type[Config]) -> str:
    """Say in words what pydantic found wrong."""
    key = ".".join(str(part) for part in item["loc"])
    match item["type"]:
        case "extra_forbidden":
            known = f" (known: {', '.join(model.model_fields)})" if "." not in key else ""
            return f"{key} is not known{known}"
        case "missing":
            return f"{key} is missing"
        case "union_tag_invalid" | "union_tag_not_found":
            return (
                f"{key} needs type: float, log, int or choice, as in {{type: int, low: 2, high: 4}}"
            )
        case "value_error":
            return f"{key}: {item['ctx']['error']}" if key else str(item["ctx"]["error"])
        case _:
            return f"{key}={item['input']!r} {item['msg'].removeprefix('Input ')}"


_GENERATE = {
    "shard_size": 50,
    "seed": 0,
    "split": {"train": 0.8, "validation": 0.1, "test": 0.1},
}
_DEFAULTS = {
    "task": TaskConfig,
    "model": ModelConfig,
    "train": TrainConfig,
    "learning_curve": LearningCurveConfig,
    "evaluate": EvaluateConfig,
    "registry": RegistryConfig,
    "promotion": PromotionConfig,
    "execution": ExecutionConfig,
}
TRACKED = ("scenario", "seed", "generate", "task", "model", "train", "learning_curve", "evaluate")
"""The parameters that a cell depends on, besides those of its own scenario."""


@dataclass(frozen=True)
class Model:
    """One kind of model of a study.

    Attributes:
        name: Unique in the study.
        backbone: Key in `backbones`; of a model that is not crossed its architecture.
        mixer: Key in `mixers`; of others their name.
        options: Its section `model`, as far as the study says.
        train: What it changes of the section `train`.
    """

    name: str
    backbone: str
    mixer: str
    options: Mapping[str, Any]
    train: Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One training and its evaluation.

    Attributes:
        study: Name of the study.
        scenario: Its name in the study.
        model: Its model.
        seed: Of the training.
        params: What `params.yaml` holds for it, complete.
    """

    study: str
    scenario: str
    model: Model
    seed: int
    params: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What its file is called, without `.json`."""
        return f"{self.scenario}--{self.model.name}--{self.seed}"

    @property
    def experiment(self) -> str:
        """The name of its DVC experiment."""
        return f"{self.study}--{self.name}"

    @property
    def tracked(self) -> dict[str, Any]:
        """The parameters that its result depends on."""
        scenario = self.params["scenario"]
        own = self.params["scenarios"].get(scenario, {})
        return {key: self.params[key] for key in TRACKED} | {"parameters": own}


def models_of(spec: StudySpec) -> list[Model]:
    """Return all kinds of models of a study, in the order of its file."""
    crossed = [
        _model(f"{backbone}-{mixer}", {"backbone": backbone} | body | change, backbone, mixer)
        for backbone, body in spec.backbones.items()
        for mixer, change in spec.mixers.items()
    ]
    alone = [
        _model(name, options, str(options.get("backbone", "plain")), name)
        for name, options in spec.models.items()
    ]
    return crossed + alone


def cells_of(name: str, spec: StudySpec) -> list[Cell]:
    """Return all cells of a study: seeds outermost, then scenarios, then models.

    Widths are as the file says; see `mno.study.operators`.

    Args:
        name: Of the study.
        spec: What its file says.
    """
    return [
        Cell(name, scenario, model, seed, _params(spec, scenario, model, seed))
        for seed in spec.seeds
        for scenario in spec.scenarios
        for model in models_of(spec)
        if model.name in spec.scenarios[scenario].get("only", [model.name])
    ]


def _model(name: str, options: Mapping[str, Any], backbone: str, mixer: str) -> Model:
    kept = dict(options)
    train = kept.pop("train", {})
    return Model(name, backbone, mixer, kept, train)


def _params(spec: StudySpec, scenario: str, model: Model, seed: int) -> dict[str, Any]:
    own = spec.scenarios[scenario]
    name = str(own.get("scenario", scenario))
    given = _merged(
        spec.base, {k: v for k, v in own.items() if k not in ("scenario", "parameters", "only")}
    )
    given = _merged(given, {"model": model.options, "train": model.train})
    params: dict[str, Any] = {
        "scenario": name,
        "seed": seed,
        "scenarios": {name: dict(own.get("parameters", {}))},
        "generate": _merged(_GENERATE, given.get("generate", {})),
    }
    for section, config in _DEFAULTS.items():
        params[section] = _merged(config().model_dump(), given.get(section, {}))
    return params


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(dict(values))
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merged(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged
