"""NetCDF files by the CF conventions, classic (version 1 or 2) or on HDF5 (version 4).

Names of dimensions say what an axis is; attributes say units, what is missing, and how values are
packed. A variable over time and space is a state, another an input, unless its attribute `role`,
which files that were exported here have, or the mapping says otherwise.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Self

import h5py
import numpy as np
from scipy.io import netcdf_file

from mno.core.errors import reading
from mno.imports.arrays import CF_AXES, ROLES, Array, arrange, meaning_of
from mno.imports.cage import make_room
from mno.imports.hdf5 import Hdf5File
from mno.imports.importer import ORDER, SPACE, Importer, Layout, leave_out, plain
from mno.imports.mapping import Mapping as FieldMapping
from mno.imports.packing import Packing
from mno.imports.stored import Box, FileArray

# Of version 4: a variable that has the name of a dimension, but not that dimension alone.
_PREFIX = "_nc4_non_coord_"
_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable"


class _Variable(NamedTuple):
    """A variable of numbers, unpacked when they are read."""

    dims: tuple[str, ...]
    attributes: Mapping[str, Any]  # as plain values
    stored: FileArray
    is_marked: bool  # whether it says how a missing value is marked

    @classmethod
    def of(cls, dims: tuple[str, ...], attributes: Mapping[str, Any], stored: FileArray) -> Self:
        packing = Packing.of(attributes, stored.dtype)
        unpacked = replace(stored, part=lambda where: packing.unpack(stored.part(where)))
        return cls(dims, attributes, unpacked, packing.is_marked)


class Netcdf(Importer):
    """A NetCDF file."""

    kind = "netcdf"
    version = 2

    def lay_out(self, mapping: FieldMapping, stack: ExitStack) -> Layout:
        """Open the file and find its fields."""
        if h5py.is_hdf5(self.path):
            found, parameters = self._version_4(Hdf5File(self.path, stack))
        else:
            found, parameters = self._classic()
        self._variables = {name: v for name, v in found.items() if name not in mapping.dropped}
        self._parameters = {name: value for name, value in parameters.items() if value is not None}
        self._find_dimensions()
        arrays = self._fields()
        used = {dim for array in arrays.values() for dim in array.dims or ()}
        arrays |= self._coordinates([name for name in ORDER if name in used and name != "point"])
        return arrange(self, arrays, mapping, parameters=self._parameters)

    def _classic(self) -> tuple[dict[str, _Variable], Mapping[str, Any]]:
        """Return what is in a classic file, which is mapped into memory for each read."""
        with self.path.open("rb") as opened:
            head = opened.read(8)
        if not head.startswith((b"CDF\x01", b"CDF\x02", b"CDF\x05")):
            raise self.error("it is not a NetCDF file; expected one: choose another importer")
        if head[3] == 5 or head[4:] == b"\xff" * 4:
            raise self.error(
                "it is of version 5, or its number of records is open; expected version 1, 2 or 4: "
                "convert it by nccopy -k nc4"
            )
        make_room(2 * self.path.stat().st_size)
        found = {}
        with reading(self.path), netcdf_file(self.path, mmap=True) as file:
            for name in file.variables:
                dims, data = file.variables[name].dimensions, file.variables[name].data
                dtype, lengths = data.dtype, data.shape
                del data  # or the file could not be closed
                if dtype.kind == "S":
                    self.remarks.append(f"{name} holds no numbers; it is left out")
                    continue
                said = {k: plain(v) for k, v in file.variables[name]._attributes.items()}
                stored = FileArray(self.path, name, lengths, dtype, partial(self._part, name))
                found[name] = _Variable.of(dims, said, stored)
            return found, {key: plain(value) for key, value in file._attributes.items()}

    def _part(self, name: str, where: Box) -> np.ndarray:
        with reading(self.path, name), netcdf_file(self.path, mmap=True) as file:
            return np.array(file.variables[name].data[where])

    def _version_4(self, file: Hdf5File) -> tuple[dict[str, _Variable], Mapping[str, Any]]:
        """Return what is in an HDF5 file in which dimensions are arrays of their own."""
        found: dict[str, _Variable] = {}
        for member in file.members(file.root):
            if not file.is_array(file.root, member, of_numbers=True):
                self.remarks.append(f"{member} holds no numbers; it is left out")
                continue
            dataset: Any = file.root[member]
            marked = file.attribute(dataset, "NAME")
            if isinstance(marked, str) and marked.startswith(_NO_VARIABLE):
                continue
            name, stored = member.removeprefix(_PREFIX), file.needed(file.root, member)
            dims: tuple[str, ...] = (name,)
            is_scale = file.attribute(dataset, "CLASS") == "DIMENSION_SCALE"
            if not is_scale or len(dataset.shape) != 1:
                with reading(self.path, f"the dimensions of {name}"):
                    scales = [axis[0].name if len(axis) else None for axis in dataset.dims]
                if None in scales:
                    raise self.error(
                        f"{name} has shape {dataset.shape} and dimensions without names; expected "
                        "NetCDF: import HDF5 files of other layouts as pdebench or the-well, or "
                        f"{leave_out(name)}"
                    )
                dims = tuple(str(scale).rsplit("/", 1)[-1] for scale in scales)
            found[name] = _Variable.of(dims, file.attributes(dataset), stored)
        return found, file.attributes(file.root)

    def _find_dimensions(self) -> None:
        """Find what dimensions are, by their names or by what their coordinates say.

        `_dims` has the file's dimensions by axis, the first of each; `_points` the coordinates, and
        `_turned` the axes along which they decrease.
        """
        self._dims: dict[str, str] = {}
        for variable in self._variables.values():
            for dim in variable.dims:
                if (axis := self._axis_called(dim)) is not None:
                    self._dims.setdefault(axis, dim)
        self._axes = {dim: axis for axis, dim in self._dims.items()}
        self._points = {
            axis: self._variables[dim].stored.whole().astype(np.float64)
            for axis, dim in self._dims.items()
            if axis in ORDER and dim in self._variables and self._variables[dim].dims == (dim,)
        }
        self._turned = {axis for axis, p in self._points.items() if len(p) and p[0] > p[-1]}

    def _axis_called(self, dim: str) -> str | None:
        said = self._variables[dim].attributes if dim in self._variables else {}
        return meaning_of(dim) or CF_AXES.get(str(said.get("axis")))

    def _fields(self) -> dict[str, Array]:
        """Return what may become fields, or numbers of samples; take note of all else."""
        axes: dict[str, tuple[str, ...]] = {}
        for name, variable in self._variables.items():
            unknown = [dim for dim in variable.dims if dim not in self._axes]
            if not variable.dims:
                self._parameters[name] = plain(variable.stored.whole().astype(np.float64)[()])
            elif variable.dims != (name,) and unknown:
                self.remarks.append(
                    f"{name} is left out: dimension {unknown[0]} is not known as an axis here"
                )
            elif variable.dims != (name,):
                axes[name] = tuple(self._axes[dim] for dim in variable.dims)
        space = {dim for dims in axes.values() for dim in dims if dim in (*SPACE, "point")}
        fields = {}
        for name, dims in axes.items():
            variable, own = self._variables[name], set(dims) - {"sample"}
            said, label = variable.attributes, name
            array = Array(self._in_order(variable.stored, dims), dims, source=name)
            if not own and name in ("group", "start"):
                fields[name] = array
                continue
            role, gaps, along = said.get("role"), bool(said.get("gaps")), space & own
            if role not in ROLES:
                said = {key: value for key, value in said.items() if key != "scale"}
                gaps = gaps or variable.is_marked
                role = "state" if "time" in own and len(own) > 1 else "input"
                if own == {"point"} and self._axis_called(name) in SPACE:
                    role, label = "coordinate", self._axis_called(name) or name
                elif along and along != space:
                    self.remarks.append(
                        f"{name} is not given along {', '.join(sorted(space - own))}; it is left "
                        "out"
                    )
                    continue
                if gaps:
                    self.remarks.append(
                        f"{name} says how a missing value is marked, so it may have gaps; "
                        "`gaps: false` in a mapping file says that it has none"
                    )
            fields[label] = array._replace(attributes={**said, "role": role, "gaps": gaps})
        if not fields:
            raise self.error(
                "it has no variable over axes that are known here; expected dimensions called "
                "sample, time, x, y, z, lon, lat or point: rename them, for example by ncrename "
                f"({'; '.join(self.remarks) or 'there is none'})"
            )
        return fields

    def _in_order(self, stored: FileArray, dims: tuple[str, ...]) -> FileArray:
        """Return an array with its axes from low to high, that of the samples first."""
        turned = [i for i, dim in enumerate(dims) if dim in self._turned]

        def part(where: Box) -> np.ndarray:
            box = list(where)
            for i in turned:
                length = stored.lengths[i]
                box[i] = slice(length - where[i].stop, length - where[i].start)
            return np.flip(stored.part(tuple(box)), tuple(turned))

        first = dims.index("sample") if "sample" in dims else 0
        order = (first, *(i for i in range(len(dims)) if i != first))
        return replace(stored, part=part if turned else stored.part, order=order)

    def _coordinates(self, used: list[str]) -> dict[str, Array]:
        """Return the coordinates of axes, and say what is missing of them or left out."""
        found = {}
        for axis in used:
            dim = self._dims[axis]
            if axis not in self._points:
                self.remark_missing(axis, f"{dim} has no coordinates")
                continue
            variable = self._variables[dim]
            said = dict(variable.attributes)
            said["long_name"] = said.get("long_name") or said.get("standard_name") or dim
            found[axis] = Array(self._in_order(variable.stored, (axis,)), (axis,), said, dim)
        return found


IMPORTER = Netcdf
