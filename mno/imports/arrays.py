"""What the arrays of a file are: their axes have names, or are found out by their shapes.

Names of axes are those of the CF conventions, which also say how values are packed. Bare arrays,
with a name and a shape and no more, as in files of NumPy's and torch's, have one row for each
sample: names tell inputs from outputs, shapes tell the grid, and arrays with less than two axes are
coordinates, numbers of each sample, or parameters. What nothing tells, the mapping file must.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.imports.importer import (
    ORDER,
    SPACE,
    Importer,
    Layout,
    check_numbers,
    default_axis,
    leave_out,
)
from mno.imports.mapping import FieldRule
from mno.imports.mapping import Mapping as FieldMapping

Role = Literal["input", "output", "state", "coordinate"]
Shape = tuple[int, ...]

ROLES = ("input", "output", "state", "coordinate")
CF_AXES = {"T": "time", "X": "x", "Y": "y", "Z": "z"}
"""Axes by the attribute `axis` of their coordinates."""
MEANINGS = {
    "sample": ("sample", "samples", "realization", "realisation", "member", "trajectory"),
    "time": ("time", "t"),
    "x": ("x", "lon", "longitude"),
    "y": ("y", "lat", "latitude"),
    "z": ("z", "lev", "level", "height", "altitude"),
    "point": ("point", "points", "node", "nodes", "station"),
    "channel": ("channel", "channels", "component", "components", "variable"),
}
"""Names of axes, in lower case, by what they are."""

_BY_NAME = {name: meaning for meaning, names in MEANINGS.items() for name in names}
_ROLES_BY_NAME: dict[str, Role] = {
    **dict.fromkeys(
        ("x", "a", "coeff", "input", "inputs", "feature", "features", "permeability",
         "conductivity", "diffusivity", "viscosity", "nu", "forcing", "source"), "input",
    ),
    **dict.fromkeys(
        ("y", "u", "sol", "output", "outputs", "target", "targets", "label", "labels", "solution",
         "pressure"), "output",
    ),
}  # fmt: skip
_COORDINATES = {"x": "x", "y": "y", "z": "z", "t": "time", "time": "time"}  # of bare arrays
_RENAMED = {"x": "input", "y": "output"}
_RESERVED = {"split", "group", "start", "sample", "time", "point", "z"}
_OF_SAMPLES = ("split", "sample")  # our own exports say so, and an import decides anew
_SPECIAL = {"group": np.int64, "start": np.float64}
_MOST_CHANNELS = 16
_CLEARLY = 4  # how many times more places than channels tell one from the other


class Array(NamedTuple):
    """An array of a file, unread."""

    shape: Shape
    dtype: np.dtype
    dims: tuple[str, ...] | None = None  # names of its axes, if they have any
    attributes: Mapping[str, Any] = {}
    source: str = ""  # what the file calls it, if not by its name here


class _Piece(NamedTuple):
    """Where the values of a field are: an array, or one place of one of its axes.

    Axes are brought into `order` then, the sample's first.
    """

    array: str
    order: tuple[int, ...]
    channel_axis: int | None = None
    channel: int = 0

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Take the field from rows of the array, shape `(samples, *dims)`; float32."""
        if self.channel_axis is not None:
            rows = rows.take(self.channel, axis=self.channel_axis)
        with np.errstate(over="ignore"):  # what is too large becomes infinite, which is refused
            return np.ascontiguousarray(rows.transpose(self.order), dtype=np.float32)


def meaning_of(dim: str) -> str | None:
    """Return what an axis is by its name: `sample`, `channel`, one of time and space, or none."""
    return _BY_NAME.get(dim.lower())


def field_name(name: str) -> str:
    """Return a name that a dataset's field can have."""
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "field"
    if not plain[0].isalpha():
        plain = f"field_{plain}"
    return _RENAMED.get(plain) or (f"{plain}_value" if plain in _RESERVED else plain)


def rule_of(mapping: FieldMapping, name: str) -> FieldRule:
    """Return what the user says of an array, by its own name or by that of its field."""
    return mapping.fields.get(name) or mapping.fields.get(field_name(name)) or FieldRule()


def arrange(
    file: Importer,
    arrays: Mapping[str, Array],
    mapping: FieldMapping,
    whole: Callable[[str], np.ndarray],
    rows: Callable[[str, int, int], np.ndarray],
    *,
    parameters: Mapping[str, Any] | None = None,
    extent: Mapping[str, Any] | None = None,
    default: Role | None = None,
) -> Layout:
    """Find out what the arrays of a file are, and add them to it in their order.

    Args:
        file: What opens it.
        arrays: Its arrays by name; their axes have names, or none of them has.
        mapping: What the user says of them.
        whole: Reads an array that has no more than one axis.
        rows: Reads samples of an array, shape `(stop - start, *)`, as the file has them.
        parameters: What the file says of the whole of it.
        extent: Where the domain begins and ends, along axes of which the file says so.
        default: Role of arrays with named axes of which nothing tells it; refused if not given.

    Raises:
        InputError: The arrays are no dataset, or it cannot be told what one of them is.
    """
    rules = {name: rule_of(mapping, name) for name in arrays}
    kept = {name: array for name, array in arrays.items() if not rules[name].drop}
    named = any(array.dims is not None for array in kept.values() if array.shape)
    for name in _OF_SAMPLES if not named else ():
        if name in kept and len(kept[name].shape) == 1:
            del kept[name]
            file.remarks.append(f"{name} is left out: the import assigns samples anew")
    for name, array in kept.items():
        check_numbers(file.path, name, array.dtype)
    roles: dict[str, Role | None] = {name: rule.role for name, rule in rules.items()}
    found = (_Named if named else _Bare)(file, kept, roles, whole, extent or {}, default)
    return found.layout(rows, dict(parameters or {}))


class _Arrays:
    """Arrays and what becomes of them; a subclass tells what their axes are.

    Attributes:
        meanings: What the axes of each array are that holds values: `sample`, `channel`, `point`,
            or one of time and space.
    """

    def __init__(
        self,
        file: Importer,
        arrays: dict[str, Array],
        roles: Mapping[str, Role | None],
        whole: Callable[[str], np.ndarray],
        extent: Mapping[str, Any],
        default: Role | None,
    ) -> None:
        self.file, self.arrays, self.roles, self.whole = file, arrays, roles, whole
        self.extent = extent
        self.default: Role | None = default
        self.shapes = {name: array.shape for name, array in arrays.items()}
        self.samples = 1
        self.meanings = self.told()

    def told(self) -> dict[str, tuple[str, ...]]:
        raise NotImplementedError

    def axis(self, name: str, length: int) -> Axis:
        raise NotImplementedError

    def role(self, name: str, dims: tuple[str, ...]) -> Role | None:
        raise NotImplementedError

    def layout(
        self, rows: Callable[[str, int, int], np.ndarray], parameters: dict[str, Any]
    ) -> Layout:
        file, names = self.file, dict[str, str]()
        special, lengths = dict[str, np.ndarray](), dict[str, int]()
        once = lru_cache(maxsize=1)(rows)  # for all channels, which are read in turn

        def read(piece: _Piece, start: int, stop: int) -> np.ndarray:
            whole = once if piece.channel_axis is not None else rows
            return piece.of(whole(piece.array, start, stop))

        for name, found in self.meanings.items():
            if name in _SPECIAL and found == ("sample",):
                special[name] = self.whole(name).astype(_SPECIAL[name])
                continue
            if not found:
                parameters[name] = self.whole(name).reshape(-1)[0].item()
                continue
            source = self.arrays[name].source or name
            for field, piece in self._fields(name, found):
                other = names.setdefault(field.name, name)
                if other != name:
                    raise file.error(
                        f"{other} and {name} would both be called {field.name}; rename one of them "
                        "in the file"
                    )
                file.add(field, source, partial(read, piece))
            lengths |= zip(found, self.shapes[name], strict=True)
        used = {dim for field in file.fields.values() for dim in field.dims}
        axes = [self.axis(name, lengths[name]) for name in ORDER if name in used]
        return file.layout(
            self.samples, axes, parameters, special.get("group"), special.get("start")
        )

    def _fields(self, name: str, found: tuple[str, ...]) -> list[tuple[Field, _Piece]]:
        """Return the field or the fields that an array holds."""
        shape, said = self.shapes[name], self.arrays[name].attributes
        plain = [m for m in found if m not in ("sample", "channel")]
        dims = tuple(sorted(plain, key=ORDER.index))
        sizes = dict(zip(found, shape, strict=True))
        self.file.check_sample(name, [n for m, n in sizes.items() if m != "sample"], self.samples)
        role = self.roles[name] or self.role(name, dims)
        if role is None:
            raise self.file.error(
                f"it cannot be told whether {name}, of shape {shape}, is given or "
                f"predicted; say so in a mapping file, as in `fields: {{{name}: {{role: input}}}}` "
                "(or output, or state where there is an axis of time)"
            )
        kept = name if role == "coordinate" else field_name(name)
        units, gaps = str(said.get("units") or "1"), bool(said.get("gaps"))
        label = str(said.get("long_name") or kept.replace("_", " "))
        # Rows have the samples first, whatever the order in the file; then what is left of it.
        order = (0, *(1 + plain.index(dim) for dim in dims))
        if "channel" not in found:
            return [(Field(kept, units, label, role, dims, gaps), _Piece(name, order))]
        axis = 1 + [m for m in found if m != "sample"].index("channel")
        alone = sizes["channel"] == 1 and self.arrays[name].dims is None
        made = []
        for i in range(sizes["channel"]):
            end = "" if alone else f"_{i}"
            field = Field(kept + end, units, label + end.replace("_", " "), role, dims, gaps)
            made.append((field, _Piece(name, order, axis, i)))
        return made


class _Named(_Arrays):
    """Arrays whose axes have names."""

    def told(self) -> dict[str, tuple[str, ...]]:
        lengths: dict[str, int] = {}
        for name, array in self.arrays.items():
            if array.dims is None and array.shape:
                raise self.file.error(
                    f"the axes of {name} have no names, as those of other arrays "
                    "have; name them (dimension_names, or _ARRAY_DIMENSIONS in version 2)"
                )
            for dim, length in zip(array.dims or (), array.shape, strict=True):
                if lengths.setdefault(dim, length) != length:
                    raise self.file.error(
                        f"{name} has {length} places along {dim}, where others have "
                        f"{lengths[dim]}; expected as many, or {leave_out(name)}"
                    )
        bounds = {str(array.attributes.get("bounds")) for array in self.arrays.values()}
        values = {
            name: array.dims or ()
            for name, array in self.arrays.items()
            if name not in bounds
            and array.dims != (name,)
            and not (name == "split" and len(array.shape) == 1)
        }
        for name, dims in values.items():
            if len(set(dims)) < len(dims):
                raise self.file.error(
                    f"{name} has axes {dims}, two of which are the same; expected "
                    "different ones: rename one of them"
                )
        self._dims = self._by_meaning({dim for dims in values.values() for dim in dims})
        meanings = {dim: meaning for meaning, dim in self._dims.items()}
        self.samples = lengths[self._dims["sample"]] if "sample" in self._dims else 1
        self.file.check_sample("the file", (), self.samples)
        return {name: tuple(meanings[dim] for dim in dims) for name, dims in values.items()}

    def _by_meaning(self, dims: set[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for dim in sorted(dims):
            own = self.arrays.get(dim)
            meaning = meaning_of(dim) or CF_AXES.get(str(own and own.attributes.get("axis")))
            if meaning is None:
                raise self.file.error(
                    f"it cannot be told what the axis {dim} is; expected names like "
                    f"{', '.join(names[0] for names in MEANINGS.values())}: rename it"
                )
            if meaning in found:
                raise self.file.error(
                    f"the axes {', '.join(sorted(dims))} are two of the same kind; "
                    f"expected one each of {', '.join(MEANINGS)}: rename or cut them"
                )
            found[meaning] = dim
        return found

    def role(self, name: str, dims: tuple[str, ...]) -> Role | None:
        told = self.arrays[name].attributes.get("role")
        if told in ROLES:
            return told
        if name in SPACE and dims == ("point",):
            return "coordinate"
        if "time" in dims:
            return "state" if len(dims) > 1 else "input"
        return _role_by_name(name) or (self.default if dims else "input")

    def axis(self, name: str, length: int) -> Axis:
        dim = self._dims[name]
        own = self.arrays.get(dim)
        if own is None or len(own.shape) != 1:
            return default_axis(name, length)
        said = own.attributes
        units = str(said.get("units") or "1").split(" since ")[0]
        source = own.source or dim
        found = self.file.given_axis(name, source, self.whole(dim), length, units)
        extent = _said_extent(found, self.extent.get(name, said.get("extent")))
        return Axis(name, units, str(said.get("long_name") or name), found.points, extent)


class _Bare(_Arrays):
    """Arrays with a name and a shape and no more; samples are their first axis."""

    def told(self) -> dict[str, tuple[str, ...]]:
        self.samples = self._count()
        self.file.check_sample("the file", (), self.samples)
        large = {name: shape for name, shape in self.shapes.items() if len(shape) > 1}
        for name, shape in large.items():
            self.file.check_sample(name, shape[1:], self.samples)
        states = {name for name in large if self.roles[name] == "state"}
        frames = self._frames({name: large[name] for name in states})
        timed = {name for name in large if frames and self._is_over_time(name, large, states)}
        numbers = {name for name in timed if len(large[name]) == 2}
        grids = self._grids(
            {n: shape[1 + (n in timed) :] for n, shape in large.items() if n not in numbers}
        )
        places = [name for name in large if self.roles[name] == "coordinate"]
        space = next(iter(grids.values()))[1] if grids else ()
        if places and len(space) != 1:
            raise self.file.error(
                f"{places[0]} is to be a coordinate of points, but the fields have "
                f"shape {space} in each sample; expected one axis, the points"
            )
        names = ("point",) if places else SPACE[: len(space)]
        lengths = dict(zip(names, space, strict=True)) | ({"time": frames} if frames else {})
        self._axes: dict[str, Axis] = {}
        meanings: dict[str, tuple[str, ...]] = {}
        for name, shape in self.shapes.items():
            if len(shape) < 2:
                if self._is_small(name, shape, lengths):
                    meanings[name] = ("sample",) if shape == (self.samples,) else ()
                continue
            channels = grids[name][0] if name in grids else None
            meanings[name] = (
                "sample", *(("time",) if name in timed else ()),
                *(() if channels is None else ("channel",)), *(names if name in grids else ()),
            )  # fmt: skip
            if channels not in (None, 1):
                self.file.remarks.append(
                    f"{name}, of shape {shape}, is read as {channels} fields on one grid; if that "
                    "axis is one of space, put an axis of length 1 before it; if it is time, say "
                    "role: state in a mapping file"
                )
        return meanings

    def role(self, name: str, dims: tuple[str, ...]) -> Role | None:
        return _role_by_name(name) or (None if dims else "input")

    def axis(self, name: str, length: int) -> Axis:
        return self._axes.get(name) or default_axis(name, length)

    def _count(self) -> int:
        """Return the number of samples: the length of the first axis of all arrays."""
        most = max(map(len, self.shapes.values()), default=0)
        if most == 0:
            raise InputError(
                f"{self.file.path} has no array with an axis of samples; expected arrays of shape "
                "(samples, x, y), one row for each sample"
            )
        counts = {n: shape[0] for n, shape in self.shapes.items() if len(shape) >= min(most, 2)}
        if len(set(counts.values())) > 1:
            raise self.file.error(
                f"arrays differ in their number of samples, the first axis: "
                f"{self._listed(counts)}; expected one number, or {leave_out(next(iter(counts)))}"
            )
        return next(iter(counts.values()))

    def _frames(self, states: Mapping[str, Shape]) -> int | None:
        """Return the number of frames of the states."""
        for name, shape in states.items():
            if len(shape) < 3:
                raise self.file.error(
                    f"{name} is to be a state, but has shape {shape}; expected "
                    "(samples, time, x) or with further axes of space"
                )
        found = {shape[1] for shape in states.values()}
        if len(found) > 1:
            raise self.file.error(
                f"states differ in their number of frames, the second axis: "
                f"{self._listed(sorted(states))}; expected one number"
            )
        return found.pop() if found else None

    def _is_over_time(self, name: str, large: Mapping[str, Shape], states: set[str]) -> bool:
        """Whether an array is a state, or has the states' axis of time."""
        shape, state = large[name], large[next(iter(states))]
        if name in states or shape == state:
            return True
        return len(shape) == 2 and shape[1] == state[1] and shape[1:] != state[2:]

    def _grids(self, rests: Mapping[str, Shape]) -> dict[str, tuple[int | None, Shape]]:
        """Return channels (if they have an axis) and space, so that all shapes have one grid."""
        candidates = {name: _likely(rest) for name, rest in rests.items()}
        for _, space in next(iter(candidates.values()), []):
            fitting = {
                name: next((grid for grid in grids if grid[1] == space), None)
                for name, grids in candidates.items()
            }
            if all(fitting.values()):
                return {name: grid for name, grid in fitting.items() if grid}
        if not rests:
            return {}
        raise self.file.error(
            f"arrays have no grid in common: {self._listed(rests)}; expected (samples, x, y) or "
            f"(samples, channels, x, y) with one grid, or {leave_out(next(iter(rests)))}"
        )

    def _listed(self, names: Iterable[str]) -> str:
        return ", ".join(f"{name} {self.shapes[name]}" for name in names)

    def _is_small(self, name: str, shape: Shape, lengths: Mapping[str, int]) -> bool:
        """Whether an array with less than two axes has a number of each sample, or a parameter.

        If not, it is a coordinate.
        """
        axis = _COORDINATES.get(name.lower().removesuffix("-coordinate"))
        size = shape[0] if shape else 1
        is_axis = axis is not None and size == lengths.get(axis)
        role = self.roles[name]
        if is_axis and size == self.samples and role is None:
            raise self.file.error(
                f"{name} has {size} values, as many as there are samples and places "
                f"along {axis}; say which in a mapping file, as in "
                f"`fields: {{{name}: {{role: coordinate}}}}` or `{{role: input}}`"
            )
        if axis is not None and is_axis and role in (None, "coordinate"):
            self._axes[axis] = self.file.given_axis(axis, name, self.whole(name), size)
            return False
        if role == "coordinate":
            raise self.file.error(
                f"{name} is to be a coordinate, but has {size} values; the grid is "
                f"{dict(lengths)}: expected one of x, y, z, time, as long as that"
            )
        if shape != (self.samples,) and size != 1:
            raise self.file.error(
                f"{name} has {size} values, which fits neither the {self.samples} "
                f"samples nor an axis of the grid {dict(lengths)}; {leave_out(name)}"
            )
        return True


def _role_by_name(name: str) -> Role | None:
    return _ROLES_BY_NAME.get(re.sub(r"_(train|test|valid|val)$", "", name.lower()))


def _likely(rest: Shape) -> list[tuple[int | None, Shape]]:
    """Return how the axes behind samples and frames can be understood, the likeliest first."""
    found: list[tuple[int | None, Shape]] = []
    if 2 <= len(rest) <= 4:
        channels, *space = rest
        if channels == 1 or channels <= _MOST_CHANNELS and _CLEARLY * channels <= min(space):
            found.append((channels, tuple(space)))
    if 1 <= len(rest) <= 3:
        found.append((None, rest))
    return found


def _said_extent(axis: Axis, given: Any) -> tuple[float, float]:
    """Return where the domain ends: as the file says, or else half a cell beyond the points."""
    try:
        low, high = (float(value) for value in given)
    except (TypeError, ValueError):
        return axis.extent
    inside = low <= axis.points.min() and axis.points.max() <= high
    return (low, high) if inside and math.isfinite(high - low) else axis.extent


class Packing(NamedTuple):
    """How values are packed by the CF conventions: scaled, shifted, some of them missing."""

    factor: float = 1.0
    offset: float = 0.0
    missing: tuple[float, ...] = ()  # packed values that stand for a missing one, NaN left out
    is_marked: bool = False  # whether there is such a value at all, NaN included

    @classmethod
    def of(cls, attributes: Mapping[str, Any], dtype: np.dtype, fill: Any = None) -> Packing:
        """Read it from an array's attributes; `fill` is a further value for a missing one."""
        given = [fill]
        for name in ("_FillValue", "missing_value"):
            value = attributes.get(name)
            given += value if isinstance(value, list) else [value]
        numbers = [number for number in map(_number, given) if number is not None]
        marks = {number for number in numbers if _fits(number, dtype)}
        factor, offset = (_number(attributes.get(n)) for n in ("scale_factor", "add_offset"))
        missing = tuple(sorted(mark for mark in marks if not math.isnan(mark)))
        return cls(factor or 1.0, offset or 0.0, missing, bool(marks))

    def unpack(self, values: np.ndarray) -> np.ndarray:
        """Return the values, missing ones as NaN."""
        if self[:3] == (1.0, 0.0, ()):
            return values
        with np.errstate(over="ignore", invalid="ignore"):
            unpacked = np.array(values, dtype=np.float64)
            if self.factor != 1.0:
                unpacked *= self.factor
            if self.offset != 0.0:
                unpacked += self.offset
        for missing in self.missing:
            unpacked[values == np.asarray(missing).astype(values.dtype)] = np.nan
        return unpacked


def _number(value: Any) -> float | None:
    """Return a number that an attribute holds, perhaps as text."""
    if isinstance(value, str):
        try:
            if value in ("nan", "inf", "-inf"):
                return float(value)
            # As xarray writes fill values into Zarr.
            return struct.unpack("<d", base64.standard_b64decode(value))[0]
        except (binascii.Error, struct.error, ValueError):
            return None
    return float(value) if type(value) in (int, float) else None


def _fits(mark: float, dtype: np.dtype) -> bool:
    """Whether a mark can be one of the stored values."""
    if dtype.kind == "f":
        return True
    if dtype.kind not in "iu" or not math.isfinite(mark):
        return False
    limits = np.iinfo(dtype)
    return limits.min <= mark <= limits.max
