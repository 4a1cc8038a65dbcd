"""What arrays are whose axes have names, as in Zarr groups that xarray and we write; packed values.

Names of axes are those of the CF conventions, which also say how values are packed: scaled,
shifted, some of them missing.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.imports.bare_arrays import Role, field_name, role_by_name, rule_of
from mno.imports.importer import (
    ORDER,
    SPACE,
    Contents,
    Piece,
    check_numbers,
    check_sample,
    default_axis,
    given_axis,
    leave_out,
    uneven,
)
from mno.imports.mapping import Mapping as FieldMapping

_MEANINGS = {
    "sample": ("sample", "samples", "realization", "realisation", "member", "trajectory"),
    "time": ("time", "t"),
    "x": ("x", "lon", "longitude"),
    "y": ("y", "lat", "latitude"),
    "z": ("z", "lev", "level", "height", "altitude"),
    "point": ("point", "points", "node", "nodes", "station"),
    "channel": ("channel", "channels", "component", "components", "variable"),
}
_BY_NAME = {name: meaning for meaning, names in _MEANINGS.items() for name in names}
CF_AXES = {"T": "time", "X": "x", "Y": "y", "Z": "z"}
"""Axes by the attribute `axis` of their coordinates."""

ROLES = ("input", "output", "state", "coordinate")


def meaning_of(dim: str) -> str | None:
    """Return what an axis is by its name: `sample`, `channel`, one of time and space, or none."""
    return _BY_NAME.get(dim.lower())


@dataclass(frozen=True)
class Variable:
    """An array of a file, with names of its axes and attributes."""

    shape: tuple[int, ...]
    dtype: np.dtype
    dims: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NamedArrays:
    """The arrays of a file whose axes have names.

    Attributes:
        path: The file.
        variables: The arrays of numbers, in order.
        extent: Where the domain begins and ends along axes of which the file says so.
        mapping: What the user says of them.
        whole: Reads an array that has no more than one axis.
        default: Role of arrays of which nothing tells it; they are refused if not given.
    """

    path: Path
    variables: Mapping[str, Variable]
    extent: Mapping[str, Any]
    mapping: FieldMapping
    whole: Callable[[str], np.ndarray]
    default: Role | None = None

    def arrange(self) -> tuple[Contents, dict[str, Piece]]:
        """Find out what they are.

        Returns:
            Them as a dataset would have them, and where each field's values are.

        Raises:
            InputError: They are no dataset, or it cannot be told what one of them is.
        """
        kept = {n: v for n, v in self.variables.items() if not rule_of(self.mapping, n).drop}
        for name, variable in kept.items():
            check_numbers(self.path, name, variable.dtype)
        lengths = self._lengths(kept)
        bounds = {str(v.attributes.get("bounds")) for v in kept.values()}
        given = {
            name: v
            for name, v in kept.items()
            if not (name in bounds or len(v.dims) == 1 and (name == v.dims[0] or name == "split"))
        }
        meanings = self._meanings({dim for v in given.values() for dim in v.dims})
        samples = math.prod(n for dim, n in lengths.items() if meanings.get(dim) == "sample")
        check_sample(self.path, "the file", (), samples)
        fields: list[Field] = []
        pieces: dict[str, Piece] = {}
        sources: dict[str, str] = {}
        parameters: dict[str, Any] = {}
        special: dict[str, np.ndarray] = {}
        for name, variable in given.items():
            found = tuple(meanings[dim] for dim in variable.dims)
            if len(set(found)) < len(found):
                raise InputError(
                    f"{self.path}: {name} has axes {variable.dims}, two of which mean the same; "
                    "expected different ones: rename one of them"
                )
            if name in ("group", "start") and found == ("sample",):
                kind = np.int64 if name == "group" else np.float64
                special[name] = self.whole(name).astype(kind)
                continue
            if not found:
                parameters[name] = self.whole(name).reshape(-1)[0].item()
                continue
            for made, piece in self._fields(name, variable, found, samples):
                if made.name in pieces:
                    raise InputError(
                        f"{self.path}: two fields would be called {made.name}; rename one of them"
                    )
                fields.append(made)
                pieces[made.name], sources[made.name] = piece, name
        used = {dim for made in fields for dim in made.dims}
        by_meaning = {meaning: dim for dim, meaning in meanings.items()}
        axes = tuple(self._axis(by_meaning[m], m, lengths) for m in ORDER if m in used)
        contents = Contents(
            samples=samples,
            axes=axes,
            fields=tuple(fields),
            sources=sources,
            parameters=parameters,
            groups=special.get("group"),
            starts=special.get("start"),
            remarks=uneven(axes),
        )
        return contents, pieces

    def _lengths(self, variables: Mapping[str, Variable]) -> dict[str, int]:
        lengths: dict[str, int] = {}
        for name, variable in variables.items():
            for dim, length in zip(variable.dims, variable.shape, strict=True):
                if lengths.setdefault(dim, length) != length:
                    raise InputError(
                        f"{self.path}: {name} has {length} places along {dim}, where others have "
                        f"{lengths[dim]}; expected as many, or {leave_out(name)}"
                    )
        return lengths

    def _meanings(self, dims: set[str]) -> dict[str, str]:
        """Return what each axis is: `sample`, `channel`, `point` or one of time and space."""
        meanings: dict[str, str] = {}
        for dim in sorted(dims):
            own = self.variables.get(dim)
            axis = own.attributes.get("axis") if own else None
            meaning = meaning_of(dim) or CF_AXES.get(str(axis))
            if meaning is None:
                raise InputError(
                    f"{self.path}: it cannot be told what the axis {dim} is; expected names like "
                    f"{', '.join(names[0] for names in _MEANINGS.values())}: rename it"
                )
            if meaning in meanings.values():
                raise InputError(
                    f"{self.path}: the axes {', '.join(sorted(dims))} are two of the same kind; "
                    f"expected one each of {', '.join(_MEANINGS)}: rename or cut them"
                )
            meanings[dim] = meaning
        return meanings

    def _fields(
        self, name: str, variable: Variable, found: tuple[str, ...], samples: int
    ) -> list[tuple[Field, Piece]]:
        """Return the field or the fields that an array holds."""
        plain = [m for m in found if m not in ("sample", "channel")]
        dims = tuple(sorted(plain, key=ORDER.index))
        sizes = dict(zip(found, variable.shape, strict=True))
        check_sample(self.path, name, [n for m, n in sizes.items() if m != "sample"], samples)
        # Rows have the samples first, whatever the order in the file; then what is left of it.
        order = (0, *(1 + plain.index(dim) for dim in dims))
        role = self._role(name, variable, dims)
        kept = name if role == "coordinate" else field_name(name)
        attributes = variable.attributes
        units = str(attributes.get("units") or "1")
        label = str(attributes.get("long_name") or kept.replace("_", " "))
        gaps = bool(attributes.get("gaps"))
        if "channel" not in found:
            return [(Field(kept, units, label, role, dims, gaps), Piece(name, order=order))]
        axis = 1 + [m for m in found if m != "sample"].index("channel")
        return [
            (
                Field(f"{kept}_{i}", units, f"{label} {i}", role, dims, gaps),
                Piece(name, axis, i, order),
            )
            for i in range(sizes["channel"])
        ]

    def _role(self, name: str, variable: Variable, dims: tuple[str, ...]) -> Role:
        told = variable.attributes.get("role")
        role = rule_of(self.mapping, name).role or (told if told in ROLES else None)
        if role is None and name in SPACE and dims == ("point",):
            role = "coordinate"
        if role is None and "time" in dims:
            role = "state" if len(dims) > 1 else "input"
        role = role or role_by_name(name) or (self.default if dims else "input")
        if role is None:
            raise InputError(
                f"{self.path}: it cannot be told whether {name} ({', '.join(variable.dims)}) is "
                "given or predicted; say so in a mapping file, as in "
                f"`fields: {{{name}: {{role: input}}}}`"
            )
        return role

    def _axis(self, dim: str, name: str, lengths: Mapping[str, int]) -> Axis:
        own = self.variables.get(dim)
        if own is None or len(own.dims) != 1:
            return default_axis(name, lengths[dim])
        units = str(own.attributes.get("units") or "1").split(" since ")[0]
        axis = given_axis(self.path, name, dim, self.whole(dim), lengths[dim], units)
        given = self.extent.get(name, own.attributes.get("extent"))
        label = str(own.attributes.get("long_name") or name)
        return Axis(name, units, label, axis.points, said_extent(axis, given))


def said_extent(axis: Axis, given: Any) -> tuple[float, float]:
    """Return where the domain ends: as the file says, or else half a cell beyond the points."""
    try:
        low, high = (float(value) for value in given)
    except (TypeError, ValueError):
        return axis.extent
    inside = low <= axis.points.min() and axis.points.max() <= high
    return (low, high) if inside and math.isfinite(high - low) else axis.extent


@dataclass(frozen=True)
class Packing:
    """How values are packed.

    Attributes:
        factor: What packed values are multiplied by.
        offset: What is added to them then.
        missing: Packed values that stand for a missing one.
    """

    factor: float = 1.0
    offset: float = 0.0
    missing: tuple[float, ...] = ()

    @classmethod
    def of(cls, attributes: Mapping[str, Any], fill: Any = None) -> Packing:
        """Read it from an array's attributes.

        Args:
            attributes: `scale_factor`, `add_offset`, `_FillValue` and `missing_value` count.
            fill: A further value that stands for a missing one.
        """
        given = (attributes.get("_FillValue"), attributes.get("missing_value"), fill)
        missing = {number for number in map(_number, given) if number is not None}
        return cls(
            _number(attributes.get("scale_factor")) or 1.0,
            _number(attributes.get("add_offset")) or 0.0,
            tuple(sorted(missing)),
        )

    def unpack(self, values: np.ndarray) -> np.ndarray:
        """Return the values, missing ones as NaN."""
        if self == Packing():
            return values
        unpacked = values.astype(np.float64) * self.factor + self.offset
        for missing in self.missing:
            unpacked[values == np.asarray(missing).astype(values.dtype)] = np.nan
        return unpacked


def _number(value: Any) -> float | None:
    """Return a number that an attribute holds; none if there is none, or it is NaN."""
    if isinstance(value, str):  # as xarray writes fill values into Zarr
        try:
            (value,) = struct.unpack("<d", base64.standard_b64decode(value))
        except (binascii.Error, struct.error, ValueError):
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        return None
    return float(value)
