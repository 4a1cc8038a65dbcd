"""The mapping file: what the user says of a file, where it does not tell by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core.config import Config, ConfigT, validate
from mno.core.errors import InputError, first_line
from mno.scenarios.imported import SplitRule


class FieldRule(Config):
    """What becomes of one array; what is not given stays as the importer found it."""

    name: str | None = Field(default=None, description="name of the field")
    role: Literal["input", "output", "state", "coordinate"] | None = None
    units: str | None = Field(default=None, description="unit of the field in the dataset")
    given_in: str | None = Field(
        default=None, description="unit of the values in the file, where they are to be converted"
    )
    long_name: str | None = Field(default=None, description="what a figure's label says")
    gaps: bool | None = Field(default=None, description="whether values may be missing (NaN)")
    drop: bool = Field(default=False, description="leave it out")


class AxisRule(Config):
    """What is known of one axis; what is not given stays as the importer found it."""

    units: str | None = None
    long_name: str | None = None
    extent: tuple[float, float] | None = Field(
        default=None,
        description="where the domain begins and ends; points keep their places in it",
        strict=False,
    )


class Sensor(Config):
    """A column of a table of readings that has one column for each sensor."""

    quantity: str = Field(description="what it measures, a field's name")
    units: str = Field(default="1", description="unit of its readings")
    x: float | None = None
    y: float | None = None
    z: float | None = None
    uncertainty: float | None = Field(
        default=None, ge=0, description="standard uncertainty of a reading, in its unit"
    )


class SensorRules(Config):
    """How readings of sensors become samples."""

    interval: float | None = Field(
        default=None, gt=0, description="seconds from frame to frame; the median rate if not given"
    )
    frames: int = Field(default=32, gt=1, description="frames of one sample")
    columns: dict[str, Sensor] = Field(
        default_factory=dict, description="sensors by column, for tables with one column for each"
    )
    position_units: str = Field(default="m", description="unit of the positions")


class Mapping(Config):
    """The whole of a mapping file."""

    fields: dict[str, FieldRule] = Field(
        default_factory=dict,
        description="by the name in the file, or as it was found",
    )
    axes: dict[str, AxisRule] = Field(default_factory=dict, description="by axis: time, x, y, z")
    split: SplitRule = SplitRule()
    sensors: SensorRules = SensorRules()


def read_mapping(path: Path) -> Mapping:
    """Read a mapping file.

    Raises:
        InputError: It cannot be read, or says what no import understands.
    """
    try:
        content = YAML(typ="safe").load(path)
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML: {first_line(error)}") from None
    return validate_mapping(content or {}, path)


def validate_mapping(content: object, path: Path) -> Mapping:
    """Validate the content of a mapping file.

    Raises:
        InputError: As for `read_mapping`.
    """
    return _validate(Mapping, content, path)


def _validate(model: type[ConfigT], content: object, path: Path) -> ConfigT:
    try:
        return validate(model, content)
    except InputError as error:
        reason = str(error).removeprefix("params.yaml: ")
        raise InputError(f"{path}: {reason}; see docs/how-to/import-data.md") from None
