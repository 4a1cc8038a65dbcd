"""PDEBench's HDF5 files (Takamoto et al., 2022, https://doi.org/10.18419/darus-2986).

Either one array holds all samples, `tensor` (sample, time, space…), with `nu` beside it for Darcy's
equation, or several of them do, such as `density` and `Vx`; or each sample is a group `0000`,
`0001`, … with `data` (time, space…, channel) and its own `grid`.
"""

from contextlib import ExitStack
from functools import partial

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis
from mno.imports import importer
from mno.imports.hdf5 import Hdf5File
from mno.imports.importer import SPACE, Importer, Layout, leave_out, plain, plain_field
from mno.imports.mapping import Mapping
from mno.imports.stored import FileArray

_COORDINATES = ("t-coordinate", "x-coordinate", "y-coordinate", "z-coordinate", "t")
_NAMES = {"nu": "permeability", "Vx": "velocity_x", "Vy": "velocity_y", "Vz": "velocity_z"}
# Names of the channels, by number of space axes and of channels.
_CHANNELS = {(1, 1): ("concentration",), (2, 1): ("depth",), (2, 2): ("activator", "inhibitor")}


class PdeBench(Importer):
    """A file of PDEBench."""

    kind = "pdebench"

    def lay_out(self, mapping: Mapping, stack: ExitStack) -> Layout:
        """Open the file and find its fields."""
        file = self._file = Hdf5File(self.path, stack)
        if names := [n for n in file.members(file.root) if file.is_array(file.root, n)]:
            return self._lay_out_arrays([n for n in names if n not in _COORDINATES], mapping)
        return self._lay_out_groups()

    def _lay_out_arrays(self, names: list[str], mapping: Mapping) -> Layout:
        file = self._file
        found = {n: file.needed(file.root, n) for n in names if n not in mapping.dropped}
        arrays = {name: array for name, array in found.items() if array.shape}
        numbers = {n: plain(np.float64(a.whole())) for n, a in found.items() if not a.shape}
        if not arrays:
            raise InputError(
                f"{self.path} has no arrays of values; expected tensor, density or the like: "
                "choose another importer"
            )
        samples = {name: array.shape[0] for name, array in arrays.items()}
        if len(set(samples.values())) != 1:
            raise self.error(
                f"arrays have different numbers of samples ({samples}); expected as "
                "many in each: leave others out by `drop: true` in a mapping file"
            )
        given = [name for name in SPACE if f"{name}-coordinate" in file.members(file.root)]
        space = max((SPACE.index(n) + 1 for n in given), default=_guess_space(arrays))
        lengths: dict[str, int] = {}
        for source, array in arrays.items():
            dims, channels = self._dims(source, array, space)
            for dim, length in zip(dims, array.shape[1:], strict=False):
                if lengths.setdefault(dim, length) != length:
                    raise self.error(
                        f"{source} has {length} points along {dim}, others {lengths[dim]}; "
                        "expected all arrays on one grid: leave some out by `drop: true` in a "
                        "mapping file"
                    )
            steady, over_time = "nu" in arrays, "time" in dims
            name = _NAMES.get(source, source)
            if source == "tensor":
                name = "pressure" if steady else "velocity"
            role = "state" if over_time else "input"
            if steady and source != "nu" and (not over_time or array.shape[1] == 1):
                role, dims = "output", dims[over_time:]
            count = channels[0] if channels else 1
            for channel in range(count):
                suffix = SPACE[channel] if count == space else str(channel)
                label = name if count == 1 else f"{name}_{suffix}"
                pick = (channel,) if channels else ()
                squeeze = over_time and role == "output"  # the axis of time is left out
                reader = partial(_read, array, pick, squeeze)
                called = source if count == 1 else f"{source}[{channel}]"
                self.add(plain_field(label, role, dims), called, reader)
        used = {dim for field in self.fields.values() for dim in field.dims}
        axes = [self._axis(n, lengths[n]) for n in ("time", *SPACE) if n in used]
        return self.layout(next(iter(samples.values())), axes, file.attributes(file.root) | numbers)

    def _dims(
        self, source: str, array: FileArray, space: int
    ) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Return the axes of one sample of an array, and the length of one of channels, if any."""
        rank, base = len(array.shape), 1 + space
        over_time = rank > base and not (rank == base + 1 and source == "force")
        dims = ("time", *SPACE[:space]) if over_time else SPACE[:space]
        channels = array.shape[1 + len(dims) :]
        if not 1 <= space <= 3 or rank < base or len(channels) > 1 or channels > (9,):
            raise self.error(
                f"{source} has shape {array.shape}; expected samples, perhaps times, {space} axes "
                f"of space and perhaps a channel: choose another importer, or {leave_out(source)}"
            )
        self.check_sample(source, array.shape[1:], array.shape[0])
        return dims, channels

    def _axis(self, name: str, length: int) -> Axis:
        file, source = self._file, "t-coordinate" if name == "time" else f"{name}-coordinate"
        array = file.array(file.root, source)
        if name == "time":
            array = array or file.array(file.root, "t")
        if array is None:
            self.remark_missing(name, f"{source} is missing")
            return importer.default_axis(name, length)
        points = np.atleast_1d(array.whole())
        if name == "time":
            points = points[..., :length]
        return self.given_axis(name, array.name, points, length)

    def _lay_out_groups(self) -> Layout:
        """Lay out a file with one group for each sample: `0000/data`, `0000/grid/x` and so on."""
        file = self._file
        names = self._names = sorted(file.members(file.root), key=_number)
        if not names:
            raise InputError(f"{self.path} is empty; expected tensor, or groups with data")
        first = self._data(names[0])
        *shape, channels = first.shape
        if not 1 <= (space := len(shape) - 1) <= 3:
            raise self.error(
                f"{first.name} has shape {first.shape}; expected times, one to three "
                "axes of space, and channels: choose another importer"
            )
        self.check_sample(first.name, first.shape, len(names))
        for array in map(self._data, names[1:]):
            if array.shape != first.shape:
                raise self.error(
                    f"{array.name} has shape {array.shape}, but {first.name} has {first.shape}; "
                    "expected the same in all groups: import them from separate files"
                )
        self._shape = tuple(shape)
        self._axes = self._axes_of(names[0])
        self._last: tuple[int, int] | None = None
        dims = tuple(axis.name for axis in self._axes)
        called = _CHANNELS.get((space, channels)) or [f"channel_{i}" for i in range(channels)]
        for i, name in enumerate(called):
            self.add(plain_field(name, "state", dims), f"data[{i}]", partial(self._channel, i))
        return self.layout(len(names), self._axes, file.attributes(file.root))

    def _data(self, name: str) -> FileArray:
        group = self._file.group(self._file.root, name)
        assert group is not None  # it is one of the members
        return self._file.needed(group, "data")

    def _axes_of(self, name: str) -> tuple[Axis, ...]:
        group = self._file.group(self._file.root, name)
        if (grid := group and self._file.group(group, "grid")) is None:
            raise self.error(
                f"group {name} has no grid; expected grid/t, grid/x and so on: "
                "choose another importer"
            )
        axes = []
        for axis, source, length in zip(("time", *SPACE), "txyz", self._shape, strict=False):
            points = self._file.needed(grid, source).whole()
            axes.append(self.given_axis(axis, f"{name}/grid/{source}", points, length))
        return tuple(axes)

    def _channel(self, channel: int, start: int, stop: int) -> np.ndarray:
        """Read one channel of some groups; all of them are read once, when the first is."""
        if self._last != (start, stop):
            self._channels = np.empty(0)
            names = self._names[start:stop]
            self._channels = np.stack([self._data(name).whole() for name in names])
            for name in names:
                for ours, theirs in zip(self._axes, self._axes_of(name), strict=True):
                    if not np.allclose(ours.points, theirs.points, rtol=1e-5, atol=1e-12):
                        raise self.error(
                            f"group {name} has other points along {ours.name} than "
                            f"{self._names[0]}; expected one grid: import them from separate files"
                        )
            self._last = start, stop
        return self._channels[..., channel]


def _guess_space(arrays: dict[str, FileArray]) -> int:
    for name, others in {"nu": 1, "force": 2}.items():
        if name in arrays:
            return len(arrays[name].shape) - others
    return max(len(array.shape) for array in arrays.values()) - 2


def _read(
    array: FileArray, pick: tuple[int, ...], squeeze: bool, start: int, stop: int
) -> np.ndarray:
    values = array.read(start, stop)[(..., *pick)]
    return values[:, 0] if squeeze else values


def _number(group: str) -> tuple[int, str]:
    """Return what groups are sorted by: their numbers, if they have such."""
    return (int(group), group) if group.isdecimal() and len(group) < 19 else (-1, group)


IMPORTER = PdeBench
