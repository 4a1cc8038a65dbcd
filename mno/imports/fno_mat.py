"""MATLAB files as the Fourier neural operator's authors published them (Li et al., 2021).

`coeff` and `sol` (sample, x, y) are Darcy's permeability and pressure; `a` and `u` are what is
given and what is sought, where `u` may have a last axis of time, as for the Navier-Stokes
equations: then `a` is the state at time 0, and `u` the state at the times `t`.

MATLAB keeps the first axis, that of the samples, fastest. Arrays of version 7.3, which is HDF5, are
put in order once, on disk, before the first sample is read; those of version 5 (`save -v6` and
`save -v7`) are read into memory as a whole, as their format demands.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from scipy.io.matlab import matfile_version

from mno.core.errors import InputError, first_line
from mno.core.fields import Axis, Field
from mno.core.memory import available_memory
from mno.imports.cage import make_room
from mno.imports.hdf5 import Hdf5File
from mno.imports.importer import (
    SPACE,
    Importer,
    Layout,
    axis_of_points,
    cell_centres,
    check_numbers,
    leave_out,
    plain_field,
)
from mno.imports.mapping import Mapping
from mno.imports.tiles import SampleTiles

_NAMES = {"coeff": "permeability", "sol": "pressure", "a": "input", "u": "output"}
_ROLES = {"coeff": "input", "sol": "output", "a": "input", "u": "output"}
_STATES = {1: "velocity", 2: "vorticity", 3: "state"}
_MAX_TIMES = 1_000_000
_CLASSES = {
    "double", "single", "logical", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64",
    "uint64",
}  # fmt: skip
_BYTES_OF_A_NUMBER = 24  # unpacked, as numbers and as float32


class FnoMat(Importer):
    """A MATLAB file with one array for each field."""

    kind = "fno-mat"

    def lay_out(self, mapping: Mapping, stack: ExitStack) -> Layout:
        """Open the file and find its fields."""
        if h5py.is_hdf5(self.require_file()):
            self._file = _Mat73(stack.enter_context(Hdf5File(self.path)))
        else:
            self._file = _Mat5(self.path)
        shapes = self._file.shapes
        given = {name: rule.role for name, rule in mapping.fields.items() if rule.role}
        roles = {**_ROLES, **given}
        kept = {n: roles[n] for n in shapes if n in roles and n not in mapping.dropped}
        self._samples, *self._space = self._one_frame(list(kept))
        self._time = None
        roles = dict(kept)
        # Unless the user says otherwise, frames belong to one state, a being the first of them.
        if "u" in roles and self._is_over_time(shapes["u"]) and not {"a", "u"} & given.keys():
            self._add_state("a" if roles.pop("a", None) else None)
            del roles["u"]
        for name, role in roles.items():
            self._add(name, role)
        left_out = [name for name in (*shapes, *self._file.others) if name not in kept]
        left_out = [name for name in left_out if not (name == "t" and self._time)]
        if left_out:
            self.remarks.append(
                f"left out: {', '.join(left_out)}; what is to be kept needs a role in a mapping "
                "file"
            )
        axes = (*([self._time] if self._time else []), *self._space_axes("coeff" in kept))
        return self.layout(self._samples, axes)

    _time: Axis | None

    def _one_frame(self, kept: list[str]) -> tuple[int, ...]:
        """Return the number of samples and of points along each axis of space."""
        first = next((name for name in ("coeff", "a", *kept) if name in kept), None)
        if first is None:
            found = ", ".join([*self._file.shapes, *self._file.others]) or "nothing"
            raise InputError(
                f"{self.path} has {found}; expected coeff and sol, or a and u: say which is which "
                "in a mapping file, as in `fields: {p: {role: input}, q: {role: output}}`"
            )
        shape = self._file.shapes[first]
        if first == "u" and len(shape) == 4:  # with its last axis of time, and without a
            shape = shape[:3]
        if not 2 <= len(shape) <= 4:
            raise self.error(
                f"{first} has shape {shape}; expected samples and one to three axes "
                "of space: reshape the array"
            )
        return shape

    def _is_over_time(self, shape: tuple[int, ...]) -> bool:
        return shape[:-1] == (self._samples, *self._space)

    def _add(self, source: str, role: str) -> None:
        """Make a field of an array: one value, one frame, or frames for each sample."""
        shape = self._file.shapes[source]
        space = SPACE[: len(self._space)]
        if shape == (self._samples, *self._space):
            dims, frame = space, shape[1:]
        elif self._is_over_time(shape):
            dims, frame = ("time", *space), (shape[-1], *shape[1:-1])
            self._time = self._time or self._times(shape[-1], first=None)[0]
            if len(self._time.points) != shape[-1]:
                raise self.error(
                    f"{source} has {shape[-1]} times, other arrays have another "
                    f"number; {leave_out(source)}"
                )
        elif shape == (self._samples, 1):
            dims, frame = (), ()
        else:
            raise self.error(
                f"{source} has shape {shape}; expected {(self._samples, *self._space)}, perhaps "
                f"with a last axis of time: {leave_out(source)}"
            )
        self.check_sample(source, frame, self._samples)
        self._keep(source, plain_field(_NAMES.get(source, source), role, dims), [source])

    def _add_state(self, first: str | None) -> None:
        """Make one state of `u`, and of `a` before it unless `u` begins with it."""
        self._time, first = self._times(self._file.shapes["u"][-1], first)
        self.check_sample("u", (len(self._time.points), *self._space), self._samples)
        dims = ("time", *SPACE[: len(self._space)])
        field = plain_field(_STATES[len(self._space)], "state", dims)
        self._keep("u", field, [name for name in (first, "u") if name])

    def _keep(self, source: str, field: Field, arrays: list[str]) -> None:
        """Note a field, and the arrays whose frames it consists of."""
        self.add(field, source, partial(self._frames, field.dims, arrays))

    def _frames(
        self, dims: tuple[str, ...], arrays: list[str], start: int, stop: int
    ) -> np.ndarray:
        """Return some samples, the axis of time first, arrays joined along it."""
        parts = [self._file.read(name, start, stop) for name in arrays]
        if "time" not in dims:
            return parts[0] if dims else parts[0][:, 0]
        # A single frame has no axis of time; in an array of frames it is the last.
        frames = [p[:, None] if p.ndim == len(dims) else np.moveaxis(p, -1, 1) for p in parts]
        return np.concatenate(frames, axis=1)

    def _times(self, length: int, first: str | None) -> tuple[Axis, str | None]:
        """Return the axis of time, and `first` if it is the frame before those of `u`."""
        shape = self._file.shapes.get("t")
        if shape is None or math.prod(shape) >= _MAX_TIMES:
            self.remarks.append("t is missing; frames are numbered from 0")
            times = np.arange(length + bool(first), dtype=np.float64)
        else:
            times = np.asarray(self._file.whole("t")).ravel(order="F")
            if first and len(times) == length and times[0] > 0:
                times = np.concatenate([[0.0], times])
            elif first and len(times) == length:
                self.remarks.append("u begins at time 0; a is left out")
                first = None
        return self.given_axis("time", "t", times, length + bool(first)), first

    def _space_axes(self, has_ends: bool) -> list[Axis]:
        named = list(zip(SPACE, self._space, strict=False))
        if has_ends:  # solved on points that include both
            return [axis_of_points(name, np.linspace(0, 1, length)) for name, length in named]
        self.remarks.append(
            "the file says nothing of its points; they are taken as the centres of cells from 0 to "
            "1"
        )
        return [cell_centres(name, length) for name, length in named]


class _Mat73:
    """The arrays of a file of version 7.3, in which their axes are reversed."""

    def __init__(self, file: Hdf5File) -> None:
        self._file = file
        # Names with # are MATLAB's own; text, and the shape of what is empty, are numbers, too.
        names = [name for name in file.members(file.root) if not name.startswith("#")]
        self._arrays = {n: file.needed(file.root, n) for n in names if self._is_numeric(n)}
        self.shapes = {name: array.shape[::-1] for name, array in self._arrays.items()}
        self.others = [name for name in names if name not in self._arrays]
        self._ordered: dict[str, SampleTiles] = {}

    def _is_numeric(self, name: str) -> bool:
        if not self._file.is_numeric(self._file.root, name):
            return False
        owner = self._file.root[name]
        kind = self._file.attribute(owner, "MATLAB_class")
        empty = self._file.attribute(owner, "MATLAB_empty")
        return kind not in ("char", "cell", "struct") and not empty

    def whole(self, name: str) -> np.ndarray:
        """Return a small array."""
        return self._arrays[name].whole().T

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return some samples, float32."""
        if name not in self._ordered:
            array = self._arrays[name]
            places = array.boxes(reversed(range(len(array.shape))))
            parts = ((box[::-1], array.part(box).T) for box in places)
            self._ordered[name] = SampleTiles(self._file.path, self.shapes[name], parts)
        return self._ordered[name].read(start, stop)


class _Mat5:
    """The arrays of a file of version 5; as `_Mat73`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            known = matfile_version(path)[0] == 1
        except Exception:  # of other files it may be any
            known = False
        if not known:
            raise InputError(
                f"{path} is no MATLAB file of version 5, 7 or 7.3; expected one: save it by "
                "save('data.mat', '-v7')"
            )
        found = self._attempt(lambda: scipy.io.whosmat(path))
        self.shapes = {name: tuple(shape) for name, shape, kind in found if kind in _CLASSES}
        self.others = [name for name, _, kind in found if kind not in _CLASSES]
        self._ordered: dict[str, np.ndarray] = {}

    def whole(self, name: str) -> np.ndarray:
        """Return an array."""
        claimed = _BYTES_OF_A_NUMBER * math.prod(self.shapes[name])
        if claimed > available_memory():
            raise InputError(
                f"{self._path}: {name} has shape {self.shapes[name]}, more than fits into memory; "
                "save the file by save('data.mat', '-v7.3')"
            )
        make_room(claimed)
        values = self._attempt(lambda: scipy.io.loadmat(self._path, variable_names=[name])[name])
        check_numbers(self._path, name, values.dtype)
        return values

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return some samples, float32."""
        if name not in self._ordered:
            with np.errstate(over="ignore", invalid="ignore"):
                self._ordered[name] = np.ascontiguousarray(self.whole(name), dtype=np.float32)
        return self._ordered[name][start:stop].copy()

    def _attempt(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except Exception as error:  # of a damaged file it may be any
            raise InputError(
                f"{self._path} cannot be read ({first_line(error)[:200] or type(error).__name__}); "
                "expected an undamaged MATLAB file: get it anew, or save it by "
                "save('data.mat', '-v7.3')"
            ) from None


IMPORTER = FnoMat
