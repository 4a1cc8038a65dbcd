"""The two parts of a dataset that has both: fields in space, and readings, a few numbers over time.

A field whose last axis numbers zones, pieces or thermocouples is a reading, and so is one over time
alone. A model is given one part or both (`task.part`), in a form that operators take:

    fields     what there is on the grid; readings that are given, and are all there, are numbers of
               a sample, one by one
    readings   unordered points, one for each zone, piece and thermocouple, and one for the plant as
               a whole; what is said of others is missing at a point (NaN)
    both       the points of the readings, and behind them one for each cell of the grid
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, Literal

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import SPACE, Axis, Field

Part = Literal["fields", "readings", "both"]
NUMBER = "reading"
"""Coordinate of the points that stand for readings: their number."""
_PLACES = ("place_1", "place_2", "place_3")
"""Coordinates of points that stand for readings and cells, in cells; see `to_points`."""


@dataclass(frozen=True)
class Layout:
    """Where the readings of a dataset are among the points of its second part."""

    part: Part
    given: tuple[Field, ...]  # all fields of the dataset
    axes_given: tuple[Axis, ...]

    @property
    def changes(self) -> bool:
        """Whether anything is another than it is given: whether there are readings at all."""
        return has_readings(self.given)

    @cached_property
    def places(self) -> dict[str, range]:
        """The points of each axis that numbers something, and of the plant, by `""`."""
        lengths = {a.name: len(a.points) for a in self.axes_given if a.name not in _NOT_NUMBERED}
        if any(field.dims == ("time",) for field in self.given):
            lengths[""] = 1
        if self.part == "both":
            lengths[" ".join(axis.name for axis in self.grid)] = math.prod(self.cells)
        found, start = {}, 0
        for name, length in lengths.items():
            found[name] = range(start, start + length)
            start += length
        return found

    @property
    def grid(self) -> tuple[Axis, ...]:
        """The axes of the grid, where its cells are among the points."""
        if self.part != "both":
            return ()
        return tuple(axis for axis in self.axes_given if axis.name in SPACE)

    @property
    def cells(self) -> tuple[int, ...]:
        """Of the grid along each axis, where they are among the points."""
        return tuple(len(axis.points) for axis in self.grid)

    @property
    def count(self) -> int:
        """How many points there are."""
        return max(place.stop for place in self.places.values())

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The fields of the part."""
        if self.part == "fields":
            kept = [f for f in self.given if not is_reading(f) and not _is_scalar_output(f)]
            return (*kept, *(f for field in self.given for f in self._numbers_of(field)))
        names = _coordinates(self.cells)
        found = [Field(n, "1", "where the point is put", "coordinate", ("point",)) for n in names]
        for field in self.given:
            if self._is_at_points(field):
                time = ("time",) if "time" in field.dims else ()
                found.append(replace(field, dims=(*time, "point"), gaps=True))
            elif field.is_scalar and field.role == "input":
                found.append(field)
        return tuple(found)

    def _is_at_points(self, field: Field) -> bool:
        """Whether a field has values at points that stand for something."""
        if self.part == "both":
            return bool(field.dims)
        return self.part == "readings" and is_reading(field)

    @property
    def readings(self) -> dict[str, tuple[str, int, int]]:
        """The axis of each reading, and its first point and the one behind its last, by name.

        With cells among the points, fields are among them, by all their axes, as `x y`.
        """
        found = {}
        for field in self.given:
            if self._is_at_points(field):
                axis = " ".join(dim for dim in field.dims if dim != "time")
                found[field.name] = (axis, self.places[axis].start, self.places[axis].stop)
        return found

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes of the part."""
        if self.part == "fields":
            return tuple(axis for axis in self.axes_given if axis.name in _NOT_NUMBERED)
        points = np.arange(float(self.count))
        extent = (0.0, float(self.count))
        point = Axis("point", "1", "number of the point", points, extent, self._labels())
        return (*(axis for axis in self.axes_given if axis.name == "time"), point)

    def _labels(self) -> tuple[str, ...]:
        """Return what each point's axis calls it; empty texts where it has numbers alone."""
        said = {axis.name: axis.labels for axis in self.axes_given}
        return tuple(
            label
            for name, place in self.places.items()
            for label in said.get(name) or [""] * len(place)
        )

    def _numbers_of(self, field: Field) -> list[Field]:
        """Return a number of a sample for each value of a reading that is given, in order."""
        if not is_reading(field) or field.role != "input" or field.gaps:
            return []
        lengths = {axis.name: len(axis.points) for axis in self.axes_given}
        return [
            replace(field, name="_".join([field.name, *(str(n + 1) for n in index)]), dims=())
            for index in np.ndindex(*(lengths[dim] for dim in field.dims))
        ]

    def of(
        self, arrays: Mapping[str, np.ndarray], *, stacked: bool = True
    ) -> dict[str, np.ndarray]:
        """Return arrays of the part, of those of the dataset that there are.

        They are `(samples, *dims)`, or those of one sample where they are not `stacked`; of states
        there may be fewer frames.
        """
        if self.part != "fields":
            known = {*self.readings, *(field.name for field in self.fields)}
            kept = {name: values for name, values in arrays.items() if name in known}
            return to_points(self.readings, kept, self.cells, stacked=stacked)
        found: dict[str, np.ndarray] = {}
        for field in self.given:
            values = arrays.get(field.name)
            if values is None:
                continue
            if is_reading(field):
                numbers, kept = self._numbers_of(field), values.shape[: int(stacked)]
                flat = values.reshape(*kept, math.prod(values.shape[len(kept) :]))
                found |= {one.name: flat[..., n].copy() for n, one in enumerate(numbers)}
            elif not _is_scalar_output(field):
                found[field.name] = values
        return found


def to_points(
    readings: Mapping[str, tuple[str, int, int]],
    arrays: Mapping[str, np.ndarray],
    cells: tuple[int, ...] = (),
    *,
    stacked: bool = True,
    alone: bool = False,
) -> dict[str, np.ndarray]:
    """Return readings as values of points, missing at those of others, and the points' coordinates.

    `readings` and `cells` are those of a layout. Arrays are `(samples, *dims)`, or of one sample
    where they are not `stacked`; those that are no readings stay as they are. The coordinate of a
    point is its number; with cells there is one for each axis, counted in cells, and the points of
    readings stand in a row before the middle of the grid, apart from the cells. Readings `alone`
    have no points of cells beside them, and fields in space are left out. An `InputError` says that
    a field has another grid than these cells, or as many values as another layout.
    """
    whole = max(last for _, _, last in readings.values())
    left_out = {name for name, (axis, *_) in readings.items() if alone and is_in_space(axis)}
    count = max(last for name, (*_, last) in readings.items() if name not in left_out)
    found = {name: values for name, values in arrays.items() if name not in left_out}
    for name in readings.keys() & found.keys():
        axis, first, last = readings[name]
        own = arrays[name] if axis else arrays[name][..., None]
        if is_in_space(axis):
            dims = len(cells)
            if own.shape[-dims:] != cells:
                raise InputError(
                    f"field {name} has a grid of {own.shape[-dims:]}; this model, of fields and "
                    f"readings, was made for {cells}: give it that grid, or train on another"
                )
            own = own.reshape(*own.shape[:-dims], last - first)
        elif own.shape[-1:] != (last - first,):
            raise InputError(
                f"field {name} has shape {own.shape}; this model knows {last - first} of {axis}: "
                "give it those of its own plant, or train it further on the other one"
            )
        padded = np.full((*own.shape[:-1], count), np.nan, np.float32)
        padded[..., first:last] = own
        found[name] = padded
    samples = len(next(iter(arrays.values()))) if stacked else 0
    for name, place in zip(_coordinates(cells), _placed(whole, cells), strict=True):
        found[name] = np.tile(place[:count], (samples, 1)) if stacked else place[:count].copy()
    return found


def _coordinates(cells: tuple[int, ...]) -> tuple[str, ...]:
    return _PLACES[: len(cells)] or (NUMBER,)


@cache
def _placed(count: int, cells: tuple[int, ...]) -> Sequence[np.ndarray]:
    """Return the coordinates of so many points, of which the last are the cells."""
    if not cells:
        return [np.arange(count, dtype=np.float32)]
    others = count - math.prod(cells)
    grid = np.meshgrid(*(np.arange(length) for length in cells), indexing="ij")
    before = [np.full(others, length / 2) for length in cells]
    before[0] = -1.0 - np.arange(others)
    pairs = zip(before, grid, strict=True)
    return [np.concatenate([row, cell.ravel()]).astype(np.float32) for row, cell in pairs]


def from_points(
    readings: Mapping[str, tuple[str, int, int]],
    arrays: Mapping[str, Any],
    cells: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Return values of points, arrays or tensors, as readings and fields; undoes `to_points`."""
    found = {}
    for name, values in arrays.items():
        if name in readings:
            axis, first, last = readings[name]
            values = values[..., first:last] if axis else values[..., first]
            if is_in_space(axis):
                values = values.reshape(*values.shape[:-1], *cells)
        if not is_made(name):
            found[name] = values
    return found


def is_in_space(axis: str) -> bool:
    """Whether what a layout says of a reading's axis is that of a field: `x y`, not `zone`."""
    return any(name in SPACE for name in axis.split())


def is_made(name: str) -> bool:
    """Whether a field is a coordinate that `to_points` makes, and no dataset has."""
    return name in (NUMBER, *_PLACES)


def check_part(part: Part, fields: Sequence[Field], name: str) -> None:
    """Refuse readings of what has none, and fields beside them where none is in space."""
    if part != "fields" and not has_readings(fields):
        raise InputError(f"task.part={part}, but {name} has no readings; set task.part=fields")
    grids = {tuple(dim for dim in field.dims if dim in SPACE) for field in fields} - {()}
    if part == "both" and (len(grids) != 1 or "point" in next(iter(grids))):
        raise InputError(
            f"task.part=both, but {name} has {len(grids)} grids; expected fields on one "
            "grid beside the readings: set task.part=readings"
        )


_NOT_NUMBERED = ("time", *SPACE)


def is_reading(field: Field) -> bool:
    """Whether a field is said of what an axis numbers, or over time alone."""
    return bool(field.dims) and not any(dim in SPACE for dim in field.dims)


def _is_scalar_output(field: Field) -> bool:
    return field.is_scalar and field.role == "output"


def has_readings(fields: Sequence[Field]) -> bool:
    """Whether some field is said of what an axis numbers: over time alone, fields may be driven."""
    return any(dim not in _NOT_NUMBERED for field in fields for dim in field.dims)
