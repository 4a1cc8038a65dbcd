"""HDF5 files of The Well (Ohana et al., 2024), https://polymathic-ai.org/the_well/data_format.

Groups `t0_fields`, `t1_fields` and `t2_fields` hold scalars, vectors and tensors with the axes
(trajectory, time, space…, component…); attributes say along which of these an array varies, and
along the others it has no axis, or one of length 1. Each component becomes a field of its own.
"""

import itertools
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import h5py
import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis
from mno.imports.hdf5 import Hdf5File
from mno.imports.importer import SPACE, Importer, Layout, leave_out, plain, plain_field
from mno.imports.mapping import Mapping
from mno.imports.stored import FileArray


class TheWell(Importer):
    """A file of The Well."""

    kind = "the-well"

    def lay_out(self, mapping: Mapping, stack: ExitStack) -> Layout:
        """Open the file and find its fields."""
        file = self._file = Hdf5File(self.path, stack)
        self._axes, self._names = self._find_axes()
        count = file.attribute(file.root, "n_trajectories")
        if not isinstance(count, (int, float)) or count < 1 or count != int(count):
            raise self.error(
                f"attribute n_trajectories is {count!r}; expected the number of "
                "trajectories, as The Well's files have it: choose another importer"
            )
        # Number of trajectories, of times, and of points along each axis.
        self._lengths = (int(count), *(len(axis.points) for axis in self._axes))
        for rank in range(3):
            group = file.group(file.root, f"t{rank}_fields")
            for name in file.members(group) if group is not None else ():
                if not {name, f"t{rank}_fields/{name}"} & mapping.dropped:
                    self._add(group, name, rank)  # type: ignore[arg-type]
        parameters = file.attributes(file.root)
        if (conditions := file.group(file.root, "boundary_conditions")) is not None:
            parameters["boundary_conditions"] = {
                name: file.attribute(file.group(conditions, name), "bc_type")
                for name in file.members(conditions)
            }
        self._add_scalars(parameters)
        return self.layout(self._lengths[0], self._axes, parameters)

    def _find_axes(self) -> tuple[tuple[Axis, ...], list[str]]:
        """Return the axes, time first, and what the file calls those of space."""
        dimensions = self._file.group(self._file.root, "dimensions")
        names = dimensions and self._file.attribute(dimensions, "spatial_dims")
        names = [names] if isinstance(names, str) else names
        if dimensions is None or not isinstance(names, list) or not 1 <= len(names) <= 3:
            raise InputError(
                f"{self.path} has no group dimensions with one to three spatial_dims; expected a "
                "file of The Well: choose another importer"
            )
        names = [str(name) for name in names]
        axes = []
        for axis, source in zip(("time", *SPACE), ["time", *names], strict=False):
            points = np.atleast_1d(self._file.needed(dimensions, source).whole())
            found = self.given_axis(axis, f"dimensions/{source}", points, points.shape[-1])
            axes.append(replace(found, long_name=source))
        return tuple(axes), names

    def _add(self, group: h5py.Group, name: str, rank: int) -> None:
        """Make fields of an array whose values have `rank` indices, one for each component."""
        array, owner = self._file.needed(group, name), group[name]
        counts = {"sample_varying": 1, "time_varying": 1, "dim_varying": len(self._names)}
        varies = [flag for what, n in counts.items() for flag in self._flags(owner, what, n)]
        over_time = varies[1]
        if (places := find_places(array.shape, self._lengths, varies, rank)) is None:
            raise self.error(
                f"{array.name} has shape {array.shape}; expected axes of trajectory, "
                f"time, {', '.join(self._names)} (lengths {self._lengths}) as far as it varies "
                f"along them, then {rank} of components: correct the file, or {leave_out(name)}"
            )
        stored, behind = places
        dims = tuple(axis.name for axis in self._axes[0 if over_time else 1 :])
        shape = self._lengths[1 if over_time else 2 :]
        self.check_sample(array.name, shape, self._lengths[0])
        symmetric = bool(self._file.attribute(owner, "symmetric"))
        for suffix, pick in components(behind, rank, self._names, symmetric):
            label = f"{name}_{suffix}" if suffix else name
            if label in self.fields:
                raise self.error(f"two fields would be called {label}; {leave_out(array.name)}")
            source = array.name + (f"[{', '.join(map(str, pick))}]" if suffix else "")
            field = plain_field(label, "state" if over_time else "input", dims)
            self.add(field, source, partial(_read, array, stored, pick, shape, over_time))

    def _flags(self, owner: Any, name: str, count: int) -> list[bool]:
        """Return whether an array varies along trajectories, time or space; it does if unsaid."""
        value = self._file.attribute(owner, name)
        flags = value if isinstance(value, list) else [True if value is None else value]
        return [bool(flag) for flag in flags * count][:count]

    def _add_scalars(self, parameters: dict[str, Any]) -> None:
        """Make parameters of the numbers of the whole file, inputs of the others."""
        file = self._file
        scalars = file.group(file.root, "scalars")
        for name in file.members(scalars) if scalars is not None else ():
            if not file.is_array(scalars, name, of_numbers=True):  # type: ignore[arg-type]
                self.remarks.append(f"scalars/{name} holds no number; it is left out")
                continue
            values = file.needed(scalars, name).whole().astype(np.float64)  # type: ignore[arg-type]
            flags = ("sample_varying", "time_varying")
            varies = [bool(file.attribute(scalars[name], flag)) for flag in flags]  # type: ignore[index]
            if not any(varies) and values.size:
                parameters[name] = plain(values.ravel()[0])
                continue
            lengths = [n if flag else 1 for n, flag in zip(self._lengths, varies, strict=False)]
            if values.size != math.prod(lengths):
                raise self.error(
                    f"scalars/{name} has shape {values.shape}; expected numbers for "
                    f"{lengths[0]} trajectories and {lengths[1]} times: correct the file"
                )
            numbers = np.broadcast_to(values.reshape(lengths), (self._lengths[0], lengths[1]))
            label = name if name not in self.fields else f"scalar_{name}"
            field = plain_field(label, "input", ("time",) if varies[1] else ())
            rows = numbers if varies[1] else numbers[:, 0]
            self.add(field, f"scalars/{name}", lambda start, stop, rows=rows: rows[start:stop])


def _read(
    array: FileArray, stored: tuple[bool, ...], pick: tuple[int, ...], shape: tuple[int, ...],
    over_time: bool, start: int, stop: int,
) -> np.ndarray:  # fmt: skip
    """Read one component, repeated along the axes that the array lacks."""
    of_samples = stored[0] and array.shape[0] > 1
    values = (array.read(start, stop) if of_samples else array.whole())[(..., *pick)]
    values = np.expand_dims(values, tuple(i for i, is_stored in enumerate(stored) if not is_stored))
    values = values if over_time else values[:, 0]
    return np.broadcast_to(values, (stop - start, *shape))


def find_places(
    shape: Sequence[int], lengths: Sequence[int], varies: Sequence[bool], rank: int
) -> tuple[tuple[bool, ...], tuple[int, ...]] | None:
    """Return which axes an array has, and the lengths of those of components behind them.

    `lengths` are the numbers of trajectories, times, and points along each axis of space; an axis
    along which the array does not vary is left out, or has length 1; a value has `rank` indices.
    There is none if the shape does not fit.
    """
    # Each index has an axis of components, all of one length.
    allowed = [(length,) * rank for length in (1, 2, 3)] if rank else [(), (1,)]
    for stored in itertools.product(*((True,) if flag else (False, True) for flag in varies)):
        here = [i for i, is_stored in enumerate(stored) if is_stored]
        behind = tuple(shape[len(here) :])
        wanted = [(lengths[i],) if varies[i] else (1, lengths[i]) for i in here]
        fits = len(shape) >= len(here) and all(
            length in either for length, either in zip(shape, wanted, strict=False)
        )
        if fits and behind in allowed:
            return stored, behind
    return None


def components(
    lengths: tuple[int, ...], rank: int, names: Sequence[str], symmetric: bool
) -> list[tuple[str, tuple[int, ...]]]:
    """Return the name and the place of each component of a value with `rank` indices.

    `lengths` are those of its axes; if it is symmetric, one of a component and its mirror image is
    left out. `names` are those of the axes of space.
    """
    if rank == 0:
        return [("", (0,) * len(lengths))]
    letters = names if len(names) == lengths[0] else [str(i) for i in range(lengths[0])]
    indices = itertools.product(range(lengths[0]), repeat=rank)
    kept = (index for index in indices if not symmetric or list(index) == sorted(index))
    return [("".join(letters[i] for i in index), index) for index in kept]


IMPORTER = TheWell
