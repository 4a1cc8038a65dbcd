"""What a search file says: the space, how many trials, what prunes them, and what bounds them."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mno.core.config import Config
from mno.core.files import file_sha256, json_sha256
from mno.lineage.dvcfiles import lookup, stage_inputs
from mno.study.design import find_file, names_in, read_file

FOLDER = Path("studies/tune")
SECTIONS = ("task", "model", "train")
"""Sections of the parameters that may be searched: what leaves the data as they are."""

_KEY = re.compile(rf"({'|'.join(SECTIONS)})\.[a-z0-9_]+")

Plain = bool | int | float | str


class FloatAxis(Config):
    """A number between two ends, uniform, or uniform in its logarithm."""

    type: Literal["float", "log"]
    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_a_range(self) -> FloatAxis:
        if not self.low < self.high:
            raise ValueError(f"low={self.low:g} must be less than high={self.high:g}")
        if self.type == "log" and self.low <= 0:
            raise ValueError(f"low={self.low:g} must be above 0 for type: log")
        return self

    @property
    def samples(self) -> list[Plain]:
        """Values that show whether the axis can be used at all: its ends."""
        return [self.low, self.high]

    def holds(self, value: Any) -> bool:
        """Whether a value lies on the axis."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high


class IntAxis(Config):
    """A whole number between two ends, both included."""

    type: Literal["int"]
    low: int
    high: int
    step: int = Field(default=1, ge=1, description="Distance of neighbouring values")

    @model_validator(mode="after")
    def _is_a_range(self) -> IntAxis:
        if not self.low < self.high:
            raise ValueError(f"low={self.low} must be less than high={self.high}")
        if (self.high - self.low) % self.step:
            raise ValueError(f"high={self.high} must lie a multiple of step={self.step} above low")
        return self

    @property
    def samples(self) -> list[Plain]:
        """Values that show whether the axis can be used at all: its ends."""
        return [self.low, self.high]

    def holds(self, value: Any) -> bool:
        """Whether a value lies on the axis."""
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole and self.low <= value <= self.high and not (value - self.low) % self.step


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
        """Whether a value lies on the axis."""
        return any(type(value) is type(own) and value == own for own in self.values)


Axis = Annotated[FloatAxis | IntAxis | ChoiceAxis, Field(discriminator="type")]


class Limits(Config):
    """What a model may cost; one beyond it is refused, before it is trained."""

    parameters: int | None = Field(default=None, ge=1, description="Trainable parameters, at most")
    latency_ms: float | None = Field(
        default=None, gt=0, allow_inf_nan=False,
        description="Median time of the prediction of one sample on this machine, at most",
    )  # fmt: skip


class SearchSpec(Config):
    """A search, as its file says."""

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


def search_names(root: Path) -> list[str]:
    """Return the names of the searches that a workspace has files of."""
    return names_in(root, FOLDER)


def search_file(root: Path, given: str) -> Path:
    """Return the file of a search that is given by its path or by its name in `studies/tune/`.

    Raises:
        InputError: There is none.
    """
    return find_file(root, FOLDER, given, "search")


def read_search(path: Path) -> SearchSpec:
    """Read and check a search file.

    Raises:
        InputError: One line that says what cannot be used.
    """
    return read_file(path, SearchSpec, "search", "title and space")


Point = Mapping[str, Any]
"""Values by dotted key."""


def default_params(params: Mapping[str, Any], spec: SearchSpec) -> dict[str, Any]:
    """Return what a search starts from: `params.yaml` with the file's `base`, no warm start."""
    made = copy.deepcopy(dict(params))
    for section, values in spec.base.items():
        made[section] = {**(made.get(section) or {}), **values}
    made["train"] = {**(made.get("train") or {}), "warm_start": None}
    return made


def at(params: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """Return parameters with the values of a point."""
    made = copy.deepcopy(dict(params))
    for key, value in point.items():
        section, name = key.split(".")
        made[section] = {**(made.get(section) or {}), name: value}
    return made


def default_point(params: Mapping[str, Any], spec: SearchSpec) -> dict[str, Any] | None:
    """Return where the default lies in the space; none where it lies outside."""
    point = {}
    for key, axis in spec.space.items():
        section, name = key.split(".")
        value = (params.get(section) or {}).get(name)
        if not axis.holds(value):
            return None
        point[key] = value
    return point


def search_digest(root: Path, params: Mapping[str, Any], spec: SearchSpec, data: str) -> str:
    """Return what tells searches apart: data, parameters, space, rules and the training's code.

    Title, trials, budget and confirmation are left out: these may change while a search goes on.

    Args:
        root: The workspace.
        params: The default, complete.
        spec: The search.
        data: Digest of the dataset.
    """
    rules = spec.model_dump(exclude={"title", "trials", "budget_minutes", "confirm_seeds", "base"})
    code = [[name, file_sha256(root / name)] for name in stage_inputs(root, "train", params).code]
    sections = {key: lookup(params, key) for key in (*SECTIONS, "seed")}
    return json_sha256([rules, sections, data, code])


def training_digest(params: Mapping[str, Any], seed: int) -> str:
    """Return what names the training of these parameters in a search."""
    return json_sha256([{key: params[key] for key in SECTIONS}, seed])
