"""MATLAB files as the Fourier neural operator's authors published them (Li et al., 2021).

`coeff` and `sol` (sample, x, y) are Darcy's permeability and pressure; `a` and `u` are what is
given and what is sought, where `u` may have a last axis of time, as for the Navier-Stokes
equations: then `a` is the state at time 0, and `u` the state at the times `t`.

MATLAB keeps the first axis, that of the samples, fastest. Arrays of version 7.3, which is HDF5, are
put in order once, on disk, before the first sample is read; those of version 5 (`save -v6` and
`save -v7`) are read into memory as a whole, as their format demands.
"""

import math
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache, partial

import h5py
import numpy as np
import scipy.io
from scipy.io.matlab import matfile_version

from mno.core.errors import reading
from mno.core.fields import Axis, Field
from mno.core.memory import available_memory
from mno.imports import importer
from mno.imports.cage import make_room
from mno.imports.hdf5 import Hdf5File
from mno.imports.mapping import Mapping
from mno.imports.stored import Box, FileArray

_NAMES = {"coeff": "permeability", "sol": "pressure", "a": "input", "u": "output"}
_ROLES = {"coeff": "input", "sol": "output", "a": "input", "u": "output"}
_STATES = {1: "velocity", 2: "vorticity", 3: "state"}
_WHOLE = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_CLASSES = {"double", "single", "logical", *_WHOLE}
_BYTES_OF_A_NUMBER = 24  # unpacked, as numbers and as float32


class FnoMat(importer.Importer):
    """A MATLAB file with one array for each field."""

    kind = "fno-mat"

    def lay_out(self, mapping: Mapping, stack: ExitStack) -> importer.Layout:
        """Open the file and find its fields."""
        self._others: list[str] = []  # what holds no numbers
        if h5py.is_hdf5(self.path):
            self._arrays = self._version_73(Hdf5File(self.path, stack))
        else:
            self._arrays = self._version_5()
        given = {name: rule.role for name, rule in mapping.fields.items() if rule.role}
        roles = {**_ROLES, **given}
        kept = {n: roles[n] for n in self._arrays if n in roles and n not in mapping.dropped}
        self._samples, *self._space = self._one_frame(list(kept))
        self._time: Axis | None = None
        # Unless the user says otherwise, frames belong to one state, a being the first of them.
        unsaid = "u" in kept and "a" not in given and given.get("u", "state") == "state"
        if is_one := unsaid and self._arrays["u"].shape[:-1] == (self._samples, *self._space):
            # One state of `u`, and of `a` before it unless `u` begins with it.
            first, frames = "a" if "a" in kept else None, self._arrays["u"].shape[-1]
            self._time, first = self._times(frames, first)
            name, dims = _STATES[len(self._space)], ("time", *importer.SPACE[: len(self._space)])
            joined = [n for n in (first, "u") if n]
            self._keep("u", importer.plain_field(name, "state", dims), joined)
        for name, role in kept.items():
            if not (is_one and name in ("a", "u")):
                self._add(name, role)
        used = {*kept, "t"} if self._time else kept
        if left_out := [n for n in (*self._arrays, *self._others) if n not in used]:
            self.remarks.append(
                f"left out: {', '.join(left_out)}; what is to be kept needs a role in a mapping "
                "file"
            )
        axes = (*([self._time] if self._time else []), *self._space_axes("coeff" in kept))
        return self.layout(self._samples, axes)

    def _version_73(self, file: Hdf5File) -> dict[str, FileArray]:
        """Return the arrays of a file of version 7.3, in which their axes are reversed."""
        found = {}
        # Names with # are MATLAB's own; text, and the shape of what is empty, are numbers, too.
        for name in (name for name in file.members(file.root) if not name.startswith("#")):
            owner = file.root[name]
            odd = file.attribute(owner, "MATLAB_class") in ("char", "cell", "struct")
            odd = odd or file.attribute(owner, "MATLAB_empty")
            if odd or not file.is_array(file.root, name, of_numbers=True):
                self._others.append(name)
            else:
                array = file.needed(file.root, name)
                found[name] = replace(array, order=tuple(reversed(range(len(array.lengths)))))
        return found

    def _version_5(self) -> dict[str, FileArray]:
        """Return the arrays of a file of version 5, each of which is read as a whole, once."""
        wanted = "a MATLAB file of version 5, 7 or 7.3, as save('data.mat', '-v7') writes it"
        with reading(self.path, expected=wanted):
            if matfile_version(self.path)[0] != 1:
                raise self.error(f"it is no MATLAB file of version 5, 7 or 7.3; expected {wanted}")
            listed = scipy.io.whosmat(self.path)

        @lru_cache(None)
        def read(name: str, count: int) -> np.ndarray:
            make_room(min(_BYTES_OF_A_NUMBER * count, available_memory()))
            with reading(self.path, name, wanted):
                values = scipy.io.loadmat(self.path, variable_names=[name])[name]
            importer.check_numbers(self.path, name, values.dtype)
            with np.errstate(over="ignore", invalid="ignore"):
                return np.ascontiguousarray(values, dtype=np.float32 if name != "t" else None)

        def array(name: str, shape: tuple[int, ...]) -> FileArray:
            def part(where: Box) -> np.ndarray:
                return read(name, math.prod(shape))[where]

            return FileArray(self.path, name, shape, np.dtype(np.float64), part)

        self._others = [name for name, _, kind in listed if kind not in _CLASSES]
        return {name: array(name, tuple(s)) for name, s, kind in listed if kind in _CLASSES}

    def _one_frame(self, kept: list[str]) -> tuple[int, ...]:
        if (first := next((name for name in ("coeff", "a", *kept) if name in kept), None)) is None:
            raise self.error(
                f"it has {', '.join([*self._arrays, *self._others]) or 'nothing'}; expected coeff "
                "and sol, or a and u: say which is which in a mapping file, as in `fields: {p: "
                "{role: input}, q: {role: output}}`"
            )
        shape = self._arrays[first].shape
        if first == "u" and len(shape) == 4:  # with its last axis of time, and without a
            shape = shape[:3]
        if not 2 <= len(shape) <= 4:
            raise self.error(
                f"{first} has shape {shape}; expected samples and one to three axes of space: "
                "reshape the array"
            )
        return shape

    def _add(self, source: str, role: str) -> None:
        """Make a field of an array: one value, one frame, or frames for each sample."""
        shape, frame = self._arrays[source].shape, (self._samples, *self._space)
        dims = importer.SPACE[: len(self._space)]
        if shape[:-1] == frame:
            dims = ("time", *dims)
            self._time = self._time or self._times(shape[-1], first=None)[0]
            if len(self._time.points) != shape[-1]:
                raise self.error(
                    f"{source} has {shape[-1]} times, other arrays have another number; "
                    f"{importer.leave_out(source)}"
                )
        elif shape != frame and shape == (self._samples, 1):
            dims = ()
        elif shape != frame:
            raise self.error(
                f"{source} has shape {shape}; expected {frame}, perhaps with a last axis of time: "
                f"{importer.leave_out(source)}"
            )
        self._keep(source, importer.plain_field(_NAMES.get(source, source), role, dims), [source])

    def _keep(self, source: str, field: Field, arrays: list[str]) -> None:
        self.check_sample(source, self._arrays[source].shape[1:], self._samples)
        self.add(field, source, partial(self._frames, field.dims, arrays))

    def _frames(self, dims: tuple[str, ...], names: list[str], start: int, stop: int) -> np.ndarray:
        """Return some samples, the axis of time first, arrays joined along it."""
        parts = [self._arrays[name].read(start, stop) for name in names]
        if "time" not in dims:
            return parts[0] if dims else parts[0][:, 0]
        # A single frame has no axis of time; in an array of frames it is the last.
        frames = [p[:, None] if p.ndim == len(dims) else np.moveaxis(p, -1, 1) for p in parts]
        return np.concatenate(frames, axis=1)

    def _times(self, length: int, first: str | None) -> tuple[Axis, str | None]:
        """Return the axis of time, and `first` if it is the frame before those of `u`."""
        if "t" not in self._arrays:
            self.remark_missing("time", "t is missing")
            return importer.default_axis("time", length + bool(first)), first
        times = self._arrays["t"].whole().ravel(order="F")
        if first and len(times) == length and times[0] > 0:
            times = np.concatenate([[0.0], times])
        elif first and len(times) == length:
            self.remarks.append("u begins at time 0; a is left out")
            first = None
        return self.given_axis("time", "t", times, length + bool(first)), first

    def _space_axes(self, has_ends: bool) -> list[Axis]:
        named = list(zip(importer.SPACE, self._space, strict=False))
        if has_ends:  # solved on points that include both
            return [self.given_axis(name, name, np.linspace(0, 1, n), n) for name, n in named]
        self.remark_missing("x", "the file says nothing of its points")
        return [importer.default_axis(name, n) for name, n in named]


IMPORTER = FnoMat
