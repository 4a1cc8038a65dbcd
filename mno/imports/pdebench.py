"""PDEBench's HDF5 files (Takamoto et al., 2022, https://doi.org/10.18419/darus-2986).

Either one array holds all samples, `tensor` (sample, time, space…), with `nu` beside it for Darcy's
equation, or several of them do, such as `density` and `Vx`; or each sample is a group `0000`,
`0001`, … with `data` (time, space…, channel) and its own `grid`.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.imports.hdf5 import Hdf5File, StoredArray
from mno.imports.importer import (
    SPACE,
    Contents,
    Importer,
    Layout,
    Reader,
    cell_centres,
    check_sample,
    given_axis,
    leave_out,
    plain,
    plain_field,
    uneven,
)
from mno.imports.mapping import Mapping

_COORDINATES = ("t-coordinate", "x-coordinate", "y-coordinate", "z-coordinate", "t")
_NAMES = {"nu": "permeability", "Vx": "velocity_x", "Vy": "velocity_y", "Vz": "velocity_z"}
# Names of the channels, by number of space axes and of channels.
_CHANNELS = {
    (1, 1): ("concentration",),
    (2, 1): ("depth",),
    (2, 2): ("activator", "inhibitor"),
}
_MAX_VALUES = 200


class PdeBench(Importer):
    """A file of PDEBench."""

    kind = "pdebench"

    def lay_out(self, mapping: Mapping, stack: ExitStack) -> Layout:
        """Open the file and find its fields."""
        file = stack.enter_context(Hdf5File(self.require_file()))
        arrays = [n for n in file.members(file.root) if file.is_array(file.root, n)]
        if not arrays:
            return _Groups(file).layout()
        return _Arrays(file, [n for n in arrays if n not in _COORDINATES], mapping).layout()


class _Arrays:
    """A file in which each array holds all samples."""

    def __init__(self, file: Hdf5File, names: list[str], mapping: Mapping) -> None:
        self._file, self._path = file, file.path
        self._remarks: list[str] = []
        found = {n: file.needed(file.root, n) for n in names if n not in mapping.dropped}
        self._arrays = {name: array for name, array in found.items() if array.shape}
        self._parameters = file.attributes(file.root)
        for name, array in found.items():
            if not array.shape:
                self._parameters[name] = plain(array.whole()[()])
        if not self._arrays:
            raise InputError(
                f"{self._path} has no arrays of values; expected tensor, density or the like: "
                "choose another importer"
            )
        given = [name for name in SPACE if f"{name}-coordinate" in file.members(file.root)]
        self._space = max((SPACE.index(n) + 1 for n in given), default=self._guess_space())
        self._fields: dict[str, Field] = {}
        self._sources: dict[str, str] = {}
        self._readers: dict[str, Reader] = {}
        self._lengths: dict[str, int] = {}

    def layout(self) -> Layout:
        samples = {name: array.shape[0] for name, array in self._arrays.items()}
        if len(set(samples.values())) != 1:
            raise InputError(
                f"{self._path}: arrays have different numbers of samples ({samples}); expected as "
                "many in each: leave others out by `drop: true` in a mapping file"
            )
        count = next(iter(samples.values()))
        for name, array in self._arrays.items():
            self._add(name, array, count)
        used = [d for d in ("time", *SPACE) if any(d in f.dims for f in self._fields.values())]
        axes = tuple(self._axis(name, self._lengths[name]) for name in used)
        contents = Contents(
            samples=count,
            axes=axes,
            fields=tuple(self._fields.values()),
            sources=self._sources,
            parameters=self._parameters,
            remarks=(*self._remarks, *uneven(axes)),
        )
        return contents, self._readers

    def _guess_space(self) -> int:
        """Return the number of space axes of a file without coordinates."""
        if "nu" in self._arrays:
            return len(self._arrays["nu"].shape) - 1
        if "force" in self._arrays:
            return len(self._arrays["force"].shape) - 2
        return max(len(array.shape) for array in self._arrays.values()) - 2

    def _add(self, source: str, array: StoredArray, samples: int) -> None:
        """Make fields of an array, one for each channel if it has such an axis."""
        space = SPACE[: self._space]
        base = 1 + len(space)
        steady = "nu" in self._arrays
        rank = len(array.shape)
        over_time = rank > base and not (rank == base + 1 and source == "force")
        dims = ("time", *space) if over_time else space
        channels = array.shape[1 + len(dims) :]
        if not 1 <= self._space <= 3 or rank < base or len(channels) > 1 or channels > (9,):
            raise InputError(
                f"{self._path}: {source} has shape {array.shape}; expected samples, perhaps times, "
                f"{self._space} axes of space and perhaps a channel: choose another importer, or "
                f"{leave_out(source)}"
            )
        shape = array.shape[1 : 1 + len(dims)]
        check_sample(self._path, source, array.shape[1:], samples)
        for dim, length in zip(dims, shape, strict=True):
            known = self._lengths.setdefault(dim, length)
            if known != length:
                raise InputError(
                    f"{self._path}: {source} has {length} points along {dim}, others {known}; "
                    "expected all arrays on one grid: leave some out by `drop: true` in a mapping "
                    "file"
                )
        name = _NAMES.get(source, source)
        if source == "tensor":
            name = "pressure" if steady else "velocity"
        role = "state" if over_time else "input"
        if steady and source != "nu" and (not over_time or shape[0] == 1):
            role, dims = "output", space
        count = channels[0] if channels else 1
        for channel in range(count):
            suffix = SPACE[channel] if count == self._space else str(channel)
            label = name if count == 1 else f"{name}_{suffix}"
            self._fields[label] = plain_field(label, role, dims)
            self._sources[label] = source if count == 1 else f"{source}[{channel}]"
            pick = (channel,) if channels else ()
            self._readers[label] = partial(_read, array, pick, over_time and role == "output")

    def _axis(self, name: str, length: int) -> Axis:
        source = "t-coordinate" if name == "time" else f"{name}-coordinate"
        array = self._file.array(self._file.root, source)
        if array is None and name == "time":
            array = self._file.array(self._file.root, "t")
        if array is not None:
            points = array.whole()
            if name == "time":
                points = self._one_time(array.name, points)[:length]
            return given_axis(self._path, name, array.name, points, length)
        if name == "time":
            self._remarks.append(f"{source} is missing; frames are numbered from 0")
            return given_axis(self._path, name, source, np.arange(float(length)), length)
        self._remarks.append(
            f"{source} is missing; points are taken as the centres of cells from 0 to 1"
        )
        return cell_centres(name, length)

    def _one_time(self, source: str, times: np.ndarray) -> np.ndarray:
        """Return the times of all samples, which may be given for each."""
        if times.ndim != 2:
            return times
        if (times == times[0]).all():
            return times[0]
        raise InputError(
            f"{self._path}: {source} gives other times for other samples; expected one time axis: "
            "import files with the same times"
        )


def _read(
    array: StoredArray, pick: tuple[int, ...], squeeze: bool, start: int, stop: int
) -> np.ndarray:
    """Return some samples of one channel; without the axis of time if it is to be left out."""
    values = array.samples(start, stop, pick)
    return values[:, 0] if squeeze else values


class _Groups:
    """A file with one group for each sample: `0000/data`, `0000/grid/x` and so on."""

    def __init__(self, file: Hdf5File) -> None:
        self._file, self._path = file, file.path
        self._names = sorted(file.members(file.root), key=_number)
        if not self._names:
            raise InputError(f"{file.path} is empty; expected tensor, or groups with data")
        self._last: tuple[int, int] | None = None
        self._channels = np.empty(0, dtype=np.float32)

    def layout(self) -> Layout:
        first = self._data(self._names[0])
        *shape, channels = first.shape
        space = len(shape) - 1
        if not 1 <= space <= 3:
            raise InputError(
                f"{self._path}: {first.name} has shape {first.shape}; expected times, one to three "
                "axes of space, and channels: choose another importer"
            )
        check_sample(self._path, first.name, first.shape, len(self._names))
        for group in self._names[1:]:
            array = self._data(group)
            if array.shape != first.shape:
                raise InputError(
                    f"{self._path}: {array.name} has shape {array.shape}, but {first.name} has "
                    f"{first.shape}; expected the same in all groups: import them from separate "
                    "files"
                )
        names = _CHANNELS.get((space, channels)) or tuple(f"channel_{i}" for i in range(channels))
        self._shape = tuple(shape)
        self._axes = self._axes_of(self._names[0])
        remarks = [*self._holes(), *uneven(self._axes)]
        parameters = self._file.attributes(self._file.root)
        config = self._file.attribute(self._file.root[self._names[0]], "config")
        if config is not None:
            values, remark = parse_config(config, self._names[0])
            parameters["config"] = values
            remarks += [remark] if remark else []
        dims = tuple(axis.name for axis in self._axes)
        contents = Contents(
            samples=len(self._names),
            axes=self._axes,
            fields=tuple(plain_field(name, "state", dims) for name in names),
            sources={name: f"data[{i}]" for i, name in enumerate(names)},
            parameters=parameters,
            remarks=tuple(remarks),
        )
        return contents, {name: partial(self._read, i) for i, name in enumerate(names)}

    def _holes(self) -> list[str]:
        numbers = [_number(name)[0] for name in self._names]
        missing = numbers[-1] - numbers[0] + 1 - len(numbers)
        if numbers[0] < 0 or (numbers[0] == 0 and missing == 0):
            return []
        holes = f", and {missing} numbers in between are missing" if missing else ""
        return [
            f"groups go from {self._names[0]} to {self._names[-1]}{holes}; samples are numbered "
            "from 0"
        ]

    def _data(self, name: str) -> StoredArray:
        group = self._file.group(self._file.root, name)
        assert group is not None  # it is one of the members
        return self._file.needed(group, "data")

    def _axes_of(self, name: str) -> tuple[Axis, ...]:
        group = self._file.group(self._file.root, name)
        grid = group and self._file.group(group, "grid")
        if grid is None:
            raise InputError(
                f"{self._path}: group {name} has no grid; expected grid/t, grid/x and so on: "
                "choose another importer"
            )
        axes = []
        for axis, length in zip(("time", *SPACE), self._shape, strict=False):
            source = "t" if axis == "time" else axis
            points = self._file.needed(grid, source).whole()
            axes.append(given_axis(self._path, axis, f"{name}/grid/{source}", points, length))
        return tuple(axes)

    def _read(self, channel: int, start: int, stop: int) -> np.ndarray:
        """Read one channel of some groups; all of them are read once, when the first is."""
        if self._last != (start, stop):
            self._last, self._channels = None, np.empty(0, dtype=np.float32)
            arrays = [self._data(name) for name in self._names[start:stop]]
            shape = (arrays[0].shape[-1], stop - start, *self._shape)
            self._channels = np.empty(shape, dtype=np.float32)
            for row, array in enumerate(arrays):
                self._check_axes(self._names[start + row])
                array.read_channels(self._channels[:, row])
            self._last = start, stop
        return self._channels[channel]

    def _check_axes(self, group: str) -> None:
        for ours, theirs in zip(self._axes, self._axes_of(group), strict=True):
            if not np.allclose(ours.points, theirs.points, rtol=1e-5, atol=1e-12):
                raise InputError(
                    f"{self._path}: group {group} has other points along {ours.name} than "
                    f"{self._names[0]}; expected one grid: import them from separate files"
                )


def _number(group: str) -> tuple[int, str]:
    """Return what groups are sorted by: their numbers, if they have such."""
    return (int(group), group) if group.isdecimal() and len(group) < 19 else (-1, group)


def parse_config(text: Any, group: str) -> tuple[dict[str, Any], str | None]:
    """Return the plain values of a configuration, by dotted name, and a remark if there is one."""
    try:
        content = YAML(typ="safe").load(text)
    except (YAMLError, ValueError, TypeError, AttributeError, RecursionError):
        return {}, f"the config of group {group} is not valid YAML; it is left out"
    values: dict[str, Any] = {}
    waiting = [("", content)]
    for _ in range(10 * _MAX_VALUES):
        if not waiting or len(values) == _MAX_VALUES:
            break
        name, value = waiting.pop(0)
        if isinstance(value, dict):
            items = list(value.items())[:_MAX_VALUES]
            waiting += [(f"{name}.{key}" if name else str(key), item) for key, item in items]
        elif name and plain(value) is not None:
            values[name] = plain(value)
    return values, f"config is that of group {group}" if values else None


IMPORTER = PdeBench
