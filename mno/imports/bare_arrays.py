"""What bare arrays are, with a name and a shape and no more, as in files of NumPy's and torch's.

Every array has one row for each sample. Names tell inputs from outputs, shapes tell the grid; what
neither tells, the mapping file must. Arrays with less than two axes are coordinates, numbers of
each sample, or parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
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
from mno.imports.mapping import FieldRule
from mno.imports.mapping import Mapping as FieldMapping

Role = Literal["input", "output", "state", "coordinate"]
Shapes = Mapping[str, tuple[int, ...]]

INPUTS = {
    "x", "a", "coeff", "input", "inputs", "feature", "features", "permeability", "conductivity",
    "diffusivity", "viscosity", "nu", "forcing", "source",
}  # fmt: skip
OUTPUTS = {
    "y", "u", "sol", "output", "outputs", "target", "targets", "label", "labels", "solution",
    "pressure",
}  # fmt: skip
_AXES = {"x": "x", "y": "y", "z": "z", "t": "time", "time": "time"}
_RENAMED = {"x": "input", "y": "output"}
_RESERVED = {"split", "group", "start", "sample", "time", "point", "z"}
# What our own exports say of samples, and an import decides anew.
_OF_SAMPLES = ("split", "sample")
_MOST_CHANNELS = 16
_CLEARLY = 4  # how many times more places than channels tell one from the other


class Found(NamedTuple):
    """An array of a file."""

    shape: tuple[int, ...]
    dtype: np.dtype


class _Grid(NamedTuple):
    """One way to understand the axes behind samples and frames.

    Attributes:
        channels: Number of channels, on the axis before those of space; none without that axis.
        space: Lengths of the axes of space.
    """

    channels: int | None
    space: tuple[int, ...]


def role_by_name(name: str) -> Role | None:
    """Return what an array is by its name, if that tells."""
    plain = re.sub(r"_(train|test|valid|val)$", "", name.lower())
    return "input" if plain in INPUTS else "output" if plain in OUTPUTS else None


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
    path: Path,
    arrays: Mapping[str, Found],
    mapping: FieldMapping,
    whole: Callable[[str], np.ndarray],
) -> tuple[Contents, dict[str, Piece]]:
    """Find out what the arrays of a file are.

    Args:
        path: The file.
        arrays: Its arrays by name, in order.
        mapping: What the user says of them.
        whole: Reads an array that has no more than one axis.

    Returns:
        Them as a dataset would have them, and where each field's values are.

    Raises:
        InputError: The arrays are no dataset, or it cannot be told what one of them is.
    """
    return _Arrangement(path, arrays, mapping, whole).result()


class _Arrangement:
    def __init__(
        self,
        path: Path,
        arrays: Mapping[str, Found],
        mapping: FieldMapping,
        whole: Callable[[str], np.ndarray],
    ) -> None:
        self.path, self.whole = path, whole
        self.rules = {name: rule_of(mapping, name) for name in arrays}
        self.remarks: list[str] = []
        kept = {name: array for name, array in arrays.items() if not self.rules[name].drop}
        for name in _OF_SAMPLES:
            if name in kept and len(kept[name].shape) == 1:
                del kept[name]
                self.remarks.append(f"{name} is left out: the import assigns samples anew")
        for name, array in kept.items():
            check_numbers(path, name, array.dtype)
        self.shapes = {name: tuple(array.shape) for name, array in kept.items()}
        self.fields: list[Field] = []
        self.pieces: dict[str, Piece] = {}
        self.sources: dict[str, str] = {}
        self.axes: dict[str, Axis] = {}
        self.numbers: list[str] = []
        self.known: dict[str, Any] = {"parameters": {}}

    def result(self) -> tuple[Contents, dict[str, Piece]]:
        self.samples = self._count()
        check_sample(self.path, "the file", (), self.samples)
        large = {name: shape for name, shape in self.shapes.items() if len(shape) > 1}
        for name, shape in large.items():
            check_sample(self.path, name, shape[1:], self.samples)
        states = {name for name in large if self.rules[name].role == "state"}
        frames = self._frames(large, states)
        forced = {name for name in large if frames and self._is_forcing(name, large, states)}
        grids = self._grids(
            {
                name: shape[2:] if name in states | forced else shape[1:]
                for name, shape in large.items()
                if not (name in forced and len(shape) == 2)
            }
        )
        places = [name for name in large if self.rules[name].role == "coordinate"]
        space = next(iter(grids.values())).space if grids else ()
        if places and len(space) != 1:
            raise InputError(
                f"{self.path}: {places[0]} is to be a coordinate of points, but the fields have "
                f"shape {space} in each sample; expected one axis, the points"
            )
        names = ("point",) if places else SPACE[: len(space)]
        lengths = dict(zip(names, space, strict=True)) | ({"time": frames} if frames else {})
        for name, shape in self.shapes.items():
            if len(shape) < 2:
                self._tell(name, shape, lengths)
        for name in self.numbers:
            self._add(name, (), None, "input")
        for name in large:
            over = ("time",) if name in states | forced else ()
            self._add(name, (*over, *(names if name in grids else ())), grids.get(name))
        order = list(self.shapes)
        ordered = sorted(lengths.items(), key=lambda item: ORDER.index(item[0]))
        axes = tuple(self.axes.get(name) or default_axis(name, n) for name, n in ordered)
        contents = Contents(
            samples=self.samples,
            axes=axes,
            fields=tuple(sorted(self.fields, key=lambda f: order.index(self.sources[f.name]))),
            sources=self.sources,
            remarks=(*self.remarks, *uneven(axes)),
            **self.known,
        )
        return contents, self.pieces

    def _count(self) -> int:
        """Return the number of samples: the length of the first axis of all arrays."""
        most = max(map(len, self.shapes.values()), default=0)
        if most == 0:
            raise InputError(
                f"{self.path} has no array with an axis of samples; expected arrays of shape "
                "(samples, x, y), one row for each sample"
            )
        counts = {n: shape[0] for n, shape in self.shapes.items() if len(shape) >= min(most, 2)}
        if len(set(counts.values())) > 1:
            raise InputError(
                f"{self.path}: arrays differ in their number of samples, the first axis: "
                f"{self._listed(counts)}; expected one number, or {leave_out(next(iter(counts)))}"
            )
        return next(iter(counts.values()))

    def _frames(self, large: Shapes, states: set[str]) -> int | None:
        """Return the number of frames of the states."""
        for name in states:
            if len(large[name]) < 3:
                raise InputError(
                    f"{self.path}: {name} is to be a state, but has shape {large[name]}; expected "
                    "(samples, time, x) or with further axes of space"
                )
        found = {large[name][1] for name in states}
        if len(found) > 1:
            raise InputError(
                f"{self.path}: states differ in their number of frames, the second axis: "
                f"{self._listed(sorted(states))}; expected one number"
            )
        return found.pop() if found else None

    def _is_forcing(self, name: str, large: Shapes, states: set[str]) -> bool:
        """Whether an array that is no state has the states' axis of time."""
        shape, state = large[name], large[next(iter(states))]
        if name in states or shape[1] != state[1]:
            return False
        return shape == state or len(shape) == 2 and shape[1:] != state[2:]

    def _grids(self, rests: Shapes) -> dict[str, _Grid]:
        """Return how all shapes can be understood so that they have one grid."""
        candidates = {name: _likely(rest) for name, rest in rests.items()}
        for first in next(iter(candidates.values()), []):
            fitting = {
                name: next((grid for grid in grids if grid.space == first.space), None)
                for name, grids in candidates.items()
            }
            if all(fitting.values()):
                return {name: grid for name, grid in fitting.items() if grid}
        if not rests:
            return {}
        raise InputError(
            f"{self.path}: arrays have no grid in common: {self._listed(rests)}; expected "
            "(samples, x, y) or (samples, channels, x, y) with one grid, or "
            f"{leave_out(next(iter(rests)))}"
        )

    def _listed(self, names: Any) -> str:
        return ", ".join(f"{name} {self.shapes[name]}" for name in names)

    def _tell(self, name: str, shape: tuple[int, ...], lengths: Mapping[str, int]) -> None:
        """Tell what an array with less than two axes is."""
        axis = _AXES.get(name.lower().removesuffix("-coordinate"))
        size = shape[0] if shape else 1
        is_axis = axis is not None and size == lengths.get(axis)
        role = self.rules[name].role
        if is_axis and size == self.samples and role is None:
            raise InputError(
                f"{self.path}: {name} has {size} values, as many as there are samples and places "
                f"along {axis}; say which in a mapping file, as in "
                f"`fields: {{{name}: {{role: coordinate}}}}` or `{{role: input}}`"
            )
        if axis is not None and is_axis and role in (None, "coordinate"):
            self.axes[axis] = given_axis(self.path, axis, name, self.whole(name), size)
        elif role == "coordinate":
            raise InputError(
                f"{self.path}: {name} is to be a coordinate, but has {size} values; the grid is "
                f"{dict(lengths)}: expected one of x, y, z, time, as long as that"
            )
        elif shape != (self.samples,) and size != 1:
            raise InputError(
                f"{self.path}: {name} has {size} values, which fits neither the {self.samples} "
                f"samples nor an axis of the grid {dict(lengths)}; {leave_out(name)}"
            )
        elif shape != (self.samples,):
            self.known["parameters"][name] = self.whole(name).reshape(-1)[0].item()
        elif name == "group":
            self.known["groups"] = self.whole(name).astype(np.int64)
        elif name == "start":
            self.known["starts"] = self.whole(name).astype(np.float64)
        else:
            self.numbers.append(name)

    def _add(
        self, name: str, dims: tuple[str, ...], grid: _Grid | None, default: Role | None = None
    ) -> None:
        """Add the field or the fields that an array holds."""
        shape = self.shapes[name]
        role = self.rules[name].role or role_by_name(name) or default
        if role is None:
            raise InputError(
                f"{self.path}: it cannot be told whether {name}, of shape {shape}, is given or "
                f"predicted; say so in a mapping file, as in `fields: {{{name}: {{role: input}}}}` "
                "(or output, or state where the second axis is time)"
            )
        plain = name if role == "coordinate" else field_name(name)
        channels = grid.channels if grid else None
        axis = 1 + ("time" in dims)
        if channels is None:
            pieces = {plain: Piece(name)}
        elif channels == 1:
            pieces = {plain: Piece(name, axis, 0)}
        else:
            pieces = {f"{plain}_{i}": Piece(name, axis, i) for i in range(channels)}
            self.remarks.append(
                f"{name}, of shape {shape}, is read as {channels} fields on one grid; if that axis "
                "is one of space, put an axis of length 1 before it; if it is time, say role: "
                "state in a mapping file"
            )
        for field, piece in pieces.items():
            if field in self.pieces:
                raise InputError(
                    f"{self.path}: {self.sources[field]} and {name} would both be called {field}; "
                    "rename one of them in the file"
                )
            self.fields.append(Field(field, "1", field.replace("_", " "), role, dims))
            self.pieces[field] = piece
            self.sources[field] = name


def _likely(rest: tuple[int, ...]) -> list[_Grid]:
    """Return how the axes behind samples and frames can be understood, the likeliest first."""
    found = []
    if 2 <= len(rest) <= 4:
        channels, *space = rest
        if channels == 1 or channels <= _MOST_CHANNELS and _CLEARLY * channels <= min(space):
            found.append(_Grid(channels, tuple(space)))
    if 1 <= len(rest) <= 3:
        found.append(_Grid(None, rest))
    return found
