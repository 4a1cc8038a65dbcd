"""PDEBench's HDF5 files (Takamoto et al., 2022, https://doi.org/10.18419/darus-2986).

Either one array holds all samples, `tensor` (sample, time, space…), with `nu` beside it for Darcy's
equation, or several of them do, such as `density` and `Vx`; or each sample is a group `0000`,
`0001`, … with `data` (time, space…, channel) and its own `grid`.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.imports.base import Contents, cell_centres, check_sample
from mno.imports.hdf5.array import StoredArray
from mno.imports.hdf5.files import Hdf5File, plain
from mno.imports.mapping import Mapping
from mno.imports.pdebench_groups import lay_out_groups
from mno.imports.shared.layout import SPACE, Layout, LayoutImporter, given_axis, plain_field, uneven

_COORDINATES = ("t-coordinate", "x-coordinate", "y-coordinate", "z-coordinate", "t")
_NAMES = {"Vx": "velocity_x", "Vy": "velocity_y", "Vz": "velocity_z"}


class PdeBench(LayoutImporter):
    """A file of PDEBench."""

    kind = "pdebench"
    version = 1

    def lay_out(self, path: Path, mapping: Mapping, stack: ExitStack) -> Layout:
        """Open the file and find its fields."""
        file = stack.enter_context(Hdf5File(path))
        arrays = [n for n in file.members(file.root) if file.is_array(file.root, n)]
        if not arrays:
            return lay_out_groups(file)
        return _Arrays(file, [n for n in arrays if n not in _COORDINATES], mapping).layout()


class _Arrays:
    """A file in which each array holds all samples."""

    def __init__(self, file: Hdf5File, names: list[str], mapping: Mapping) -> None:
        self._file = file
        self._path = file.path
        self._remarks: list[str] = []
        dropped = {name for name, rule in mapping.fields.items() if rule.drop}
        found = {n: file.needed(file.root, n) for n in names if n not in dropped}
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
        self._readers = {}
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
        axes = self._axes()
        contents = Contents(
            samples=count,
            axes=axes,
            fields=tuple(self._fields.values()),
            sources=self._sources,
            parameters=self._parameters,
            remarks=(*self._remarks, *uneven(axes)),
        )
        return Layout(contents, self._readers)

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
                f"leave it out by `fields: {{{source}: {{drop: true}}}}` in a mapping file"
            )
        shape = array.shape[1 : 1 + len(dims)]
        check_sample(self._path, source, array.shape[1:], samples)
        self._check_lengths(source, dims, shape)
        name = _name(source, steady)
        role = "state" if over_time else "input"
        if steady and source != "nu" and (not over_time or shape[0] == 1):
            role, dims = "output", space
        count = channels[0] if channels else 1
        for channel in range(count):
            label = name if count == 1 else f"{name}_{_suffix(channel, count, self._space)}"
            self._fields[label] = plain_field(label, role, dims)
            self._sources[label] = source if count == 1 else f"{source}[{channel}]"
            pick = (channel,) if channels else ()
            self._readers[label] = partial(_read, array, pick, over_time and role == "output")

    def _check_lengths(self, source: str, dims: tuple[str, ...], shape: tuple[int, ...]) -> None:
        for dim, length in zip(dims, shape, strict=True):
            known = self._lengths.setdefault(dim, length)
            if known != length:
                raise InputError(
                    f"{self._path}: {source} has {length} points along {dim}, others {known}; "
                    "expected all arrays on one grid: leave some out by `drop: true` in a mapping "
                    "file"
                )

    def _axes(self) -> tuple[Axis, ...]:
        used = [d for d in ("time", *SPACE) if any(d in f.dims for f in self._fields.values())]
        return tuple(self._axis(name, self._lengths[name]) for name in used)

    def _axis(self, name: str, length: int) -> Axis:
        source = "t-coordinate" if name == "time" else f"{name}-coordinate"
        array = self._file.array(self._file.root, source)
        if array is None and name == "time":
            array = self._file.array(self._file.root, "t")
        if array is not None:
            points = array.whole()
            if name == "time":
                points = _one_time(self._path, array.name, points)[:length]
            return given_axis(self._path, name, array.name, points, length)
        if name == "time":
            self._remarks.append(f"{source} is missing; frames are numbered from 0")
            return given_axis(self._path, name, source, np.arange(float(length)), length)
        self._remarks.append(
            f"{source} is missing; points are taken as the centres of cells from 0 to 1"
        )
        return cell_centres(name, length)


def _name(source: str, steady: bool) -> str:
    if source == "nu":
        return "permeability"
    if source == "tensor":
        return "pressure" if steady else "velocity"
    return _NAMES.get(source, source)


def _suffix(channel: int, channels: int, space: int) -> str:
    return SPACE[channel] if channels == space else str(channel)


def _one_time(path: Path, source: str, times: np.ndarray) -> np.ndarray:
    """Return the times of all samples, which may be given for each."""
    if times.ndim == 2 and (times == times[0]).all():
        return times[0]
    if times.ndim == 2:
        raise InputError(
            f"{path}: {source} gives other times for other samples; expected one time axis: import "
            "files with the same times"
        )
    return times


def _read(
    array: StoredArray, pick: tuple[int, ...], squeeze: bool, start: int, stop: int
) -> np.ndarray:
    """Return some samples of one channel; without the axis of time if it is to be left out."""
    values = array.samples(start, stop, pick)
    return values[:, 0] if squeeze else values


IMPORTER = PdeBench
