"""PDEBench's files with one group for each sample: `0000/data`, `0000/grid/x` and so on."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core.errors import InputError
from mno.core.fields import Axis
from mno.imports.base import Contents, check_sample
from mno.imports.hdf5.array import StoredArray
from mno.imports.hdf5.files import Hdf5File, plain
from mno.imports.shared.layout import SPACE, Layout, given_axis, plain_field, uneven

# Names of the channels, by number of space axes and of channels.
_CHANNELS = {
    (1, 1): ("concentration",),
    (2, 1): ("depth",),
    (2, 2): ("activator", "inhibitor"),
}
_MAX_VALUES = 200


def lay_out_groups(file: Hdf5File) -> Layout:
    """Find the fields of a file of groups.

    Raises:
        InputError: It has no groups of that kind, or they differ.
    """
    groups = sorted(file.members(file.root), key=_number)
    if not groups:
        raise InputError(f"{file.path} is empty; expected tensor, or groups with data")
    first = _data(file, groups[0])
    *shape, channels = first.shape
    space = len(shape) - 1
    if not 1 <= space <= 3:
        raise InputError(
            f"{file.path}: {first.name} has shape {first.shape}; expected times, one to three axes "
            "of space, and channels: choose another importer"
        )
    check_sample(file.path, first.name, first.shape, len(groups))
    for group in groups[1:]:
        _check_shape(_data(file, group), first)
    names = _CHANNELS.get((space, channels)) or tuple(f"channel_{i}" for i in range(channels))
    axes = _axes(file, groups[0], tuple(shape))
    remarks = [*_holes(groups), *uneven(axes)]
    parameters = file.attributes(file.root)
    config = file.attribute(file.root[groups[0]], "config")
    if config is not None:
        values, remark = parse_config(config, groups[0])
        parameters["config"] = values
        remarks += [remark] if remark else []
    dims = tuple(axis.name for axis in axes)
    contents = Contents(
        samples=len(groups),
        axes=axes,
        fields=tuple(plain_field(name, "state", dims) for name in names),
        sources={name: f"data[{i}]" for i, name in enumerate(names)},
        parameters=parameters,
        remarks=tuple(remarks),
    )
    samples = _Samples(file, groups, axes)
    readers = {name: partial(samples.read, channel) for channel, name in enumerate(names)}
    return Layout(contents, readers)


def _number(group: str) -> tuple[int, str]:
    """Return what groups are sorted by: their numbers, if they have such."""
    return (int(group), group) if group.isdecimal() and len(group) < 19 else (-1, group)


def _holes(groups: list[str]) -> list[str]:
    numbers = [_number(group)[0] for group in groups]
    missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    if numbers[0] < 0 or (numbers[0] == 0 and missing == 0):
        return []
    holes = f", and {missing} numbers in between are missing" if missing else ""
    return [f"groups go from {groups[0]} to {groups[-1]}{holes}; samples are numbered from 0"]


def _data(file: Hdf5File, name: str) -> StoredArray:
    group = file.group(file.root, name)
    assert group is not None  # it is one of the members
    return file.needed(group, "data")


def _check_shape(array: StoredArray, first: StoredArray) -> None:
    if array.shape != first.shape:
        raise InputError(
            f"{array.path}: {array.name} has shape {array.shape}, but {first.name} has "
            f"{first.shape}; expected the same in all groups: import them from separate files"
        )


def _axes(file: Hdf5File, name: str, shape: tuple[int, ...]) -> tuple[Axis, ...]:
    group = file.group(file.root, name)
    assert group is not None  # its data have been found
    grid = file.group(group, "grid")
    if grid is None:
        raise InputError(
            f"{file.path}: group {name} has no grid; expected grid/t, grid/x and so on: choose "
            "another importer"
        )
    axes = []
    for axis, length in zip(("time", *SPACE), shape, strict=False):
        source = "t" if axis == "time" else axis
        points = file.needed(grid, source).whole()
        axes.append(given_axis(file.path, axis, f"{name}/grid/{source}", points, length))
    return tuple(axes)


class _Samples:
    """The samples of all groups, of which channels are read one after the other."""

    def __init__(self, file: Hdf5File, groups: list[str], axes: tuple[Axis, ...]) -> None:
        self._file, self._groups, self._axes = file, groups, axes
        self._shape = tuple(len(axis.points) for axis in axes)
        self._last: tuple[int, int] | None = None
        self._channels = np.empty(0, dtype=np.float32)

    def read(self, channel: int, start: int, stop: int) -> np.ndarray:
        """Read one channel of some groups."""
        if self._last != (start, stop):  # once for all channels
            self._last, self._channels = None, np.empty(0, dtype=np.float32)
            self._channels = self._read(start, stop)
            self._last = start, stop
        return self._channels[channel]

    def _read(self, start: int, stop: int) -> np.ndarray:
        """Read all channels of some groups, shape `(channels, groups, *dims)`."""
        arrays = [_data(self._file, name) for name in self._groups[start:stop]]
        *_, channels = arrays[0].shape
        out = np.empty((channels, stop - start, *self._shape), dtype=np.float32)
        for row, array in enumerate(arrays):
            self._check_axes(self._groups[start + row])
            array.read_channels(out[:, row])
        return out

    def _check_axes(self, group: str) -> None:
        found = _axes(self._file, group, self._shape)
        for ours, theirs in zip(self._axes, found, strict=True):
            if not np.allclose(ours.points, theirs.points, rtol=1e-5, atol=1e-12):
                raise InputError(
                    f"{self._file.path}: group {group} has other points along {ours.name} than "
                    f"{self._groups[0]}; expected one grid: import them from separate files"
                )


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
