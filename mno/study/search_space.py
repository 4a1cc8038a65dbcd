"""What a search file says: the space, how many trials, what prunes them, and what bounds them."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from optuna import distributions
from pydantic import AfterValidator, Field, FiniteFloat

from mno.core.config import Config
from mno.core.files import file_sha256, json_sha256
from mno.lineage.dvcfiles import lookup, stage_inputs
from mno.study.design import FileSpec, Options

SECTIONS = ("task", "model", "train")
"""Sections of the parameters that may be searched: what leaves the data as they are."""

Key = Annotated[str, Field(pattern=rf"^({'|'.join(SECTIONS)})\.[a-z0-9_]+$")]


class FloatAxis(Config):
    """A number between two ends, both included: uniform, or uniform in its logarithm."""

    type: Literal["float", "log"]
    low: FiniteFloat
    high: FiniteFloat


class IntAxis(Config):
    """A whole number between two ends, both included."""

    type: Literal["int"]
    low: int
    high: int
    step: int = Field(default=1, ge=1)
    """Distance of neighbouring values"""


class ChoiceAxis(Config):
    """One of several values, in no order."""

    type: Literal["choice"]
    values: list[bool | int | float | str] = Field(min_length=2)


Axis = Annotated[FloatAxis | IntAxis | ChoiceAxis, Field(discriminator="type")]


def distribution_of(axis: Axis) -> distributions.BaseDistribution:
    """Return what Optuna draws the values of an axis from; it refuses ends that do not fit."""
    if isinstance(axis, FloatAxis):
        return distributions.FloatDistribution(axis.low, axis.high, log=axis.type == "log")
    if isinstance(axis, IntAxis):
        return distributions.IntDistribution(axis.low, axis.high, step=axis.step)
    return distributions.CategoricalDistribution(axis.values)


class SearchBase(Config):
    """Parameters by section."""

    task: Options = {}
    model: Options = {}
    train: Options = {}


class Limits(Config):
    """What a model may cost; one beyond it is refused, before it is trained."""

    parameters: int | None = Field(default=None, ge=1)
    """Trainable parameters, at most"""


class SearchSpec(FileSpec):
    """A search, as its file says."""

    kind = "search"
    folder = Path("studies/tune")

    title: str
    """What its report is called"""
    space: dict[
        Key, Annotated[Axis, AfterValidator(lambda axis: distribution_of(axis) and axis)]
    ] = Field(min_length=1)
    """Parameters by dotted key, each with its axis"""
    base: SearchBase = SearchBase()
    """Parameters that all trials and the default share; others are as params.yaml says"""
    trials: int = Field(default=30, ge=1, le=10_000)
    """Trials of the whole search"""
    seed: int = Field(default=0, ge=0)
    """Of the search; trainings have that of the line"""
    confirm_seeds: int = Field(default=3, ge=0, le=100)
    """Further seeds with which the winner and the default are trained and compared"""
    limits: Limits = Limits()
    """What a model may cost"""


Point = Mapping[str, Any]  # values by dotted key


def default_params(params: Mapping[str, Any], spec: SearchSpec) -> dict[str, Any]:
    """Return what a search starts from: `params.yaml` with the file's `base`, no warm start."""
    base = spec.base.model_dump()
    point = {f"{section}.{key}": v for section, own in base.items() for key, v in own.items()}
    return at(params, {**point, "train.warm_start": None})


def at(params: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """Return parameters with the values of a point."""
    made = copy.deepcopy(dict(params))
    for key, value in point.items():
        section, name = key.split(".")
        made[section] = {**(made.get(section) or {}), name: value}
    return made


def search_digest(root: Path, params: Mapping[str, Any], spec: SearchSpec, data: str) -> str:
    """Return what tells searches apart: data, parameters, space, rules and the training's code.

    Title, trials and confirmation are left out: these may change while a search goes on.
    """
    rules = spec.model_dump(exclude={"title", "trials", "confirm_seeds", "base"})
    code = [[name, file_sha256(root / name)] for name in stage_inputs(root, "train", params).code]
    sections = {key: lookup(params, key) for key in (*SECTIONS, "seed")}
    return json_sha256([rules, sections, data, code])


def training_digest(params: Mapping[str, Any], seed: int) -> str:
    """Return what names the training of these parameters in a search."""
    return json_sha256([{key: params[key] for key in SECTIONS}, seed])
