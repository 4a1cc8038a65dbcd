"""MATLAB files as the Fourier neural operator's authors published them (Li et al., 2021).

`coeff` and `sol` (sample, x, y) are Darcy's permeability and pressure; `a` and `u` are what is
given and what is sought, where `u` may have a last axis of time, as for the Navier-Stokes
equations: then `a` is the state at time 0, and `u` the state at the times `t`.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.imports.base import Contents, axis_of_points, cell_centres, check_sample
from mno.imports.mapping import Mapping
from mno.imports.matlab.arrays import MatFile, open_mat
from mno.imports.shared.layout import (
    SPACE,
    Layout,
    LayoutImporter,
    Reader,
    given_axis,
    plain_field,
    uneven,
)
from mno.imports.shared.tiles import SampleTiles

_NAMES = {"coeff": "permeability", "sol": "pressure", "a": "input", "u": "output"}
_ROLES = {"coeff": "input", "sol": "output", "a": "input", "u": "output"}
_STATES = {1: "velocity", 2: "vorticity", 3: "state"}
_MAX_TIMES = 1_000_000


class FnoMat(LayoutImporter):
    """A MATLAB file with one array for each field."""

    kind = "fno-mat"
    version = 1

    def lay_out(self, path: Path, mapping: Mapping, stack: ExitStack) -> Layout:
        """Open the file and find its fields."""
        return _Arrays(path, open_mat(path, stack), mapping).layout()


class _Arrays:
    """The arrays of a file, and what becomes of them."""

    def __init__(self, path: Path, file: MatFile, mapping: Mapping) -> None:
        self._path, self._file = path, file
        self._given = {name: rule.role for name, rule in mapping.fields.items() if rule.role}
        roles = {**_ROLES, **self._given}
        self._roles: dict[str, str] = {
            name: roles[name]
            for name in file.shapes
            if name in roles and not (name in mapping.fields and mapping.fields[name].drop)
        }
        self._samples, *self._space = self._one_frame()
        self._fields: dict[str, Field] = {}
        self._sources: dict[str, str] = {}
        self._readers: dict[str, Reader] = {}
        self._time: Axis | None = None
        self._remarks: list[str] = []

    def layout(self) -> Layout:
        """Return what the file holds, and how it is read."""
        roles = dict(self._roles)
        # Unless the user says otherwise, frames belong to one state, a being the first of them.
        if "u" in roles and self._is_over_time("u") and not {"a", "u"} & self._given.keys():
            self._add_state("a" if roles.pop("a", None) else None)
            del roles["u"]
        for name, role in roles.items():
            self._add(name, role)
        left_out = [n for n in (*self._file.shapes, *self._file.others) if n not in self._roles]
        left_out = [name for name in left_out if not (name == "t" and self._time)]
        if left_out:
            self._remarks.append(
                f"left out: {', '.join(left_out)}; what is to be kept needs a role in a mapping "
                "file"
            )
        axes = (*([self._time] if self._time else []), *self._space_axes())
        contents = Contents(
            samples=self._samples,
            axes=axes,
            fields=tuple(self._fields.values()),
            sources=self._sources,
            remarks=(*self._remarks, *uneven(axes)),
        )
        return Layout(contents, self._readers)

    def _one_frame(self) -> tuple[int, ...]:
        """Return the number of samples and of points along each axis of space."""
        first = next((n for n in ("coeff", "a", *self._roles) if n in self._roles), None)
        if first is None:
            found = ", ".join([*self._file.shapes, *self._file.others]) or "nothing"
            raise InputError(
                f"{self._path} has {found}; expected coeff and sol, or a and u: say which is which "
                "in a mapping file, as in `fields: {p: {role: input}, q: {role: output}}`"
            )
        shape = self._file.shapes[first]
        if first == "u" and len(shape) == 4:  # with its last axis of time, and without a
            shape = shape[:3]
        if not 2 <= len(shape) <= 4:
            raise InputError(
                f"{self._path}: {first} has shape {shape}; expected samples and one to three axes "
                "of space: reshape the array"
            )
        return shape

    def _is_over_time(self, name: str) -> bool:
        return self._file.shapes[name][:-1] == (self._samples, *self._space)

    def _add(self, source: str, role: str) -> None:
        """Make a field of an array: one value, one frame, or frames for each sample."""
        shape = self._file.shapes[source]
        space = SPACE[: len(self._space)]
        if shape == (self._samples, *self._space):
            dims, frame = space, shape[1:]
        elif self._is_over_time(source):
            dims, frame = ("time", *space), (shape[-1], *shape[1:-1])
            self._time = self._time or self._times(shape[-1], first=None)[0]
            self._check_times(source, shape[-1])
        elif shape == (self._samples, 1):
            dims, frame = (), ()
        else:
            raise InputError(
                f"{self._path}: {source} has shape {shape}; expected "
                f"{(self._samples, *self._space)}, perhaps with a last axis of time: leave it out "
                f"by `fields: {{{source}: {{drop: true}}}}` in a mapping file"
            )
        check_sample(self._path, source, frame, self._samples)
        name = _NAMES.get(source, source)
        self._keep(source, plain_field(name, role, dims), [source])

    def _add_state(self, first: str | None) -> None:
        """Make one state of `u`, and of `a` before it unless `u` begins with it."""
        length = self._file.shapes["u"][-1]
        self._time, first = self._times(length, first)
        frames = len(self._time.points)
        check_sample(self._path, "u", (frames, *self._space), self._samples)
        dims = ("time", *SPACE[: len(self._space)])
        field = plain_field(_STATES[len(self._space)], "state", dims)
        self._keep("u", field, [name for name in (first, "u") if name])

    def _keep(self, source: str, field: Field, arrays: list[str]) -> None:
        """Note a field, and the arrays whose frames it consists of."""
        self._fields[field.name] = field
        self._sources[field.name] = source
        ordered = [_Ordered(self._path, self._file, name) for name in arrays]
        if "time" in field.dims:
            self._readers[field.name] = partial(_read_frames, ordered, len(field.dims))
        else:
            self._readers[field.name] = partial(_read_one, ordered[0], len(field.dims))

    def _times(self, length: int, first: str | None) -> tuple[Axis, str | None]:
        """Return the axis of time, and `first` if it is the frame before those of `u`."""
        times = None
        if "t" in self._file.shapes and math.prod(self._file.shapes["t"]) < _MAX_TIMES:
            times = np.concatenate([part.ravel() for _, part in self._file.parts("t")])
        if times is None:
            self._remarks.append("t is missing; frames are numbered from 0")
            times = np.arange(length + bool(first), dtype=np.float64)
        elif first and len(times) == length and times[0] > 0:
            times = np.concatenate([[0.0], times])
        elif first and len(times) == length:
            self._remarks.append("u begins at time 0; a is left out")
            first = None
        return given_axis(self._path, "time", "t", times, length + bool(first)), first

    def _check_times(self, source: str, length: int) -> None:
        if self._time is None or len(self._time.points) != length:
            raise InputError(
                f"{self._path}: {source} has {length} times, other arrays have another number; "
                f"leave it out by `fields: {{{source}: {{drop: true}}}}` in a mapping file"
            )

    def _space_axes(self) -> list[Axis]:
        if "coeff" in self._roles:  # solved on points that include both ends
            ends = [np.linspace(0, 1, length) for length in self._space]
            return [axis_of_points(n, points) for n, points in zip(SPACE, ends, strict=False)]
        self._remarks.append(
            "the file says nothing of its points; they are taken as the centres of cells from 0 to "
            "1"
        )
        return [cell_centres(n, length) for n, length in zip(SPACE, self._space, strict=False)]


class _Ordered:
    """One array, put in order when its first samples are read."""

    def __init__(self, path: Path, file: MatFile, name: str) -> None:
        self._path, self._file, self._name = path, file, name

    @cached_property
    def tiles(self) -> SampleTiles:
        """Its samples, one after the other."""
        return SampleTiles(self._path, self._file.shapes[self._name], self._file.parts(self._name))


def _read_one(array: _Ordered, dims: int, start: int, stop: int) -> np.ndarray:
    """Return some samples without an axis of time."""
    values = array.tiles.read(start, stop)
    return values if dims else values[:, 0]


def _read_frames(arrays: list[_Ordered], dims: int, start: int, stop: int) -> np.ndarray:
    """Return some samples of `dims` axes, time first, joined along time."""
    parts = [array.tiles.read(start, stop) for array in arrays]
    # A single frame has no axis of time; in an array of frames it is the last.
    frames = [p[:, None] if p.ndim == dims else np.moveaxis(p, -1, 1) for p in parts]
    return np.concatenate(frames, axis=1)


IMPORTER = FnoMat
