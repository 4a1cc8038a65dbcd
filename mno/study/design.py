"""The cells of a study: every scenario with every model and every seed, and its parameters."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mno.core.forecast import TaskConfig
from mno.data.config import ExecutionConfig
from mno.evaluation.config import EvaluateConfig
from mno.nn.config import ModelConfig
from mno.registry.config import PromotionConfig, RegistryConfig
from mno.study.spec import StudySpec
from mno.training.config import TrainConfig
from mno.training.shares import LearningCurveConfig

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

    Widths are as the file says; see `mno.study.matching`.

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
