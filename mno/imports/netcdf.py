"""NetCDF files by the CF conventions, classic (version 1, 2 or 5) or on HDF5 (version 4).

Names of dimensions say what an axis is; attributes say units, what is missing, and how values are
packed. A variable over time and space is a state, another an input, unless its attribute `role`,
which files that were exported here have, or the mapping says otherwise.

The classic header is read here (Unidata, "NetCDF Classic Format Specification"): SciPy's reader
knows no version 5, and Unidata's crashes on damaged headers. Values follow it variable by variable;
variables along the unlimited dimension are interleaved, record by record.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import h5py
import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.imports.hdf5 import Hdf5File, readable
from mno.imports.importer import (
    ORDER,
    SPACE,
    Contents,
    Importer,
    Layout,
    Reader,
    axis_of_points,
    cell_centres,
    check_sample,
    default_axis,
    given_axis,
    leave_out,
    plain,
    uneven,
)
from mno.imports.mapping import Mapping as FieldMapping
from mno.imports.named_arrays import CF_AXES, ROLES, said_extent
from mno.imports.tiles import Box, pieces, shifted

# Numbers of each sample that a dataset has besides its fields.
_PER_SAMPLE = {"group": np.int64, "start": np.float64}
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
_TYPES = {
    1: "i1", 2: "S1", 3: ">i2", 4: ">i4", 5: ">f4", 6: ">f8", 7: "u1", 8: ">u2", 9: ">u4",
    10: ">i8", 11: ">u8",
}  # fmt: skip
_MOST_BYTES, _MOST_ITEMS = 2**20, 100_000


class Netcdf(Importer):
    """A NetCDF file."""

    kind = "netcdf"

    def lay_out(self, mapping: FieldMapping, stack: ExitStack) -> Layout:
        """Open the file and find its fields."""
        if h5py.is_hdf5(self.require_file()):
            found = _version_4(stack.enter_context(Hdf5File(self.path)))
        else:
            found = _Classic(self.path).file()
        return _Variables(self.path, found, mapping).layout()


@dataclass(frozen=True, eq=False)
class Variable:
    """A variable whose values are unread.

    Attributes:
        name: What the file calls it.
        dims: Names of its dimensions.
        shape: Their lengths.
        dtype: Of its values as they are stored.
        attributes: What the file says of it, as plain values.
        part: Returns a part of its values as they are stored, one slice for each dimension.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    attributes: Mapping[str, Any]
    part: Callable[[Box], np.ndarray]

    @property
    def missing(self) -> list[Any]:
        """The stored values that stand for a missing one."""
        found = []
        for name in ("_FillValue", "missing_value"):
            value = self.attributes.get(name)
            for item in value if isinstance(value, list) else [value]:
                # Plain values have what is not finite as text.
                mark = float(item) if item in ("nan", "inf", "-inf") else item
                if isinstance(mark, (int, float)) and _fits(mark, self.dtype):
                    found.append(self.dtype.type(mark))
        return found

    def values(self) -> np.ndarray:
        """Return all values, unpacked, float64: for coordinates and the like."""
        return self._unpacked(self.part(tuple(slice(0, length) for length in self.shape)))

    def read(self, where: Mapping[str, slice], order: Sequence[str]) -> np.ndarray:
        """Return a part of the values, unpacked.

        Args:
            where: Which part of a dimension, by its name; all of it if not given.
            order: The dimensions, as the result is to have them.

        Returns:
            Values, float32; NaN where they are missing.
        """
        parts = [where.get(d, slice(0, n)) for d, n in zip(self.dims, self.shape, strict=True)]
        lengths = {dim: p.stop - p.start for dim, p in zip(self.dims, parts, strict=True)}
        out = np.empty([lengths[dim] for dim in order], dtype=np.float32)
        as_stored = out.transpose([order.index(dim) for dim in self.dims])
        for piece in pieces(as_stored.shape, 8):
            with np.errstate(over="ignore"):
                as_stored[piece] = self._unpacked(self.part(shifted(piece, parts)))
        return out

    def _unpacked(self, stored: np.ndarray) -> np.ndarray:
        factor, offset = self.attributes.get("scale_factor"), self.attributes.get("add_offset")
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.array(stored, dtype=np.float64)
            if isinstance(factor, (int, float)):
                values *= factor
            if isinstance(offset, (int, float)):
                values += offset
        for mark in self.missing:
            values[stored == mark] = np.nan
        return values


def _fits(mark: float, dtype: np.dtype) -> bool:
    """Whether a mark can be one of the stored values."""
    if dtype.kind == "f":
        return True
    if dtype.kind not in "iu" or not math.isfinite(mark):
        return False
    limits = np.iinfo(dtype)
    return limits.min <= mark <= limits.max


class _File(NamedTuple):
    """What is in a file.

    Attributes:
        variables: Those of numbers, by name.
        others: Names of those of text, and of what else there is.
        attributes: What the file says of itself.
    """

    variables: dict[str, Variable]
    others: list[str]
    attributes: Mapping[str, Any]


class _Variables:
    """The variables of a file, and what becomes of them."""

    def __init__(self, path: Path, file: _File, mapping: FieldMapping) -> None:
        self._path = path
        kept = {name: v for name, v in file.variables.items() if name not in mapping.dropped}
        self._dimensions = _Dimensions(path, kept)
        self._parameters = {k: v for k, v in file.attributes.items() if v is not None}
        self._remarks = [f"{name} holds no numbers; it is left out" for name in file.others]
        self._per_sample: dict[str, np.ndarray] = {}
        self._fields: dict[str, Field] = {}
        self._sources: dict[str, str] = {}
        self._readers: dict[str, Reader] = {}
        self._found = self._sorted_out(kept)

    def layout(self) -> Layout:
        """Return what the file holds, and how it is read."""
        dims = [self._dimensions.dims_of(variable) for variable in self._found]
        space = {d for found in dims for d in found if d in (*SPACE, "point")}
        for variable, found in zip(self._found, dims, strict=True):
            told = variable.attributes.get("role") in ROLES
            along = space & set(found)
            if along and along != space and not told and not self._is_place(variable, found):
                self._remarks.append(
                    f"{variable.name} is not given along {', '.join(sorted(space - set(found)))}; "
                    "it is left out"
                )
            else:
                self._add(variable, found)
        if not self._fields:
            raise InputError(
                f"{self._path} has no variable over axes that are known here; expected dimensions "
                "called sample, time, x, y, z, lon, lat or point: rename them, for example by "
                f"ncrename ({'; '.join(self._remarks) or 'there is none'})"
            )
        axes = self._dimensions.axes({dim for f in self._fields.values() for dim in f.dims})
        contents = Contents(
            samples=self._dimensions.samples,
            axes=axes,
            fields=tuple(self._fields.values()),
            sources=self._sources,
            parameters=self._parameters,
            groups=self._per_sample.get("group"),
            starts=self._per_sample.get("start"),
            remarks=(*self._remarks, *self._dimensions.remarks, *uneven(axes)),
        )
        return contents, self._readers

    def _sorted_out(self, variables: dict[str, Variable]) -> list[Variable]:
        """Return the variables that may become fields; take note of the others."""
        found = []
        for name, variable in variables.items():
            unknown = [dim for dim in variable.dims if not self._dimensions.is_known(dim)]
            if variable.dims == (name,):  # coordinates
                continue
            if not variable.dims:
                self._parameters[name] = plain(variable.values()[()])
            elif unknown:
                self._remarks.append(
                    f"{name} is left out: dimension {unknown[0]} is not known as an axis here"
                )
            elif name in _PER_SAMPLE and self._dimensions.dims_of(variable) == ():
                self._per_sample[name] = variable.values().astype(_PER_SAMPLE[name])
            else:
                found.append(variable)
        return found

    def _is_place(self, variable: Variable, dims: tuple[str, ...]) -> bool:
        """Whether a variable says where unordered points are."""
        return dims == ("point",) and self._dimensions.axis_called(variable.name) in SPACE

    def _add(self, variable: Variable, dims: tuple[str, ...]) -> None:
        check_sample(
            self._path, variable.name, self._dimensions.lengths(dims), self._dimensions.samples
        )
        attributes = variable.attributes
        role, name = attributes.get("role"), variable.name
        exported = role in ROLES
        if not exported and self._is_place(variable, dims):
            role, name = "coordinate", self._dimensions.axis_called(name) or name
        elif not exported:
            role = "state" if "time" in dims and len(dims) > 1 else "input"
        gaps = bool(attributes.get("gaps")) or (not exported and bool(variable.missing))
        if gaps and not exported:
            self._remarks.append(
                f"{variable.name} says how a missing value is marked, so it may have gaps; "
                "`gaps: false` in a mapping file says that it has none"
            )
        label = str(attributes.get("long_name") or name.replace("_", " "))
        units = str(attributes.get("units") or "1")
        self._fields[name] = Field(name, units, label, role, dims, gaps)
        self._sources[name] = variable.name
        self._readers[name] = partial(self._dimensions.read, variable, dims)


class _Dimensions:
    """The dimensions of a file as axes: by their names, or by what their coordinates say.

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
        self._points = {axis: self._coordinates(axis) for axis in self._dims if axis in ORDER}
        self._turned = {
            axis
            for axis, points in self._points.items()
            if points is not None and len(points) > 1 and points[0] > points[-1]
        }

    def axis_called(self, dim: str) -> str | None:
        """Return the axis that a dimension or a coordinate of some name is."""
        known = _AXES.get(dim.lower())
        if known is None and dim in self._variables:
            known = CF_AXES.get(str(self._variables[dim].attributes.get("axis")))
        return known

    def is_known(self, dim: str) -> bool:
        """Whether a dimension is an axis, or that of samples."""
        axis = self.axis_called(dim)
        return axis is not None and self._dims.get(axis) == dim

    def dims_of(self, variable: Variable) -> tuple[str, ...]:
        """Return the axes of one sample of a variable, in order."""
        axes = [self.axis_called(dim) for dim in variable.dims]
        return tuple(axis for axis in ORDER if axis in axes)

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
        return tuple(self._axis(name) for name in ORDER if name in used)

    def _axis(self, name: str) -> Axis:
        dim, length, points = self._dims[name], self._lengths[name], self._points[name]
        if name == "point":
            return default_axis(name, length)
        if points is None and name == "time":
            self.remarks.append(f"{dim} has no coordinates; frames are numbered from 0")
            return axis_of_points(name, np.arange(float(length)))
        if points is None:
            self.remarks.append(
                f"{dim} has no coordinates; points are taken as the centres of cells from 0 to 1"
            )
            return cell_centres(name, length)
        if name in self._turned:
            points = points[::-1]
            self.remarks.append(f"{dim} decreases; the axis is turned round")
        said = self._variables[dim].attributes
        units = str(said.get("units") or "1")
        if " since " in units:
            self.remarks.append(f"{dim} is in {units}; the date is left out")
        units = units.split(" since ")[0].strip()
        axis = given_axis(self._path, name, dim, points, length, units)
        label = str(said.get("long_name") or said.get("standard_name") or dim)
        return Axis(name, units, label, points, said_extent(axis, said.get("extent")))

    def _coordinates(self, axis: str) -> np.ndarray | None:
        variable = self._variables.get(self._dims[axis])
        if variable is None or variable.dims != (self._dims[axis],):
            return None
        if variable.shape[0] > _MOST_POINTS:
            raise InputError(
                f"{self._path}: {variable.name} has {variable.shape[0]} points; expected at most "
                f"{_MOST_POINTS}: coarsen the arrays before the import"
            )
        return variable.values()


def _version_4(file: Hdf5File) -> _File:
    """Return what is in an HDF5 file in which dimensions are arrays of their own."""
    found = _File({}, [], file.attributes(file.root))
    for member in file.members(file.root):
        if not file.is_numeric(file.root, member):
            found.others.append(member)
            continue
        marked = file.attribute(file.root[member], "NAME")
        if not (isinstance(marked, str) and marked.startswith(_NO_VARIABLE)):
            name, array = member.removeprefix(_PREFIX), file.needed(file.root, member)
            dims = _scales(file, name, array.dataset)
            said = file.attributes(array.dataset)
            found.variables[name] = Variable(
                name, dims, array.shape, array.dataset.dtype, said, array.part
            )
    return found


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
    dims: tuple[int, ...]
    attributes: dict[str, Any]
    dtype: np.dtype
    begin: int


class _Classic:
    """The header of a classic file: numbers of dimensions, attributes and variables."""

    def __init__(self, path: Path) -> None:
        self._path, self._size = path, path.stat().st_size
        with path.open("rb") as file:
            self._file: BinaryIO = file
            magic = file.read(4)
            if magic not in (b"CDF\x01", b"CDF\x02", b"CDF\x05"):
                raise InputError(
                    f"{path} is not a NetCDF file; expected one: choose another importer"
                )
            self._width = 8 if magic[3] == 5 else 4
            self._offset_width = 4 if magic[3] == 1 else 8
            records = self._number()
            self._dims = [(self._text(), self._number()) for _ in self._items(_DIMENSION)]
            self._attributes = self._read_attributes()
            self._variables = [self._read_variable() for _ in self._items(_VARIABLE)]
        # A record has a padded part of each variable along the unlimited dimension, unless it is
        # the only one.
        parts = [
            math.prod(self._dims[n][1] for n in found.dims[1:]) * found.dtype.itemsize
            for found in self._variables
            if self._is_record(found)
        ]
        self._stride = parts[0] if len(parts) == 1 else sum(-(-size // 4) * 4 for size in parts)
        if records == 2 ** (8 * self._width) - 1 and parts:  # not said
            begin = min(found.begin for found in self._variables if self._is_record(found))
            records = max(0, self._size - begin) // max(1, self._stride)
        self._records = records

    def file(self) -> _File:
        """Return what is in the file."""
        numbers = [found for found in self._variables if found.dtype.kind != "S"]
        others = [found.name for found in self._variables if found.dtype.kind == "S"]
        variables = {found.name: self._variable(found) for found in numbers}
        return _File(variables, others, self._attributes)

    def _is_record(self, found: _Header) -> bool:
        return bool(found.dims) and self._dims[found.dims[0]][1] == 0

    def _variable(self, found: _Header) -> Variable:
        shape = [self._dims[n][1] for n in found.dims]
        strides = [found.dtype.itemsize * math.prod(shape[i + 1 :]) for i in range(len(shape))]
        if self._is_record(found):
            shape[0], strides[0] = self._records, self._stride
        last = sum(s * (n - 1) for s, n in zip(strides, shape, strict=True))
        end = found.begin + last + found.dtype.itemsize
        if math.prod(shape) and end > self._size:
            raise self._damaged(
                f"ends at byte {self._size}, {found.name} of shape {tuple(shape)} at {end}"
            )

        def part(where: Box) -> np.ndarray:
            """Return a part of a variable; pages of the file are let go when that is done."""
            file = np.memmap(self._path, mode="r")
            values = np.ndarray(shape, found.dtype, file.data, found.begin, strides)
            return values[where].copy()

        dims = tuple(self._dims[n][0] for n in found.dims)
        return Variable(found.name, dims, tuple(shape), found.dtype, found.attributes, part)

    def _read_variable(self) -> _Header:
        name = self._text()
        dims = tuple(self._number() for _ in range(self._limited(self._number())))
        if any(number >= len(self._dims) for number in dims):
            raise self._damaged(f"has no such dimensions as those of {name}")
        attributes, dtype = self._read_attributes(), self._dtype()
        self._number()  # the size, which follows from the rest
        return _Header(name, dims, attributes, dtype, self._number(self._offset_width))

    def _read_attributes(self) -> dict[str, Any]:
        found = {}
        for _ in self._items(_ATTRIBUTE):
            name, dtype = self._text(), self._dtype()
            data = self._padded(self._limited(self._number()) * dtype.itemsize)
            text = dtype.kind == "S"
            found[name] = plain(data.rstrip(b"\0") if text else np.frombuffer(data, dtype))
        return found

    def _items(self, tag: int) -> Iterator[int]:
        given, count = self._number(4), self._number()
        if given != tag and (given or count):
            raise self._damaged(f"has a list of kind {given} where one of kind {tag} should be")
        yield from range(self._limited(count))

    def _dtype(self) -> np.dtype:
        number = self._number(4)
        if number not in _TYPES:
            raise self._damaged(f"has values of type {number}")
        return np.dtype(_TYPES[number])

    def _text(self) -> str:
        return self._padded(self._limited(self._number())).decode("utf-8", "replace")

    def _padded(self, length: int) -> bytes:
        if length > _MOST_BYTES:
            raise self._damaged(f"has {length} bytes of text in its header")
        return self._exactly(-(-length // 4) * 4)[:length]

    def _limited(self, count: int) -> int:
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
