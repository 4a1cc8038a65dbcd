"""What the arrays of a file are: their axes have names, or are found out by their shapes.

Names of axes are those of the CF conventions. Bare arrays, with a name and a shape and no more, as
in files of NumPy's and torch's, have one row for each sample: names tell inputs from outputs,
shapes tell the grid, and arrays with less than two axes are coordinates, numbers of each sample, or
parameters. What nothing tells, the mapping file must.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from mno.core.fields import TAKEN, Axis, Field
from mno.imports import importer
from mno.imports.mapping import FieldRule
from mno.imports.mapping import Mapping as FieldMapping
from mno.imports.stored import FileArray

Role = Literal["input", "output", "state", "coordinate", "times"]
Shape = tuple[int, ...]
Dims = tuple[str, ...]

ROLES = ("input", "output", "state", "coordinate", "times")
CF_AXES = {"T": "time", "X": "x", "Y": "y", "Z": "z"}  # by `axis` of their coordinates
MEANINGS = {
    "sample": "sample samples realization realisation member ensemble trajectory",
    "time": "time t",
    "x": "x lon longitude",
    "y": "y lat latitude",
    "z": "z lev level height altitude",
    "point": "point points node nodes station",
    "channel": "channel channels component components variable",
}
"""Names of axes, in lower case, by what they are."""

_BY_NAME = {name: meaning for meaning, names in MEANINGS.items() for name in names.split()}
_INPUTS = (
    "x a coeff input inputs feature features permeability conductivity diffusivity viscosity nu "
    "forcing source"
)
_OUTPUTS = "y u sol output outputs target targets label labels solution pressure"
_ROLES_BY_NAME: dict[str, Role] = {
    **dict.fromkeys(_INPUTS.split(), "input"), **dict.fromkeys(_OUTPUTS.split(), "output")
}  # fmt: skip
_COORDINATES = {"x": "x", "y": "y", "z": "z", "t": "time", "time": "time"}  # of bare arrays
_RENAMED = {"x": "input", "y": "output"}
_OF_SAMPLES = ("split", "sample")  # our own exports say so, and an import decides anew
_SPECIAL = {"group": np.int64, "start": np.float64}
_MOST_CHANNELS = 16
_CLEARLY = 4  # how many times more places than channels tell one from the other


class Array(NamedTuple):
    """An array of a file; where it has an axis of samples, `stored` has that first."""

    stored: FileArray
    dims: Dims | None = None  # names of the axes as the file has them, if any
    attributes: Mapping[str, Any] = {}
    source: str = ""  # what the file calls it, if not by its name here


def meaning_of(dim: str) -> str | None:
    """Return what the axis of some name is; none if that is not known."""
    return _BY_NAME.get(dim.lower())


def field_name(name: str) -> str:
    """Return a name that a dataset's field can have."""
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "field"
    plain = plain if plain[0].isalpha() else f"field_{plain}"
    return _RENAMED.get(plain) or (f"{plain}_value" if plain in (*TAKEN, "z") else plain)


def rule_of(mapping: FieldMapping, name: str) -> FieldRule:
    """Return what the user says of an array, by its own name or by that of its field."""
    return mapping.fields.get(name) or mapping.fields.get(field_name(name)) or FieldRule()


def arrange(
    file: importer.Importer, arrays: Mapping[str, Array], mapping: FieldMapping, *,
    parameters: Mapping[str, Any] | None = None, extent: Mapping[str, Any] | None = None,
    default: Role | None = None,
) -> importer.Layout:  # fmt: skip
    """Find out what the arrays of a file are, and add them to it in their order.

    Their axes have names, or none of them has. The file may say `parameters` of the whole of it,
    and where the domain begins and ends (`extent`), by axis. Arrays with named axes of which
    nothing tells the role have the `default`, and further axes are kept as they are; without it
    such arrays are refused. So is what is no dataset.
    """
    rules = {name: rule_of(mapping, name) for name in arrays}
    kept = {name: array for name, array in arrays.items() if not rules[name].drop}
    named = any(array.dims is not None for array in kept.values() if array.stored.shape)
    for name in _OF_SAMPLES if not named else ():
        if name in kept and len(kept[name].stored.shape) == 1:
            del kept[name]
            file.remarks.append(f"{name} is left out: the import assigns samples anew")
    for name, array in kept.items():
        importer.check_numbers(file.path, name, array.stored.dtype)
    roles: dict[str, Role | None] = {name: rule.role for name, rule in rules.items()}
    told = (_Named if named else _Bare)(file, kept, roles, extent or {}, default)
    parameters, names, lengths = dict(parameters or {}), dict[str, str](), dict[str, int]()
    special: dict[str, np.ndarray] = {}
    for name, meanings in told.find().items():
        array = kept[name]
        if name in _SPECIAL and meanings == ("sample",):
            special[name] = array.stored.whole().astype(_SPECIAL[name])
            continue
        if not meanings:
            parameters[name] = importer.plain(array.stored.whole().reshape(-1)[0])
            continue
        for found, channel in _fields(told, name, meanings):
            if (other := names.setdefault(found.name, name)) != name:
                raise file.error(
                    f"{other} and {name} would both be called {found.name}; rename one of them in "
                    "the file"
                )
            reader = partial(_read, array.stored, meanings, found.dims, channel)
            file.add(found, array.source or name, reader)
        lengths |= zip(meanings, told.lengths(name), strict=True)
    used = {dim for found in file.fields.values() for dim in found.dims}
    axes = [told.axis(name, lengths[name]) for name in sorted(used, key=importer.place)]
    return file.layout(told.samples, axes, parameters, special.get("group"), special.get("start"))


def _fields(
    told: "_Named | _Bare", name: str, meanings: Dims
) -> Iterable[tuple[Field, int | None]]:
    """Return the field that an array holds, or those of its channels with their numbers."""
    said, sizes = told.arrays[name].attributes, dict(zip(meanings, told.lengths(name), strict=True))
    plain = (meaning for meaning in meanings if meaning not in ("sample", "channel"))
    dims = tuple(sorted(plain, key=importer.place))
    told.file.check_sample(name, [n for m, n in sizes.items() if m != "sample"], told.samples)
    if (role := told.roles[name] or told.role(name, dims)) is None:
        raise told.file.error(
            f"it cannot be told whether {name}, of shape {told.lengths(name)}, is given or "
            f"predicted; say so in a mapping file, as in `fields: {{{name}: {{role: input}}}}` "
            "(or output, or state where there is an axis of time)"
        )
    kept = name if role == "coordinate" else field_name(name)
    units, gaps = str(said.get("units") or "1"), bool(said.get("gaps"))
    label = str(said.get("long_name") or kept.replace("_", " "))
    channels = sizes.get("channel")
    alone = channels == 1 and told.arrays[name].dims is None
    for channel in [None] if channels is None else range(channels):
        end = "" if channel is None or alone else f"_{channel}"
        label_ = label + end.replace("_", " ")
        yield Field(kept + end, units, label_, role, dims, gaps, importer.scale_said(said)), channel


def _read(
    stored: FileArray, meanings: Dims, dims: Dims, channel: int | None, start: int, stop: int
) -> np.ndarray:
    """Read some samples of a field; without an axis of samples, all have the same values."""
    rows = stored.read(start, stop) if "sample" in meanings else stored.whole()[None]
    found = [meaning for meaning in meanings if meaning != "sample"]
    if channel is not None:
        rows = rows.take(channel, axis=1 + found.index("channel"))
        found.remove("channel")
    rows = rows.transpose(0, *(1 + found.index(dim) for dim in dims))
    return np.broadcast_to(rows, (stop - start, *rows.shape[1:]))


@dataclass
class _Arrays:
    """Arrays that are kept, and what is said of them; a subclass tells what their axes are.

    Its `find` returns what the axes of each array are that holds values, and finds `samples`: they
    are `sample`, `channel`, `point`, or one of time and space. `role` is that of a field of which
    the mapping says nothing.
    """

    file: importer.Importer
    arrays: dict[str, Array]
    roles: Mapping[str, Role | None]  # that the mapping gives
    extent: Mapping[str, Any]
    default: Role | None
    samples: int = 1
    axes: dict[str, Axis] = field(default_factory=dict)  # that bare arrays give

    def lengths(self, name: str) -> Shape:
        return self.arrays[name].stored.lengths


class _Named(_Arrays):
    """Arrays whose axes have names."""

    def find(self) -> dict[str, Dims]:
        lengths: dict[str, int] = {}
        for name, array in self.arrays.items():
            if array.dims is None and array.stored.shape:
                raise self.file.error(
                    f"the axes of {name} have no names, as those of other arrays have; name them "
                    "(dimension_names, or _ARRAY_DIMENSIONS in version 2)"
                )
            for dim, length in zip(array.dims or (), self.lengths(name), strict=True):
                if lengths.setdefault(dim, length) != length:
                    raise self.file.error(
                        f"{name} has {length} places along {dim}, where others have "
                        f"{lengths[dim]}; expected as many, or {importer.leave_out(name)}"
                    )
        bounds = {str(array.attributes.get("bounds")) for array in self.arrays.values()}
        values = {
            name: array.dims or ()
            for name, array in self.arrays.items()
            if name not in bounds
            and array.dims != (name,)
            and not (name == "split" and len(array.stored.shape) == 1)
        }
        self._dims: dict[str, str] = {}
        for dim in sorted({dim for dims in values.values() for dim in dims}):
            own = self.arrays.get(dim)
            meaning = meaning_of(dim) or CF_AXES.get(str(own and own.attributes.get("axis")))
            meaning = meaning or (dim if self.default else None)
            if meaning is None:
                raise self.file.error(
                    f"it cannot be told what the axis {dim} is; expected names like "
                    f"{', '.join(MEANINGS)}: rename it"
                )
            if meaning in self._dims:
                raise self.file.error(
                    f"the axes {self._dims[meaning]} and {dim} are two of the same kind; expected "
                    f"one each of {', '.join(MEANINGS)}: rename or cut them"
                )
            self._dims[meaning] = dim
        meanings = {dim: meaning for meaning, dim in self._dims.items()}
        for name, dims in values.items():
            if len(set(dims)) < len(dims):
                raise self.file.error(
                    f"{name} has axes {dims}, two of which are the same; expected different ones: "
                    "rename one of them"
                )
        self.samples = lengths[self._dims["sample"]] if "sample" in self._dims else 1
        self.file.check_sample("the file", (), self.samples)
        return {name: tuple(meanings[dim] for dim in dims) for name, dims in values.items()}

    def role(self, name: str, dims: Dims) -> Role | None:
        if (told := self.arrays[name].attributes.get("role")) in ROLES:
            return told
        if name in importer.SPACE and dims == ("point",):
            return "coordinate"
        if "time" in dims:
            return "state" if len(dims) > 1 else "input"
        return _role_by_name(name) or (self.default if dims else "input")

    def axis(self, name: str, length: int) -> Axis:
        dim = self._dims[name]
        own = self.arrays.get(dim)
        if own is None or len(own.stored.shape) != 1:
            return importer.default_axis(name, length)
        said = own.attributes
        units = str(said.get("units") or "1").split(" since ")[0]
        found = self.file.given_axis(name, own.source or dim, own.stored.whole(), length, units)
        extent = _said_extent(found, self.extent.get(name, said.get("extent")))
        return Axis(name, units, str(said.get("long_name") or name), found.points, extent)


class _Bare(_Arrays):
    """Arrays with a name and a shape and no more; samples are their first axis."""

    def find(self) -> dict[str, Dims]:
        shapes = {name: array.stored.shape for name, array in self.arrays.items()}
        large = {name: shape for name, shape in shapes.items() if len(shape) > 1}
        self.samples = self._count(shapes)
        self.file.check_sample("the file", (), self.samples)
        for name, shape in large.items():
            self.file.check_sample(name, shape[1:], self.samples)
        frames, timed = self._frames(large)
        # Arrays over time alone have no grid.
        rests = {n: s[1 + (n in timed) :] for n, s in large.items() if len(s) > 1 + (n in timed)}
        grids = self._grids(rests)
        space = next(iter(grids.values()))[1] if grids else ()
        places = [name for name in large if self.roles[name] == "coordinate"]
        if places and len(space) != 1:
            raise self.file.error(
                f"{places[0]} is to be a coordinate of points, but the fields have shape {space} "
                "in each sample; expected one axis, the points"
            )
        names = ("point",) if places else importer.SPACE[: len(space)]
        lengths = dict(zip(names, space, strict=True)) | ({"time": frames} if frames else {})
        meanings: dict[str, Dims] = {}
        for name, shape in shapes.items():
            if len(shape) < 2:
                if self._is_small(name, shape, lengths):
                    meanings[name] = ("sample",) if shape == (self.samples,) else ()
                continue
            over_time = ("time",) if name in timed else ()
            channels, behind = None, ()
            if name in grids:
                channels = grids[name][0]
                behind = names if channels is None else ("channel", *names)
            meanings[name] = ("sample", *over_time, *behind)
            if channels not in (None, 1):
                self.file.remarks.append(
                    f"{name}, of shape {shape}, is read as {channels} fields on one grid; if that "
                    "axis is one of space, put an axis of length 1 before it; if it is time, say "
                    "role: state in a mapping file"
                )
        return meanings

    def role(self, name: str, dims: Dims) -> Role | None:
        return _role_by_name(name) or (None if dims else "input")

    def axis(self, name: str, length: int) -> Axis:
        return self.axes.get(name) or importer.default_axis(name, length)

    def _count(self, shapes: Mapping[str, Shape]) -> int:
        """Return the number of samples: the length of the first axis of all arrays."""
        if (most := max(map(len, shapes.values()), default=0)) == 0:
            raise self.file.error(
                "it has no array with an axis of samples; expected arrays of shape (samples, x, "
                "y), one row for each sample"
            )
        counts = {n: shape for n, shape in shapes.items() if len(shape) >= min(most, 2)}
        if len({shape[0] for shape in counts.values()}) > 1:
            raise self.file.error(
                f"arrays differ in their number of samples, the first axis: {_listed(counts)}; "
                f"expected one number, or {importer.leave_out(next(iter(counts)))}"
            )
        return next(iter(counts.values()))[0]

    def _frames(self, large: Mapping[str, Shape]) -> tuple[int | None, set[str]]:
        """Return the number of frames of the states, and which arrays have an axis for them."""
        states = {name: shape for name, shape in large.items() if self.roles[name] == "state"}
        for name, shape in states.items():
            if len(shape) < 3:
                raise self.file.error(
                    f"{name} is to be a state, but has shape {shape}; expected (samples, time, x) "
                    "or with further axes of space"
                )
        if len({shape[1] for shape in states.values()}) > 1:
            raise self.file.error(
                "states differ in their number of frames, the second axis: "
                f"{_listed(dict(sorted(states.items())))}; expected one number"
            )
        if not states:
            return None, set()
        state = next(iter(states.values()))
        frames, space = state[1:2], state[2:]
        alike = {n for n, s in large.items() if s == state or s[1:] == frames and frames != space}
        return state[1], {*states, *alike}

    def _grids(self, rests: Mapping[str, Shape]) -> dict[str, tuple[int | None, Shape]]:
        """Return channels (if they have an axis) and space, so that all shapes have one grid."""
        candidates = {name: _likely(rest) for name, rest in rests.items()}
        for space in next(iter(candidates.values()), {}):
            if all(space in grids for grids in candidates.values()):
                return {name: (grids[space], space) for name, grids in candidates.items()}
        if not rests:
            return {}
        shapes = {name: self.lengths(name) for name in rests}
        raise self.file.error(
            f"arrays have no grid in common: {_listed(shapes)}; expected (samples, x, y) or "
            f"(samples, channels, x, y) with one grid, or {importer.leave_out(next(iter(rests)))}"
        )

    def _is_small(self, name: str, shape: Shape, lengths: Mapping[str, int]) -> bool:
        """Whether a small array has a number of each sample or a parameter; else a coordinate."""
        axis = _COORDINATES.get(name.lower().removesuffix("-coordinate"))
        size = shape[0] if shape else 1
        is_axis = axis is not None and size == lengths.get(axis)
        role = self.roles[name]
        if is_axis and size == self.samples and role is None:
            raise self.file.error(
                f"{name} has {size} values, as many as there are samples and places along {axis}; "
                f"say which in a mapping file, as in `fields: {{{name}: {{role: coordinate}}}}` or "
                "`{role: input}`"
            )
        if axis is not None and is_axis and role in (None, "coordinate"):
            points = self.arrays[name].stored.whole()
            self.axes[axis] = self.file.given_axis(axis, name, points, size)
            return False
        if role == "coordinate":
            raise self.file.error(
                f"{name} is to be a coordinate, but has {size} values; the grid is "
                f"{dict(lengths)}: expected one of x, y, z, time, as long as that"
            )
        if shape != (self.samples,) and size != 1:
            raise self.file.error(
                f"{name} has {size} values, which fits neither the {self.samples} samples nor an "
                f"axis of the grid {dict(lengths)}; {importer.leave_out(name)}"
            )
        return True


def _listed(shapes: Mapping[str, Shape]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


def _role_by_name(name: str) -> Role | None:
    return _ROLES_BY_NAME.get(re.sub(r"_(train|test|valid|val)$", "", name.lower()))


def _likely(rest: Shape) -> dict[Shape, int | None]:
    """Return the channels that axes may have, by the grid that is left, the likeliest first."""
    found: dict[Shape, int | None] = {}
    if 2 <= len(rest) <= 4:
        channels, *space = rest
        if channels == 1 or channels <= _MOST_CHANNELS and _CLEARLY * channels <= min(space):
            found[tuple(space)] = channels
    if 1 <= len(rest) <= 3:
        found[rest] = None
    return found


def _said_extent(axis: Axis, given: Any) -> tuple[float, float]:
    """Return where the domain ends: as the file says, or else half a cell beyond the points."""
    try:
        low, high = (float(value) for value in given)
    except (TypeError, ValueError):
        return axis.extent
    inside = low <= axis.points.min() and axis.points.max() <= high
    return (low, high) if inside and math.isfinite(high - low) else axis.extent
