"""The mapping file, which says what a file does not, and the contents of a file seen through it."""

import math
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydantic

from mno.core.config import Config, read_file
from mno.core.errors import InputError
from mno.core.fields import PLAIN, SPACE, TAKEN, Axis, Field, difference_from
from mno.imports.importer import Importer
from mno.scenarios.imported import SplitRule

_LONGEST = 40
# pint works out powers of numbers: 9**9**9 in a file would never end.
_NUMBERS_TO_POWERS = re.compile(r"\d[\s)]*(\*\*|\^|[⁰¹²³⁴-⁹])|(\*\*|\^)\s*\(|\d{3}|[⁰¹²³⁴-⁹]{3}")
# As CF conventions write powers: m3 h-1.
_CF_POWER = re.compile(r"(?<=[A-Za-z])(-?\d+)(?![\w.])")


class FieldRule(Config):
    """What becomes of one array; what is not given stays as the importer found it."""

    name: str | None = None
    """name of the field"""
    role: Literal["input", "output", "state", "coordinate", "times"] | None = None
    units: str | None = None
    """unit of the field in the dataset"""
    given_in: str | None = None
    """unit of the values in the file, where that does not say it, or a wrong one"""
    long_name: str | None = None
    """what a figure's label says"""
    gaps: bool | None = None
    """whether values may be missing (NaN)"""
    drop: bool = False
    """leave it out"""


class AxisRule(Config):
    """What is known of one axis; what is not given stays as the importer found it."""

    units: str | None = None
    long_name: str | None = None
    extent: tuple[float, float] | None = pydantic.Field(default=None, strict=False)
    """where the domain begins and ends; points keep their places in it"""


class Sensor(Config):
    """A column of a table of readings that has one column for each sensor."""

    quantity: str
    """what it measures, a field's name"""
    units: str = "1"
    """unit of its readings"""
    place: str = ""
    """which place of a plant it is at, as an observer calls it"""
    x: pydantic.FiniteFloat | None = None
    y: pydantic.FiniteFloat | None = None
    z: pydantic.FiniteFloat | None = None
    uncertainty: float | None = pydantic.Field(default=None, ge=0)
    """standard uncertainty of a reading, in its unit"""


class SensorRules(Config):
    """How readings of sensors become samples."""

    interval: float | Literal["readings"] | None = None
    """seconds from frame to frame, the median rate if not given; `readings`: each moment at which
    something was read is a frame, at its own time"""
    frames: int = pydantic.Field(default=32, gt=1)
    """frames of one sample"""
    columns: dict[str, Sensor] = pydantic.Field(default_factory=dict)
    """sensors by column, for tables with one column for each"""
    position_units: str = "m"
    """unit of the positions"""

    @pydantic.field_validator("interval", mode="plain")
    @classmethod
    def _is_an_interval(cls, given: Any) -> Any:
        number = isinstance(given, int | float) and not isinstance(given, bool)
        if given not in (None, "readings") and not (number and 0.0 < given < math.inf):
            raise ValueError(f"{given!r} should be seconds above 0, or readings")
        return given


class Mapping(Config):
    """The whole of a mapping file."""

    fields: dict[str, FieldRule] = pydantic.Field(default_factory=dict)
    """by the name in the file, or as it was found"""
    axes: dict[str, AxisRule] = pydantic.Field(default_factory=dict)
    """by axis: time, x, y, z"""
    split: SplitRule = SplitRule()
    sensors: SensorRules = SensorRules()

    @property
    def dropped(self) -> set[str]:
        """Names of the arrays that are left out."""
        return {name for name, rule in self.fields.items() if rule.drop}

    @property
    def units_in_file(self) -> dict[str, str]:
        """Units that values have where the file does not say, by name."""
        known = {name: rule.given_in or rule.units for name, rule in self.fields.items()}
        return {name: unit for name, unit in known.items() if unit}


def read_mapping(path: Path | None) -> Mapping:
    """Read a mapping file, or refuse it; the empty mapping if none is given."""
    if path is None:
        return Mapping()
    return read_file(Mapping, path, remedy="; see docs/how-to/import-data.md", may_be_empty=True)


class MappedFile:
    """An open file, seen through a mapping: renamed, in other units, without what is dropped.

    `contents` are as they will be in the dataset. Refused are a mapping that does not fit the file,
    and a file that no dataset can be made of.
    """

    def __init__(self, importer: Importer, mapping: Mapping) -> None:
        self._importer = importer
        # By name in the dataset: the name that was found, and what turns its values into others.
        self._origins: dict[str, tuple[str, float, float]] = {}
        found, rules = importer.contents, self._rules(mapping)
        fields: list[Field] = []
        for field in found.fields:
            rule = rules.get(field.name, FieldRule())
            if rule.drop:
                continue
            mapped = self._mapped(field, rule)
            if mapped.name in self._origins:
                raise importer.error(
                    f"two fields would be called {mapped.name}; give one of them another name in "
                    "the mapping file"
                )
            fields.append(mapped)
            self._origins[mapped.name] = field.name, *self._scale(field, rule.units, rule.given_in)
        names = [axis.name for axis in found.axes]
        if unknown := sorted(set(mapping.axes) - set(names)):
            raise importer.error(
                f"the mapping file names axis {', '.join(unknown)}; the file has {', '.join(names)}"
            )
        fields = [self._on_its_scale(field, rules) for field in fields]
        self._require_use(fields)
        used = {dim for field in fields for dim in field.dims}
        axes = tuple(self._axis(a, mapping.axes.get(a.name)) for a in found.axes if a.name in used)
        sources = {n: found.sources.get(o, o) for n, (o, _, _) in self._origins.items()}
        self.contents = replace(found, axes=axes, fields=tuple(fields), sources=sources)

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Read one field of some samples, in the dataset's unit; see `Importer.read`."""
        found, factor, offset = self._origins[name]
        values = self._importer.read(found, start, stop)
        if factor == 1.0 and offset == 0.0:
            return np.ascontiguousarray(values, dtype=np.float32)
        return (values * np.float64(factor) + offset).astype(np.float32)

    def _rules(self, mapping: Mapping) -> dict[str, FieldRule]:
        """Return the mapping's rules by the importer's names of fields.

        A rule for an array of the file holds for all fields made of it. What is dropped, or turned
        into an axis, an importer need not list.
        """
        found = self._importer.contents
        known, sources = {field.name for field in found.fields}, found.sources
        rules = {}
        for key, rule in mapping.fields.items():
            names = [name for name, source in sources.items() if source == key]
            names += [key] if key in known else []
            if not names and not rule.drop and rule.role != "coordinate":
                raise self._importer.error(
                    f"the mapping file names field {key!r}, which the file does not have; it has "
                    f"{', '.join(sorted(known))}"
                )
            rules |= {name: rule for name in names if name not in rules or name == key}
        return rules

    def _scale(
        self, of: Field | Axis, wanted: str | None, given: str | None = None
    ) -> tuple[float, float]:
        """Return factor and offset; where nothing says the unit of values, it is the one wanted."""
        if given and wanted is None:
            raise self._importer.error(
                f"the mapping of {of.name} says given_in={given} but no units; say which unit the "
                "dataset is to have"
            )
        given = given or (of.units if of.units != "1" else wanted)
        if not (wanted and given and given != wanted):
            return 1.0, 0.0
        return conversion(given, wanted, f"{self._importer.path}: {of.name}")

    def _mapped(self, field: Field, rule: FieldRule) -> Field:
        name, role = rule.name or field.name, rule.role or field.role
        taken = name in (*TAKEN, *SPACE) and role != "coordinate"
        if taken or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
            raise self._importer.error(
                f"a field cannot be called {name!r}; give it another name in the mapping file, as "
                f"in `fields: {{{field.name}: {{name: pressure}}}}`"
            )
        gaps = field.gaps if rule.gaps is None else rule.gaps
        label = rule.long_name or rule.name or field.long_name
        return Field(name, rule.units or field.units, label, role, field.dims, gaps, field.scale)

    def _on_its_scale(self, field: Field, rules: dict[str, FieldRule]) -> Field:
        """Return a field on the scale that the file says, if that still makes sense."""
        if (other := difference_from(field.scale)) is None:
            return field
        used = [n for n in (field.name, other) if isinstance(n, str)]
        origins = [self._origins[n][0] if n in self._origins else "" for n in used]
        known = all(origins) and not any(rules.get(n, FieldRule()).units for n in origins)
        return field if known else replace(field, scale=PLAIN)

    def _axis(self, axis: Axis, rule: AxisRule | None) -> Axis:
        if rule is None:
            return axis
        points, extent = axis.points, axis.extent
        if rule.extent is not None:
            low, high = rule.extent
            if not high > low:
                raise self._importer.error(
                    f"the mapping file lets axis {axis.name} reach from {low:g} to {high:g}; give "
                    "the lower end first"
                )
            length = extent[1] - extent[0] or 1.0
            points, extent = low + (points - extent[0]) * ((high - low) / length), (low, high)
        else:
            factor, offset = self._scale(axis, rule.units)
            points = points * factor + offset
            extent = extent[0] * factor + offset, extent[1] * factor + offset
        units, label = rule.units or axis.units, rule.long_name or axis.long_name
        return Axis(axis.name, units, label, points, extent)

    def _require_use(self, fields: list[Field]) -> None:
        roles = {field.role for field in fields}
        if not roles & {"output", "state"} or not roles & {"input", "state"}:
            listed = ", ".join(f"{f.name} ({f.role})" for f in fields) or "none"
            raise self._importer.error(
                f"fields are {listed}; expected an input and an output, or a state over time: say "
                "which is which in a mapping file, as in `fields: {coeff: {role: input}}`"
            )
        for field in fields:
            if field.role == "state" and "time" not in field.dims:
                raise self._importer.error(
                    f"{field.name} is to be a state, but it has no axis of time; make it an input "
                    "or an output in the mapping file"
                )


@cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry(autoconvert_offset_to_baseunit=True, cache_folder=None)


def conversion(given: str, wanted: str, what: str) -> tuple[float, float]:
    """Return factor and offset that turn values of one unit (`degC`) into another (`K`).

    `what` has them. Refused is what is no unit, and units of different things, or logarithmic ones.
    """
    source, target = _unit(given, what), _unit(wanted, what)
    registry = _registry()
    if source.dimensionality != target.dimensionality:
        raise InputError(
            f"{what} is given in {given} ({source.dimensionality}), which cannot be converted to "
            f"{wanted} ({target.dimensionality}); correct the unit"
        )
    if given == wanted:
        return 1.0, 0.0
    zero, one, two = registry.Quantity(np.arange(3.0), source).to(target).magnitude.tolist()
    if not math.isclose(two - one, one - zero, rel_tol=1e-6):
        raise InputError(
            f"{what} is given in {given}, which no factor converts to {wanted}; expected units "
            "that are not logarithmic: convert the values before"
        )
    return one - zero, zero


def _unit(text: str, what: str) -> Any:
    registry = _registry()
    if text.strip() in ("1", ""):
        return registry.dimensionless
    try:
        if len(text) > _LONGEST or _NUMBERS_TO_POWERS.search(text):
            raise ValueError(text)
        return registry.Unit(_CF_POWER.sub(r"**\1", text))
    except Exception:  # pint raises errors of many kinds for text that is no unit
        raise InputError(
            f"{what}: {text[:_LONGEST]!r} is no unit that is known here; write it like W/m^2, "
            "degC or 1"
        ) from None
