"""Scalars, vectors and tensors of a file of The Well, as fields of one component each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import h5py
import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.imports.base import check_sample
from mno.imports.hdf5.array import StoredArray
from mno.imports.hdf5.files import Hdf5File
from mno.imports.mapping import Mapping
from mno.imports.shared.layout import Reader, plain_field


@dataclass(frozen=True, eq=False)
class Frame:
    """What all fields of a file share.

    Attributes:
        samples: Number of trajectories.
        axes: Coordinate axes, time first.
        names: What the file calls the axes of space.
    """

    samples: int
    axes: tuple[Axis, ...]
    names: tuple[str, ...]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of trajectories and of points along each axis."""
        return (self.samples, *(len(axis.points) for axis in self.axes))


@dataclass(frozen=True)
class Places:
    """Where the axes of a file's array lie.

    Attributes:
        stored: For trajectories and each axis, whether the array has it.
        components: Lengths of the axes behind these.
    """

    stored: tuple[bool, ...]
    components: tuple[int, ...]


class FieldGroups:
    """The fields of some groups.

    Args:
        file: The file.
        frame: What they share.
        mapping: What the user says of them.

    Attributes:
        fields: By name.
        sources: What the file calls each.
        readers: How each is read.
        remarks: What is worth knowing.
    """

    def __init__(self, file: Hdf5File, frame: Frame, mapping: Mapping) -> None:
        self.frame = frame
        self.fields: dict[str, Field] = {}
        self.sources: dict[str, str] = {}
        self.readers: dict[str, Reader] = {}
        self.remarks: list[str] = []
        self._file = file
        self._dropped = {name for name, rule in mapping.fields.items() if rule.drop}

    def add_group(self, name: str, rank: int) -> None:
        """Make fields of all arrays of a group, whose values have `rank` indices.

        Raises:
            InputError: An array does not fit the others.
        """
        group = self._file.group(self._file.root, name)
        for member in self._file.members(group) if group is not None else []:
            assert group is not None
            if not {member, f"{name}/{member}"} & self._dropped:
                self._add(self._file.needed(group, member), member, rank)

    def _add(self, array: StoredArray, name: str, rank: int) -> None:
        frame = self.frame
        over_time = self._flags(array.dataset, "time_varying", 1)[0]
        varies = (
            self._flags(array.dataset, "sample_varying", 1)[0],
            over_time,
            *self._flags(array.dataset, "dim_varying", len(frame.names)),
        )
        places = find_places(array.shape, frame.lengths, varies, rank)
        if places is None:
            raise InputError(
                f"{array.path}: {array.name} has shape {array.shape}; expected axes of trajectory, "
                f"time, {', '.join(frame.names)} (lengths {frame.lengths}) as far as it varies "
                f"along them, then {rank} of components: correct the file, or leave it out by "
                f"`fields: {{{name}: {{drop: true}}}}` in a mapping file"
            )
        dims = tuple(axis.name for axis in frame.axes[0 if over_time else 1 :])
        shape = frame.lengths[1 if over_time else 2 :]
        check_sample(array.path, array.name, shape, frame.samples)
        symmetric = bool(self._file.attribute(array.dataset, "symmetric"))
        for suffix, pick in components(places.components, rank, frame.names, symmetric):
            label = f"{name}_{suffix}" if suffix else name
            if label in self.fields:
                raise InputError(
                    f"{array.path}: two fields would be called {label}; leave one out by `fields: "
                    f"{{{array.name}: {{drop: true}}}}` in a mapping file"
                )
            role = "state" if over_time else "input"
            self.fields[label] = plain_field(label, role, dims)
            self.sources[label] = array.name + (f"[{', '.join(map(str, pick))}]" if suffix else "")
            self.readers[label] = _Reader(array, places, pick, shape, over_time)
        if symmetric and rank == 2:
            self.remarks.append(f"{name} is symmetric; each of its components is taken once")

    def _flags(self, dataset: h5py.Dataset, name: str, count: int) -> list[bool]:
        """Return whether an array varies along trajectories, time or space; it does if unsaid."""
        value = self._file.attribute(dataset, name)
        flags = value if isinstance(value, list) else [True if value is None else value]
        flags = [bool(flag) for flag in flags]
        return flags if len(flags) == count else (flags * count)[:count]


def find_places(
    shape: Sequence[int], lengths: Sequence[int], varies: Sequence[bool], rank: int
) -> Places | None:
    """Return which axes an array has; none if its shape does not fit.

    Args:
        shape: Of the array.
        lengths: Number of trajectories, times, and points along each axis of space.
        varies: Along which of these the array varies; an axis along which it does not is left
            out, or has length 1.
        rank: Number of indices of a value.
    """
    choices = [(True,) if flag else (False, True) for flag in varies]
    for stored in itertools.product(*choices):
        here = [i for i, is_stored in enumerate(stored) if is_stored]
        components = tuple(shape[len(here) :])
        wanted = [(lengths[i],) if varies[i] else (1, lengths[i]) for i in here]
        fits = len(shape) >= len(here) and all(
            length in allowed for length, allowed in zip(shape, wanted, strict=False)
        )
        if fits and _are_components(components, rank):
            return Places(tuple(stored), components)
    return None


def _are_components(lengths: tuple[int, ...], rank: int) -> bool:
    """Whether axes may be those of the components of a value with `rank` indices."""
    if rank == 0:
        return lengths in ((), (1,))
    if rank == 2 and len(lengths) == 1:  # both indices in one
        return lengths[0] in (1, 4, 9)
    return len(lengths) == rank and len(set(lengths)) == 1 and 1 <= lengths[0] <= 3


def components(
    lengths: tuple[int, ...], rank: int, names: Sequence[str], symmetric: bool
) -> list[tuple[str, tuple[int, ...]]]:
    """Return the name and the place of each component of a value.

    Args:
        lengths: Of the axes of components.
        rank: Number of indices of a value.
        names: Of the axes of space.
        symmetric: Whether a component and its mirror image are the same.
    """
    if rank == 0:
        return [("", (0,) * len(lengths))]
    size = round(lengths[0] ** 0.5) if rank == 2 and len(lengths) == 1 else lengths[0]
    letters = names if len(names) == size else [str(i) for i in range(size)]
    found = []
    for index in itertools.product(range(size), repeat=rank):
        if symmetric and list(index) != sorted(index):
            continue
        pick = index if len(lengths) == rank else (index[0] * size + index[1],)
        found.append(("".join(letters[i] for i in index), pick))
    return found


class _Reader:
    """Reads one component, repeated along the axes that the array lacks."""

    def __init__(
        self,
        array: StoredArray,
        places: Places,
        pick: tuple[int, ...],
        shape: tuple[int, ...],
        over_time: bool,
    ) -> None:
        self._array, self._places, self._pick = array, places, pick
        self._shape, self._over_time = shape, over_time

    def __call__(self, start: int, stop: int) -> np.ndarray:
        stored = self._places.stored
        leading = self._array.shape[: sum(stored)]
        where = [slice(0, length) for length in leading]
        if stored[0] and leading[0] > 1:
            where[0] = slice(start, stop)
        values = self._array.read(where, self._pick)
        missing = [i for i, is_stored in enumerate(stored) if not is_stored]
        values = np.expand_dims(values, tuple(missing))
        if not self._over_time:
            values = values[:, 0]
        return np.array(np.broadcast_to(values, (stop - start, *self._shape)))
