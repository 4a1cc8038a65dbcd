"""Dimensions of a NetCDF file as axes: by their names, or by what their coordinates say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis
from mno.imports.base import axis_of_points, cell_centres
from mno.imports.netcdf_files.variable import Variable
from mno.imports.shared.layout import SPACE, given_axis
from mno.imports.shared.vectors import default_axis

_NAMES = {
    "sample": ("sample", "realization", "realisation", "member", "ensemble"),
    "time": ("time", "t"),
    "x": ("x", "lon", "longitude"),
    "y": ("y", "lat", "latitude"),
    "z": ("z", "lev", "level"),
    "point": ("point", "points", "node", "nodes"),
}
_AXES = {name: axis for axis, names in _NAMES.items() for name in names}
_CF_AXES = {"T": "time", "X": "x", "Y": "y", "Z": "z"}
_ORDER = ("time", *SPACE, "point")


class Dimensions:
    """The dimensions of a file.

    Args:
        path: The file.
        variables: Those of numbers, by name.

    Attributes:
        samples: Number of samples, 1 in a file that has no such dimension.
        remarks: What is worth knowing of the axes.
    """

    def __init__(self, path: Path, variables: Mapping[str, Variable]) -> None:
        self._path, self._variables = path, variables
        self._dims: dict[str, str] = {}
        self._lengths: dict[str, int] = {}
        for variable in variables.values():
            for dim, length in zip(variable.dims, variable.shape, strict=True):
                axis = self.axis_called(dim)
                if axis is not None and self._dims.setdefault(axis, dim) == dim:
                    self._lengths[axis] = length
        self.samples = self._lengths.get("sample", 1)
        self.remarks: list[str] = []
        # Coordinates are read once; axes along which they decrease are turned round.
        self._points = {axis: self._coordinates(axis) for axis in self._dims if axis in _ORDER}
        self._turned = {
            axis
            for axis, points in self._points.items()
            if points is not None and len(points) > 1 and points[0] > points[-1]
        }

    def axis_called(self, dim: str) -> str | None:
        """Return the axis that a dimension or a coordinate of some name is."""
        known = _AXES.get(dim.lower())
        if known is None and dim in self._variables:
            known = _CF_AXES.get(str(self._variables[dim].attributes.get("axis")))
        return known

    def is_known(self, dim: str) -> bool:
        """Whether a dimension is an axis, or that of samples."""
        axis = self.axis_called(dim)
        return axis is not None and self._dims.get(axis) == dim

    def dims_of(self, variable: Variable) -> tuple[str, ...]:
        """Return the axes of one sample of a variable, in order."""
        axes = [self.axis_called(dim) for dim in variable.dims]
        return tuple(axis for axis in _ORDER if axis in axes)

    def lengths(self, dims: tuple[str, ...]) -> tuple[int, ...]:
        """Return the number of points along axes."""
        return tuple(self._lengths[dim] for dim in dims)

    def read(self, variable: Variable, dims: tuple[str, ...], start: int, stop: int) -> np.ndarray:
        """Return some samples, with the axes in order and from low to high."""
        sample = self._dims.get("sample")
        order = [self._dims[dim] for dim in dims]
        if sample in variable.dims:
            values = variable.read({str(sample): slice(start, stop)}, [str(sample), *order])
        else:
            one = variable.read({}, order)
            values = np.broadcast_to(one, (stop - start, *one.shape))
        turns = [slice(None, None, -1 if dim in self._turned else None) for dim in dims]
        return np.ascontiguousarray(values[(slice(None), *turns)])

    def axes(self, used: set[str]) -> tuple[Axis, ...]:
        """Return the axes that fields use.

        Raises:
            InputError: Coordinates do not increase or decrease.
        """
        return tuple(self._axis(name) for name in _ORDER if name in used)

    def _axis(self, name: str) -> Axis:
        dim, length, points = self._dims[name], self._lengths[name], self._points[name]
        if name == "point":
            return default_axis(name, length)
        if points is None:
            return self._numbered(name, dim, length)
        if name in self._turned:
            points = points[::-1]
            self.remarks.append(f"{dim} decreases; the axis is turned round")
        attributes = self._variables[dim].attributes
        units = self._units(dim, attributes)
        axis = given_axis(self._path, name, dim, points, length, units)
        label = str(attributes.get("long_name") or attributes.get("standard_name") or dim)
        return Axis(name, units, label, points, self._extent(dim, axis, attributes))

    def _numbered(self, name: str, dim: str, length: int) -> Axis:
        """Return an axis without coordinates."""
        if name == "time":
            self.remarks.append(f"{dim} has no coordinates; frames are numbered from 0")
            return axis_of_points(name, np.arange(float(length)))
        self.remarks.append(
            f"{dim} has no coordinates; points are taken as the centres of cells from 0 to 1"
        )
        return cell_centres(name, length)

    def _coordinates(self, axis: str) -> np.ndarray | None:
        variable = self._variables.get(self._dims[axis])
        if variable is None or variable.dims != (self._dims[axis],):
            return None
        if variable.shape[0] > 10_000_000:
            raise InputError(
                f"{self._path}: {variable.name} has {variable.shape[0]} points; expected at most "
                "10000000: coarsen the arrays before the import"
            )
        return variable.values()

    def _units(self, dim: str, attributes: Mapping[str, Any]) -> str:
        """Return the unit of an axis, without the date from which times are counted."""
        units = str(attributes.get("units") or "1")
        if " since " in units:
            self.remarks.append(f"{dim} is in {units}; the date is left out")
        return units.split(" since ")[0].strip()

    def _extent(self, dim: str, axis: Axis, attributes: Mapping[str, Any]) -> tuple[float, float]:
        """Return where the domain ends, which files that were exported here say."""
        given = attributes.get("extent")
        if isinstance(given, list) and len(given) == 2:
            low, high = given
            if low <= axis.points[0] and axis.points[-1] <= high:
                return float(low), float(high)
        return axis.extent
