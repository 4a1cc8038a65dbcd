"""NetCDF files by the CF conventions, classic (version 1, 2 or 5) or on HDF5 (version 4).

Names of dimensions say what an axis is; attributes say units, what is missing, and how values are
packed. A variable over time and space is a state, another an input, unless its attribute `role`,
which files that were exported here have, or the mapping says otherwise.

The classic header is read here (Unidata, "NetCDF Classic Format Specification"): SciPy's reader
knows no version 5 and copies all records, and Unidata's crashes on damaged headers. Values follow
it variable by variable; variables along the unlimited dimension are interleaved, record by record.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import h5py
import numpy as np

from mno.core.errors import InputError
from mno.imports.arrays import CF_AXES, ROLES, Array, Packing, arrange
from mno.imports.hdf5 import Hdf5File, readable
from mno.imports.importer import ORDER, SPACE, Importer, Layout, leave_out, plain
from mno.imports.mapping import Mapping as FieldMapping
from mno.imports.tiles import Box, pieces, shifted

_NAMES = {
    "sample": ("sample", "realization", "realisation", "member", "ensemble"),
    "time": ("time", "t"),
    "x": ("x", "lon", "longitude"),
    "y": ("y", "lat", "latitude"),
    "z": ("z", "lev", "level"),
    "point": ("point", "points", "node", "nodes"),
}
_AXES = {name: axis for axis, names in _NAMES.items() for name in names}
_MOST_POINTS = 10_000_000
# Of version 4: a variable that has the name of a dimension, but not that dimension alone.
_PREFIX = "_nc4_non_coord_"
_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable"
# Of the classic header: its lists, its types of values, and what no honest one has.
_DIMENSION, _VARIABLE, _ATTRIBUTE = 10, 11, 12
_TYPES = (
    "", "i1", "S1", ">i2", ">i4", ">f4", ">f8", "u1", ">u2", ">u4", ">i8", ">u8",
)  # fmt: skip
_MOST_BYTES, _MOST_ITEMS = 2**20, 100_000


class _Variable(NamedTuple):
    """A variable of numbers, whose values are unread; `part` takes one slice for each dimension."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    attributes: Mapping[str, Any]  # as plain values
    part: Callable[[Box], np.ndarray]

    @property
    def packing(self) -> Packing:
        return Packing.of(self.attributes, self.dtype)

    def values(self) -> np.ndarray:
        """Return all values, unpacked, float64: for coordinates and the like."""
        stored = self.part(tuple(slice(0, length) for length in self.shape))
        return self.packing.unpack(stored).astype(np.float64)


class Netcdf(Importer):
    """A NetCDF file."""

    kind = "netcdf"

    def lay_out(self, mapping: FieldMapping, stack: ExitStack) -> Layout:
        """Open the file and find its fields."""
        if h5py.is_hdf5(self.require_file()):
            found, others, parameters = _version_4(stack.enter_context(Hdf5File(self.path)))
        else:
            found, others, parameters = _Classic(self.path).content()
        self._variables = {name: v for name, v in found.items() if name not in mapping.dropped}
        self._parameters = {name: value for name, value in parameters.items() if value is not None}
        self.remarks += [f"{name} holds no numbers; it is left out" for name in others]
        self._find_dimensions()
        arrays = self._fields()
        arrays |= self._coordinates({dim for array in arrays.values() for dim in array.dims or ()})
        sources = {name: array.source for name, array in arrays.items()}
        return arrange(
            self, arrays, mapping, self._whole, lambda name, *of: self._rows(sources[name], *of),
            parameters=self._parameters,
        )  # fmt: skip

    def _find_dimensions(self) -> None:
        """Find what dimensions are, by their names or by what their coordinates say.

        `_dims` has the file's dimensions by axis, the first of each; `_points` the coordinates, and
        `_turned` the axes along which they decrease.
        """
        self._dims: dict[str, str] = {}
        for variable in self._variables.values():
            for dim in variable.dims:
                axis = self._axis_called(dim)
                if axis is not None:
                    self._dims.setdefault(axis, dim)
        self._axes = {dim: axis for axis, dim in self._dims.items()}
        self._points: dict[str, np.ndarray] = {}
        for axis, dim in self._dims.items():
            variable = self._variables.get(dim)
            if axis not in ORDER or variable is None or variable.dims != (dim,):
                continue
            if variable.shape[0] > _MOST_POINTS:
                raise self.error(
                    f"{dim} has {variable.shape[0]} points; expected at most "
                    f"{_MOST_POINTS}: coarsen the arrays before the import"
                )
            self._points[axis] = variable.values()
        several = {axis: p for axis, p in self._points.items() if len(p) > 1}
        self._turned = {axis for axis, points in several.items() if points[0] > points[-1]}

    def _axis_called(self, dim: str) -> str | None:
        """Return the axis that a dimension or a coordinate of some name is."""
        known = _AXES.get(dim.lower())
        if known is None and dim in self._variables:
            known = CF_AXES.get(str(self._variables[dim].attributes.get("axis")))
        return known

    def _fields(self) -> dict[str, Array]:
        """Return what may become fields, or numbers of samples; take note of all else."""
        found: dict[str, Array] = {}
        for name, variable in self._variables.items():
            unknown = [dim for dim in variable.dims if dim not in self._axes]
            if variable.dims == (name,):  # coordinates
                continue
            if not variable.dims:
                self._parameters[name] = plain(variable.values()[()])
            elif unknown:
                self.remarks.append(
                    f"{name} is left out: dimension {unknown[0]} is not known as an axis here"
                )
            else:
                dims = tuple(self._axes[dim] for dim in variable.dims)
                found[name] = Array(variable.shape, variable.dtype, dims, source=name)
        space = {d for array in found.values() for d in array.dims or () if d in (*SPACE, "point")}
        fields = {}
        for name, array in found.items():
            said = self._variables[name].attributes
            dims = set(array.dims or ()) - {"sample"}
            if not dims and name in ("group", "start"):
                fields[name] = array
                continue
            role, along = said.get("role"), space & dims
            is_place = dims == {"point"} and self._axis_called(name) in SPACE
            told, label = role in ROLES, name
            if along and along != space and not told and not is_place:
                self.remarks.append(
                    f"{name} is not given along {', '.join(sorted(space - dims))}; it is left out"
                )
                continue
            if not told and is_place:
                role, label = "coordinate", self._axis_called(name) or name
            elif not told:
                role = "state" if "time" in dims and len(dims) > 1 else "input"
            gaps = bool(said.get("gaps")) or not told and self._variables[name].packing.is_marked
            if gaps and not told:
                self.remarks.append(
                    f"{name} says how a missing value is marked, so it may have gaps; "
                    "`gaps: false` in a mapping file says that it has none"
                )
            fields[label] = array._replace(attributes={**said, "role": role, "gaps": gaps})
        if not fields:
            raise InputError(
                f"{self.path} has no variable over axes that are known here; expected dimensions "
                "called sample, time, x, y, z, lon, lat or point: rename them, for example by "
                f"ncrename ({'; '.join(self.remarks) or 'there is none'})"
            )
        return fields

    def _coordinates(self, used: set[str]) -> dict[str, Array]:
        """Return the coordinates of axes, and say what is missing of them or left out."""
        found = {}
        for axis in (name for name in ORDER if name in used and name != "point"):
            dim = self._dims[axis]
            if axis not in self._points:
                self.remarks.append(
                    f"{dim} has no coordinates; "
                    + (
                        "frames are numbered from 0"
                        if axis == "time"
                        else "points are taken as the centres of cells from 0 to 1"
                    )
                )
                continue
            if axis in self._turned:
                self._points[axis] = self._points[axis][::-1]
                self.remarks.append(f"{dim} decreases; the axis is turned round")
            said = dict(self._variables[dim].attributes)
            units = str(said.get("units") or "1")
            if " since " in units:
                self.remarks.append(f"{dim} is in {units}; the date is left out")
            said["units"] = units.split(" since ")[0].strip()
            said["long_name"] = said.get("long_name") or said.get("standard_name") or dim
            points = self._points[axis]
            found[axis] = Array(points.shape, points.dtype, (axis,), said, dim)
        return found

    def _whole(self, name: str) -> np.ndarray:
        return self._points[name] if name in self._points else self._variables[name].values()

    def _rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return some samples of a variable, its own axes behind theirs, from low to high."""
        variable = self._variables[name]
        axes = [self._axes[dim] for dim in variable.dims]
        where = [
            slice(start, stop) if axis == "sample" else slice(0, length)
            for axis, length in zip(axes, variable.shape, strict=True)
        ]
        values = np.empty([part.stop - part.start for part in where], dtype=np.float32)
        packing = variable.packing
        for piece in pieces(values.shape, 8):
            with np.errstate(over="ignore"):
                values[piece] = packing.unpack(variable.part(shifted(piece, where)))
        values = values[tuple(slice(None, None, -1 if a in self._turned else 1) for a in axes)]
        if "sample" in axes:
            return np.moveaxis(values, axes.index("sample"), 0)
        return np.broadcast_to(values, (stop - start, *values.shape))


_Content = tuple[dict[str, _Variable], list[str], Mapping[str, Any]]
"""Variables of numbers, names of those of text and the like, and attributes of the file."""


def _version_4(file: Hdf5File) -> _Content:
    """Return what is in an HDF5 file in which dimensions are arrays of their own."""
    variables: dict[str, _Variable] = {}
    others = []
    for member in file.members(file.root):
        if not file.is_numeric(file.root, member):
            others.append(member)
            continue
        marked = file.attribute(file.root[member], "NAME")
        if not (isinstance(marked, str) and marked.startswith(_NO_VARIABLE)):
            name, array = member.removeprefix(_PREFIX), file.needed(file.root, member)
            dims, said = _scales(file, name, array.dataset), file.attributes(array.dataset)
            variables[name] = _Variable(dims, array.shape, array.dataset.dtype, said, array.part)
    return variables, others, file.attributes(file.root)


def _scales(file: Hdf5File, name: str, dataset: h5py.Dataset) -> tuple[str, ...]:
    if file.attribute(dataset, "CLASS") == "DIMENSION_SCALE" and len(dataset.shape) == 1:
        return (name,)
    with readable(file.path, f"the dimensions of {name}"):
        scales = [axis[0].name if len(axis) else None for axis in dataset.dims]
    if None in scales:
        raise InputError(
            f"{file.path}: {name} has shape {dataset.shape} and dimensions without names; expected "
            "NetCDF: import HDF5 files of other layouts as pdebench or the-well, or "
            f"{leave_out(name)}"
        )
    return tuple(str(scale).rsplit("/", 1)[-1] for scale in scales)


class _Header(NamedTuple):
    """What the classic header says of a variable: numbers of its dimensions, where it begins."""

    name: str
    dims: list[int]
    attributes: dict[str, Any]
    dtype: np.dtype
    begin: int


class _Classic:
    """The header of a classic file: numbers of dimensions, attributes and variables."""

    def __init__(self, path: Path) -> None:
        self._path, self._size = path, path.stat().st_size
        with path.open("rb") as self._file:
            magic = self._file.read(4)
            if magic not in (b"CDF\x01", b"CDF\x02", b"CDF\x05"):
                raise InputError(
                    f"{path} is not a NetCDF file; expected one: choose another importer"
                )
            self._width, offset = {1: (4, 4), 2: (4, 8), 5: (8, 8)}[magic[3]]
            records = self._number()
            self._dims = [(self._text(), self._number()) for _ in self._items(_DIMENSION)]
            self._attributes = self._read_attributes()
            found = [self._read_variable(offset) for _ in self._items(_VARIABLE)]
        # A record has a padded part of each variable along the unlimited dimension, unless it is
        # the only one.
        self._headers = found
        sizes = [
            math.prod(self._dims[n][1] for n in one.dims[1:]) * one.dtype.itemsize
            for one in found
            if self._has_records(one)
        ]
        self._stride = sizes[0] if len(sizes) == 1 else sum(-(-size // 4) * 4 for size in sizes)
        if records == 2 ** (8 * self._width) - 1 and sizes:  # not said
            begin = min(one.begin for one in found if self._has_records(one))
            records = max(0, self._size - begin) // max(1, self._stride)
        self._records = records

    _file: BinaryIO

    def content(self) -> _Content:
        variables = {h.name: self._variable(h) for h in self._headers if h.dtype.kind != "S"}
        others = [header.name for header in self._headers if header.dtype.kind == "S"]
        return variables, others, self._attributes

    def _has_records(self, header: _Header) -> bool:
        return bool(header.dims) and self._dims[header.dims[0]][1] == 0

    def _variable(self, header: _Header) -> _Variable:
        shape = [self._dims[n][1] for n in header.dims]
        item = header.dtype.itemsize
        strides = [item * math.prod(shape[i + 1 :]) for i in range(len(shape))]
        if self._has_records(header):
            shape[0], strides[0] = self._records, self._stride
        end = header.begin + item + sum(s * (n - 1) for s, n in zip(strides, shape, strict=True))
        if math.prod(shape) and end > self._size:
            raise self._damaged(
                f"ends at byte {self._size}, {header.name} of shape {tuple(shape)} at {end}"
            )

        def part(where: Box) -> np.ndarray:
            """Return a part of a variable; pages of the file are let go when that is done."""
            file = np.memmap(self._path, mode="r")
            values = np.ndarray(shape, header.dtype, file.data, header.begin, strides)
            return values[where].copy()

        dims = tuple(self._dims[n][0] for n in header.dims)
        return _Variable(dims, tuple(shape), header.dtype, header.attributes, part)

    def _read_variable(self, offset: int) -> _Header:
        name = self._text()
        dims = [self._number() for _ in range(self._count())]
        if any(number >= len(self._dims) for number in dims):
            raise self._damaged(f"has no such dimensions as those of {name}")
        attributes, dtype = self._read_attributes(), self._dtype()
        self._number()  # the size, which follows from the rest
        return _Header(name, dims, attributes, dtype, self._number(offset))

    def _read_attributes(self) -> dict[str, Any]:
        found = {}
        for _ in self._items(_ATTRIBUTE):
            name, dtype = self._text(), self._dtype()
            data = self._padded(self._count() * dtype.itemsize)
            text = dtype.kind == "S"
            found[name] = plain(data.rstrip(b"\0") if text else np.frombuffer(data, dtype))
        return found

    def _items(self, tag: int) -> Iterator[int]:
        given, count = self._number(4), self._count()
        if given != tag and (given or count):
            raise self._damaged(f"has a list of kind {given} where one of kind {tag} should be")
        yield from range(count)

    def _dtype(self) -> np.dtype:
        number = self._number(4)
        if not 0 < number < len(_TYPES):
            raise self._damaged(f"has values of type {number}")
        return np.dtype(_TYPES[number])

    def _text(self) -> str:
        return self._padded(self._count()).decode("utf-8", "replace")

    def _padded(self, length: int) -> bytes:
        if length > _MOST_BYTES:
            raise self._damaged(f"has {length} bytes of text in its header")
        return self._exactly(-(-length // 4) * 4)[:length]

    def _count(self) -> int:
        count = self._number()
        if count > _MOST_ITEMS:
            raise self._damaged(f"has a list of {count} in its header")
        return count

    def _number(self, width: int | None = None) -> int:
        return int.from_bytes(self._exactly(width or self._width), "big")

    def _exactly(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) != count:
            raise self._damaged("ends within its header")
        return data

    def _damaged(self, what: str) -> InputError:
        return InputError(
            f"{self._path} {what}; expected an undamaged NetCDF file: get it anew, or convert it "
            "by nccopy -k nc4"
        )


IMPORTER = Netcdf
