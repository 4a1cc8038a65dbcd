"""A file's contents as the mapping wants them: renamed, in other units, without what is dropped."""

from __future__ import annotations

import re
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.data.reading import Schema
from mno.imports.base import Contents, Importer
from mno.imports.mapping import FieldRule, Mapping
from mno.imports.units import conversion

# Names of a dataset's other arrays.
_TAKEN = {"split", "group", "start", "sample", "time", "point", "x", "y", "z"}


@dataclass(frozen=True)
class Origin:
    """Where a field comes from.

    Attributes:
        found: Its name in the importer's contents.
        factor: What its values are multiplied by.
        offset: What is added to them then.
    """

    found: str
    factor: float = 1.0
    offset: float = 0.0


class MappedFile:
    """An open file, seen through a mapping.

    Args:
        importer: The open file.
        path: Its path, for messages.
        mapping: What is to become of it.

    Attributes:
        contents: As they will be in the dataset.
        origins: Where each field comes from, by its name in the dataset.

    Raises:
        InputError: The mapping does not fit the file, or no dataset can be made of it.
    """

    def __init__(self, importer: Importer, path: Path, mapping: Mapping) -> None:
        self._importer = importer
        found = importer.contents
        rules = _rules(path, found, mapping)
        fields: list[Field] = []
        self.origins: dict[str, Origin] = {}
        for field in found.fields:
            rule = rules.get(field.name, FieldRule())
            if rule.drop:
                continue
            mapped, origin = _mapped(path, field, rule)
            if mapped.name in self.origins:
                raise InputError(
                    f"{path}: two fields would be called {mapped.name}; give one of them another "
                    "name in the mapping file"
                )
            fields.append(mapped)
            self.origins[mapped.name] = origin
        used = {dim for field in fields for dim in field.dims}
        axes = tuple(_axis(path, axis, mapping) for axis in found.axes if axis.name in used)
        unknown = set(mapping.axes) - {axis.name for axis in found.axes}
        if unknown:
            raise InputError(
                f"{path}: the mapping file names axis {', '.join(sorted(unknown))}; the file has "
                f"{', '.join(axis.name for axis in found.axes)}"
            )
        _check(path, fields)
        sources = {name: found.sources.get(o.found, o.found) for name, o in self.origins.items()}
        self.contents = replace(found, axes=axes, fields=tuple(fields), sources=sources)

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Read one field of some samples, in the dataset's unit; see `Importer.read`."""
        origin = self.origins[name]
        values = self._importer.read(origin.found, start, stop)
        if origin.factor == 1.0 and origin.offset == 0.0:
            return np.ascontiguousarray(values, dtype=np.float32)
        return (values * np.float64(origin.factor) + origin.offset).astype(np.float32)


def _rules(path: Path, found: Contents, mapping: Mapping) -> dict[str, FieldRule]:
    """Return the mapping's rules by the importer's names of fields.

    A rule for an array of the file holds for all fields made of it. What is dropped, or turned into
    an axis, an importer need not list.
    """
    known = {field.name for field in found.fields}
    rules = {}
    for key, rule in mapping.fields.items():
        names = [name for name, source in found.sources.items() if source == key and name in known]
        if key in known:
            names.append(key)
        if not names and not rule.drop and rule.role != "coordinate":
            raise InputError(
                f"{path}: the mapping file names field {key!r}, which the file does not have; it "
                f"has {', '.join(sorted(known))}"
            )
        rules |= {name: rule for name in names if name not in rules or name == key}
    return rules


def _mapped(path: Path, field: Field, rule: FieldRule) -> tuple[Field, Origin]:
    factor, offset = 1.0, 0.0
    if rule.given_in is not None:
        if rule.units is None:
            raise InputError(
                f"{path}: the mapping of {field.name} says given_in={rule.given_in} but no units; "
                "say which unit the dataset is to have"
            )
        factor, offset = conversion(rule.given_in, rule.units, f"{path}: {field.name}")
    changes = {
        "name": rule.name or field.name,
        "role": rule.role or field.role,
        "units": rule.units or field.units,
        "long_name": rule.long_name or (field.long_name if not rule.name else rule.name),
        "gaps": field.gaps if rule.gaps is None else rule.gaps,
    }
    mapped = replace(field, **changes)
    if (
        not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", mapped.name)
        or mapped.name in _TAKEN
        and (mapped.role != "coordinate")
    ):
        raise InputError(
            f"{path}: a field cannot be called {mapped.name!r}; give it another name in the "
            f"mapping file, as in `fields: {{{field.name}: {{name: pressure}}}}`"
        )
    return mapped, Origin(field.name, factor, offset)


def _axis(path: Path, axis: Axis, mapping: Mapping) -> Axis:
    rule = mapping.axes.get(axis.name)
    if rule is None:
        return axis
    points, extent = axis.points, axis.extent
    if rule.extent is not None:
        low, high = rule.extent
        if not high > low:
            raise InputError(
                f"{path}: the mapping file lets axis {axis.name} reach from {low:g} to {high:g}; "
                "give the lower end first"
            )
        length = extent[1] - extent[0] or 1.0
        points, extent = low + (points - extent[0]) * ((high - low) / length), (low, high)
    return Axis(
        axis.name, rule.units or axis.units, rule.long_name or axis.long_name, points, extent
    )


def _check(path: Path, fields: list[Field]) -> None:
    """Refuse what no operator can be trained on."""
    roles = {field.role for field in fields}
    if not roles & {"output", "state"} or not roles & {"input", "state"}:
        listed = ", ".join(f"{f.name} ({f.role})" for f in fields) or "none"
        raise InputError(
            f"{path}: fields are {listed}; expected an input and an output, or a state over time: "
            "say which is which in a mapping file, as in `fields: {coeff: {role: input}}`"
        )
    for field in fields:
        if field.role == "state" and "time" not in field.dims:
            raise InputError(
                f"{path}: {field.name} is to be a state, but it has no axis of time; make it an "
                "input or an output in the mapping file"
            )


def same_schema(ours: Contents | Schema, theirs: Contents) -> str | None:
    """Return in what two files differ that are to be one dataset; none if in nothing."""
    if ours.fields != theirs.fields:
        return f"has fields {_signature(theirs.fields)}; the others have {_signature(ours.fields)}"
    for a, b in zip(ours.axes, theirs.axes, strict=True):
        same = a.points.shape == b.points.shape and np.allclose(a.points, b.points, rtol=1e-5)
        close = np.allclose(a.extent, b.extent, rtol=1e-5)
        if not (a.name == b.name and a.units == b.units and same and close):
            return f"has {len(b.points)} points along {b.name}, at other places than the others'"
    return None


def _signature(fields: tuple[Field, ...]) -> str:
    return ", ".join(f"{f.name}[{f.units}] ({', '.join(f.dims)})" for f in fields)


def describe(contents: Contents) -> Dictionary[str, str]:
    """Return one line for each field, by name: what it comes from and what it will be."""
    sizes = {axis.name: len(axis.points) for axis in contents.axes}
    return {
        field.name: f"{contents.sources[field.name]} → {field.name} [{field.units}], {field.role}, "
        f"({', '.join(f'{d} {sizes[d]}' for d in field.dims) or 'one number per sample'})"
        for field in contents.fields
    }
