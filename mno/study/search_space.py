"""What a search file says: the space, how many trials, what prunes them, and what bounds them."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mno.core.config import Config
from mno.core.files import file_sha256, json_sha256
from mno.lineage.dvcfiles import flat, lookup, stage_inputs
from mno.study.design import FileSpec

SECTIONS = ("task", "model", "train")
"""Sections of the parameters that may be searched: what leaves the data as they are."""

_KEY = re.compile(rf"({'|'.join(SECTIONS)})\.[a-z0-9_]+")

_TYPES = ("float", "log", "int", "choice")

Plain = bool | int | float | str


class _Range(Config):
    """A number between two ends, both included."""

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low={self.low:g} must be less than high={self.high:g}")
        return self

    @property
    def samples(self) -> list[Plain]:
        """Values that show whether the axis can be used at all: its ends."""
        return [self.low, self.high]

    def holds(self, value: Any) -> bool:
        """Whether a value lies on the axis."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high


class FloatAxis(_Range):
    """A number, uniform, or uniform in its logarithm."""

    type: Literal["float", "log"]

    @model_validator(mode="after")
    def _has_a_logarithm(self) -> Self:
        if self.type == "log" and self.low <= 0:
            raise ValueError(f"low={self.low:g} must be above 0 for type: log")
        return self


class IntAxis(_Range):
    """A whole number."""

    type: Literal["int"]
    low: int
    high: int
    step: int = Field(default=1, ge=1, description="Distance of neighbouring values")

    @model_validator(mode="after")
    def _ends_on_a_step(self) -> Self:
        if (self.high - self.low) % self.step:
            raise ValueError(f"high={self.high} must lie a multiple of step={self.step} above low")
        return self

    def holds(self, value: Any) -> bool:
        """Whether a value lies on the axis."""
        return (
            isinstance(value, int) and super().holds(value) and not (value - self.low) % self.step
        )


class ChoiceAxis(Config):
    """One of several values, in no order."""

    type: Literal["choice"]
    values: list[Plain] = Field(min_length=2)

    @field_validator("values")
    @classmethod
    def _names_each_once(cls, values: list[Plain]) -> list[Plain]:
        if len({repr(value) for value in values}) != len(values):
            raise ValueError(f"{values} lists one twice; give each once")
        return values

    @property
    def samples(self) -> list[Plain]:
        """Values that show whether the axis can be used at all: every one."""
        return list(self.values)

    def holds(self, value: Any) -> bool:
        """Whether a value is one of them."""
        return any(type(value) is type(own) and value == own for own in self.values)


Axis = Annotated[FloatAxis | IntAxis | ChoiceAxis, Field(discriminator="type")]


class Limits(Config):
    """What a model may cost; one beyond it is refused, before it is trained."""

    parameters: int | None = Field(default=None, ge=1, description="Trainable parameters, at most")
    latency_ms: float | None = Field(
        default=None, gt=0, allow_inf_nan=False,
        description="Median time of the prediction of one sample on this machine, at most",
    )  # fmt: skip


class SearchSpec(FileSpec):
    """A search, as its file says."""

    kind = "search"
    folder = Path("studies/tune")
    needs = "title and space"

    title: str = Field(description="What its report is called")
    space: dict[str, Axis] = Field(
        min_length=1, description="What is searched: parameters by dotted key, each with its axis"
    )
    base: dict[str, dict[str, Any]] = Field(
        default={},
        description="Parameters that all trials and the default share, by section; what is not "
        "given here is as params.yaml says",
    )
    trials: int = Field(default=30, ge=1, le=10_000, description="Trials of the whole search")
    budget_minutes: float | None = Field(
        default=None, gt=0, allow_inf_nan=False,
        description="Time after which no trial is begun that would end later; none for no end",
    )  # fmt: skip
    seed: int = Field(default=0, ge=0, description="Of the search; trainings have that of the line")
    sampler: Literal["tpe", "random"] = Field(
        default="tpe", description="How the next trial is chosen"
    )
    pruner: Literal["median", "hyperband", "none"] = Field(
        default="median", description="What ends a trial early, by its validation error"
    )
    warmup_epochs: int = Field(default=2, ge=0, description="Epochs in which `median` ends none")
    confirm_seeds: int = Field(
        default=3, ge=0, le=100,
        description="Further seeds with which the winner and the default are trained and compared",
    )  # fmt: skip
    limits: Limits = Field(default=Limits(), description="What a model may cost")

    @field_validator("space", mode="before")
    @classmethod
    def _says_its_types(cls, space: Any) -> Any:
        for key, axis in space.items() if isinstance(space, dict) else ():
            if not isinstance(axis, dict) or axis.get("type") not in _TYPES:
                raise ValueError(
                    f"{key} needs type: float, log, int or choice, as in "
                    "{type: int, low: 2, high: 4}"
                )
        return space

    @model_validator(mode="after")
    def _stays_off_the_data(self) -> SearchSpec:
        for key in self.space:
            if not _KEY.fullmatch(key):
                raise ValueError(
                    f"space.{key} must be a parameter of {', '.join(SECTIONS)}, as in "
                    "train.learning_rate; a search leaves the data as they are"
                )
        for section in self.base:
            if section not in SECTIONS:
                raise ValueError(f"base.{section} is not known (known: {', '.join(SECTIONS)})")
        return self


Point = Mapping[str, Any]
"""Values by dotted key."""


def default_params(params: Mapping[str, Any], spec: SearchSpec) -> dict[str, Any]:
    """Return what a search starts from: `params.yaml` with the file's `base`, no warm start."""
    base = {f"{section}.{k}": v for section, own in spec.base.items() for k, v in own.items()}
    return at(params, {**base, "train.warm_start": None})


def at(params: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """Return parameters with the values of a point."""
    made = copy.deepcopy(dict(params))
    for key, value in point.items():
        section, name = key.split(".")
        made[section] = {**(made.get(section) or {}), name: value}
    return made


def default_point(params: Mapping[str, Any], spec: SearchSpec) -> dict[str, Any] | None:
    """Return where the default lies in the space; none where it lies outside."""
    known = flat(params)
    point = {key: known.get(key) for key in spec.space}
    return point if all(axis.holds(point[key]) for key, axis in spec.space.items()) else None


def search_digest(root: Path, params: Mapping[str, Any], spec: SearchSpec, data: str) -> str:
    """Return what tells searches apart: data, parameters, space, rules and the training's code.

    Title, trials, budget and confirmation are left out: these may change while a search goes on.
    """
    rules = spec.model_dump(exclude={"title", "trials", "budget_minutes", "confirm_seeds", "base"})
    code = [[name, file_sha256(root / name)] for name in stage_inputs(root, "train", params).code]
    sections = {key: lookup(params, key) for key in (*SECTIONS, "seed")}
    return json_sha256([rules, sections, data, code])


def training_digest(params: Mapping[str, Any], seed: int) -> str:
    """Return what names the training of these parameters in a search."""
    return json_sha256([{key: params[key] for key in SECTIONS}, seed])
