"""What a study file says, and its cells: every scenario with every model and every seed."""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from mno.core.config import PARAMS_FILE, Config, read_file, validate
from mno.core.errors import InputError, did_you_mean
from mno.core.forecast import TaskConfig
from mno.data.config import ExecutionConfig
from mno.evaluation.config import EvaluateConfig, PeerName
from mno.nn.config import ModelConfig
from mno.registry.config import PromotionConfig, RegistryConfig
from mno.training.config import LearningCurveConfig, TrainConfig

WITHIN_BACKBONE, ALL_PAIRS = "backbone", "all"

_NAME = r"[a-z0-9][a-z0-9_]*(-[a-z0-9_]+)*"

Name = Annotated[str, Field(pattern=f"^{_NAME}$")]
"""It becomes part of file names, which have two hyphens between names."""
Options = dict[str, Any]


class FileSpec(Config):
    """What a file of a workspace says: a study or a search."""

    kind: ClassVar[str]  # what it is called in messages
    folder: ClassVar[Path]

    @classmethod
    def names(cls, root: Path) -> list[str]:
        """Return the names of the files of this kind that a workspace has."""
        return sorted(path.stem for path in (root / cls.folder).glob("*.yaml"))

    @classmethod
    def find(cls, root: Path, given: str) -> Path:
        """Return a file given by its path, or by its name in the folder; refuse what is none."""
        path = Path(given) if given.endswith(".yaml") else root / cls.folder / f"{given}.yaml"
        if path.is_file():
            return path
        known = ", ".join(cls.names(root)) or "none"
        raise InputError(
            f"there is no {cls.kind} {given!r}; give a file, or one of those in {cls.folder}/: "
            f"{known}{did_you_mean(given, cls.names(root))}"
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file; refuse it, or its name, in one line that says what cannot be used."""
        if not re.fullmatch(_NAME, path.stem):
            raise InputError(
                f"{path.name}: the name of a {cls.kind} file must consist of small letters, "
                "digits, _ and single hyphens, and end in .yaml; rename it"
            )
        return read_file(cls, path)


class Sections(Config):
    """Parameters by section, as far as a study says them."""

    generate: Options = {}
    task: Options = {}
    model: Options = {}
    train: Options = {}
    learning_curve: Options = {}
    evaluate: Options = {}


class ScenarioSpec(Sections):
    """A scenario of a study."""

    scenario: str | None = None
    """The name it has here if not given"""
    parameters: Options = {}
    """Of the scenario"""
    only: list[str] | None = Field(default=None, min_length=1)
    """Models that it is asked of; all if not given"""


class MatchConfig(Config):
    """Operators of equal size: the width of each is chosen so that its parameters come close."""

    target: int = Field(ge=1)
    """Trainable parameters of every model"""
    tolerance: float = Field(default=0.05, gt=0, lt=0.5)
    """Largest distance from them, as a share"""


class ScalingConfig(Config):
    """Time and memory of untrained operators on larger and larger grids."""

    resolutions: list[Annotated[int, Field(ge=4, le=4096)]] = Field(
        default=[16, 32, 64, 128], min_length=1
    )
    """Points along each axis"""
    seconds: float = Field(default=0.5, gt=0, allow_inf_nan=False)
    """Time to spend on each measurement"""


class TuningConfig(Config):
    """What each model is given alike before it is compared: trials, and a cost of training."""

    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Of one processor, for each training, where steps were timed, which gives the epochs. None:
    they are those of the section `train`"""
    trials: list[dict[str, Any]] = Field(min_length=1)
    """What of the section `train` to try for each model on each scenario, for example
    `{learning_rate: 0.001}`; what has the lowest error on the validation split is taken"""
    share: float = Field(default=1 / 3, gt=0, le=1)
    """Length of such a trial, as a share of a training"""

    @field_validator("trials")
    @classmethod
    def _are_of_train(cls, trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for trial in trials:
            try:
                validate(TrainConfig, trial)
            except InputError as error:
                raise ValueError(str(error).removeprefix(f"{PARAMS_FILE}: ")) from None
            if "epochs" in trial:
                raise ValueError(f"{trial} says epochs, which all have alike; leave them out")
        return trials

    @property
    def kinds(self) -> list[dict[str, Any]]:
        """Return the kinds of trials, each once."""
        kinds = [kind_of(trial) for trial in self.trials]
        return [kind for i, kind in enumerate(kinds) if kind not in kinds[:i]]


def kind_of(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial without its learning rate: a step takes as long at any rate."""
    return {key: value for key, value in trial.items() if key != "learning_rate"}


class StudySpec(FileSpec):
    """A study, as its file says.

    What it does not say takes the default of the code, never what `params.yaml` says at the moment:
    cells do not become stale because somebody works on the line.
    """

    kind = "study"
    folder = Path("studies")

    title: str
    """What the report is called"""
    question: str = ""
    """What the study is to answer"""
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    """Seeds of the training; the same for every model"""
    base: Sections = Sections()
    """Parameters that all cells share"""
    scenarios: dict[Name, ScenarioSpec] = Field(min_length=1)
    """By a name of your choice"""
    backbones: dict[Name, Options] = {}
    """Section `model` of each backbone, crossed with the mixers"""
    mixers: dict[Name, Options] = {}
    """What each mixer changes in the section `model` of a backbone"""
    models: dict[Name, Options] = {}
    """Further models, not crossed: their section `model`; `train` or `task` in it changes how they
    are trained"""
    parameters: MatchConfig | None = None
    """The size that all models have; each its own if not given"""
    tuning: TuningConfig | None = None
    """How each model is tuned, and what a training costs; none is tuned if not given"""
    compare: str = WITHIN_BACKBONE
    """Which models are compared: those of a backbone with each other (`backbone`), all with each
    other (`all`), or all with the one that is named here"""
    scaling: ScalingConfig | None = None
    """None: it is not measured"""
    peers: list[PeerName] = []
    """Simple peers to fit to the data of each scenario, for scale: `mean`, `persistence`, `ridge`,
    `quadratic`, `gaussian_process`"""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [model.name for model in models_of(self)]
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds={self.seeds} lists one twice; give each once")
        if bool(self.backbones) != bool(self.mixers):
            raise ValueError("backbones and mixers are crossed: give both, or models instead")
        if not names:
            raise ValueError("there is no model; give backbones and mixers, or models")
        if len(set(names)) != len(names):
            raise ValueError(f"a model of {', '.join(names)} is there twice; rename it in models")
        if self.compare not in (WITHIN_BACKBONE, ALL_PAIRS, *names):
            raise ValueError(
                f"compare={self.compare} must be backbone, all, or a model: {', '.join(names)}"
            )
        for where, own in self.scenarios.items():
            if unknown := set(own.only or ()) - set(names):
                raise ValueError(
                    f"{where}.only names {min(unknown)}; it must list models of the study: "
                    f"{', '.join(names)}"
                )
        return self


_GENERATE = {"shard_size": 50, "seed": 0, "split": {"train": 0.8, "validation": 0.1, "test": 0.1}}
_DEFAULTS = {
    "task": TaskConfig, "model": ModelConfig, "train": TrainConfig,
    "learning_curve": LearningCurveConfig, "evaluate": EvaluateConfig, "registry": RegistryConfig,
    "promotion": PromotionConfig, "execution": ExecutionConfig,
}  # fmt: skip
TRACKED = ("scenario", "seed", "generate", "task", "model", "train", "learning_curve", "evaluate")
"""The parameters that a cell depends on, besides those of its own scenario."""
_ADDED = {
    "task": ("predict", "part", "time", "skip", "kind", "sensors", "hidden"),
    "model": ("patch", "cells", "local_width", "time_state"),
    "train": ("scales", "beta2", "optimizer", "derivatives"),
    "evaluate": ("tools", "economics.questions", "trust.draws"),
}
"""Options that are younger than kept cells, the oldest first: they count where not at defaults."""
GONE = {"train": {"pushforward": False}}
"""Options that older cells had, at the values that all of them had."""


@dataclass(frozen=True)
class Model:
    """One kind of model of a study.

    Where backbones and mixers are not crossed, `backbone` is its architecture and `mixer` its name.
    """

    name: str
    backbone: str
    mixer: str
    options: Mapping[str, Any]  # its section `model`, as far as the study says
    changes: Mapping[str, Any]  # what it changes of the sections `train` and `task`


@dataclass(frozen=True)
class Cell:
    """One training and its evaluation."""

    study: str
    scenario: str  # its name in the study
    model: Model
    seed: int
    params: Mapping[str, Any]  # what `params.yaml` holds for it, complete

    @property
    def kind(self) -> str:
        """What is kept of all its seeds is called so, in `plans`, `scaling` and `latency`."""
        return f"{self.scenario}--{self.model.name}"

    @property
    def name(self) -> str:
        """What its file is called, without `.json`."""
        return f"{self.kind}--{self.seed}"

    @property
    def experiment(self) -> str:
        """The name of its DVC experiment."""
        return f"{self.study}--{self.name}"

    def trained(self, train: Mapping[str, Any]) -> Self:
        """Return the cell with changes of its section `train`."""
        return replace(self, params={**self.params, "train": {**self.params["train"], **train}})

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Those of its own scenario."""
        return self.params["scenarios"].get(self.params["scenario"], {})

    @property
    def tracked(self) -> dict[str, Any]:
        """The parameters that its result depends on."""
        sections = {key: self.params[key] for key in TRACKED} | {"parameters": self.parameters}
        for section, names in _ADDED.items():
            defaults = _DEFAULTS[section]().model_dump()
            sections[section] = _less_defaults(sections[section], defaults, names)
        return sections | {key: {**sections[key], **was} for key, was in GONE.items()}

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """The section `task` as code of fewer options had it, of which the others are defaults."""
        names, defaults = _ADDED["task"], TaskConfig().model_dump()
        ages = range(len(names) + 1)
        return [_less_defaults(self.params["task"], defaults, names[age:]) for age in ages]


def _less_defaults(
    values: Mapping[str, Any], defaults: Mapping[str, Any], names: Sequence[str]
) -> dict[str, Any]:
    """Return values less those of some names, dotted where they are nested, that are defaults."""
    found = dict(values)
    for name in names:
        group, dot, inner = name.partition(".")
        if dot:
            found[group] = _less_defaults(found[group], defaults[group], [inner])
        elif found[name] == defaults[name]:
            del found[name]
    return found


def models_of(spec: StudySpec) -> list[Model]:
    """Return all kinds of models of a study, in the order of its file."""
    crossed = [
        _model(f"{backbone}-{mixer}", {"backbone": backbone} | body | change, backbone, mixer)
        for backbone, body in spec.backbones.items()
        for mixer, change in spec.mixers.items()
    ]
    return crossed + [
        _model(name, options, str(options.get("backbone", "plain")), name)
        for name, options in spec.models.items()
    ]


def cells_of(name: str, spec: StudySpec) -> list[Cell]:
    """Return all cells of a study: seeds outermost, then scenarios, then models."""
    return [
        Cell(name, scenario, model, seed, _params(spec, scenario, model, seed))
        for seed in spec.seeds
        for scenario in spec.scenarios
        for model in models_of(spec)
        if model.name in (spec.scenarios[scenario].only or [model.name])
    ]


def _model(name: str, options: Mapping[str, Any], backbone: str, mixer: str) -> Model:
    changes = {key: options[key] for key in ("train", "task") if key in options}
    kept = {key: value for key, value in options.items() if key not in changes}
    return Model(name, backbone, mixer, kept, changes)


def _params(spec: StudySpec, scenario: str, model: Model, seed: int) -> dict[str, Any]:
    own = spec.scenarios[scenario]
    name = own.scenario or scenario
    given = _merged(spec.base.model_dump(), own.model_dump(include=set(Sections.model_fields)))
    given = _merged(given, {"model": model.options, **model.changes})
    of_code = {section: config().model_dump() for section, config in _DEFAULTS.items()}
    defaults = {"generate": _GENERATE, **of_code}
    sections = {key: _merged(default, given.get(key, {})) for key, default in defaults.items()}
    return {"scenario": name, "seed": seed, "scenarios": {name: dict(own.parameters)}, **sections}


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(dict(values))
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else copy.deepcopy(value)
    return merged
