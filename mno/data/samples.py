"""Samples of a dataset as torch takes them: named tensors, in the form that a model wants."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.core.memory import available_memory, fits_in_memory
from mno.data.normalise import Normaliser
from mno.data.reading import Schema, StoredArray, blocks, open_split

Every = int | Sequence[int] | Mapping[str, int]
"""Of every axis, or of each in order or by name: one of how many points is taken."""


@dataclass(frozen=True)
class Windows:
    """Windows of consecutive frames in every sample.

    Attributes:
        length: Frames of a window.
        stride: Frames from the beginning of a window to that of the next.
        frames: Frames of a sample.
    """

    length: int
    stride: int
    frames: int

    @property
    def per_sample(self) -> int:
        """Windows of one sample."""
        return (self.frames - self.length) // self.stride + 1

    def cut(self, values: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return a window of each sample, shape `(samples, length, *space)`.

        Args:
            values: Shape `(samples, frames, *space)`.
            positions: Which window, shape `(samples,)`, from 0 to below `per_sample`.
        """
        frames = (positions * self.stride)[:, None] + np.arange(self.length)
        return values[np.arange(len(values))[:, None], frames]


def windows_of(
    length: int | None, stride: int, fields: Sequence[Field], axes: Sequence[Axis]
) -> Windows | None:
    """Return the windows of some frames, or none if no length is given.

    Raises:
        InputError: No field has frames, or no window fits.
    """
    if length is None:
        return None
    if not any("time" in field.dims for field in fields):
        raise InputError(
            f"window={length}: no field has a time axis among "
            f"{', '.join(field.name for field in fields)}; leave the window out"
        )
    (frames,) = (len(axis.points) for axis in axes if axis.name == "time")
    if not 1 <= length <= frames or stride < 1:
        raise InputError(
            f"window={length} with stride={stride} does not fit: a sample has {frames} frames; "
            f"give a window of 1 to {frames} and a stride of 1 or more"
        )
    return Windows(length, stride, frames)


def steps_of(every: Every, space: Sequence[Axis]) -> dict[str, int]:
    """Return by axis of space which of its points are taken: one of so many.

    Raises:
        InputError: It does not fit the axes.
    """
    names = [axis.name for axis in space]
    if isinstance(every, int):
        steps = dict.fromkeys(names, every)
    elif isinstance(every, Mapping):
        steps = dict.fromkeys(names, 1) | dict(every)
    else:
        steps = dict(zip(names, every, strict=True)) if len(every) == len(names) else {}
    if list(steps) != names or any(step < 1 for step in steps.values()):
        raise InputError(
            f"every={every!r} does not fit the axes {', '.join(names)}; give one number, 1 or "
            "more, or one for each of them"
        )
    return steps


def flattened(values: np.ndarray, axes: int) -> np.ndarray:
    """Make one axis of points of the last axes, which are those of a grid."""
    return values.reshape(*values.shape[: values.ndim - axes], -1)


def places_of(axes: Sequence[Axis], fields: Sequence[Field]) -> dict[str, np.ndarray]:
    """Return the coordinates of all points of a grid, shape `(points,)`, float32, by axis.

    Raises:
        InputError: A field lies on some of the axes only, or has the name of one.
    """
    names = tuple(axis.name for axis in axes)
    for field in fields:
        on = tuple(name for name in field.dims if name != "time")
        if on not in ((), names) or field.name in names:
            raise InputError(
                f"as_points: field {field.name} lies on ({', '.join(field.dims)}), and the points "
                f"on ({', '.join(names)}); choose other fields"
            )
    grids = np.meshgrid(*(axis.points for axis in axes), indexing="ij")
    return {name: grid.ravel().astype(np.float32) for name, grid in zip(names, grids, strict=True)}


def drawn_points(count: int, total: int, seed: int, epoch: int, item: int) -> np.ndarray:
    """Draw points of an item in an epoch, without repetition, in ascending order."""
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch, item, 0))
    return np.sort(np.random.default_rng(sequence).choice(total, count, replace=False))


def with_presence(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Return values with 0 for what is missing, and beside them which are present."""
    present = ~np.isnan(values)
    return {name: np.where(present, values, np.float32(0)), f"{name}_present": present}


@dataclass(frozen=True)
class FormOptions:
    """What is asked for; `mno.data.Samples` says what each means."""

    window: int | None = None
    stride: int = 1
    every: Every = 1
    as_points: bool = False
    points: int | None = None
    normaliser: Normaliser | None = None
    masked: bool = False
    seed: int = 0


class Form:
    """Makes items of the values of samples.

    Args:
        fields: Of an item.
        axes: Of the dataset.
        wanted: What is asked for.

    Attributes:
        axes: The axes with the points that are taken.
        windows: Windows in time, if there are any.

    Raises:
        InputError: The fields and axes do not allow it.
    """

    def __init__(self, fields: Sequence[Field], axes: Sequence[Axis], wanted: FormOptions) -> None:
        self.fields, self.wanted = tuple(fields), wanted
        space = [axis for axis in axes if axis.name != "time"]
        self._steps = steps_of(wanted.every, space)
        self.axes = tuple(
            replace(axis, points=axis.points[:: self._steps.get(axis.name, 1)]) for axis in axes
        )
        self.windows: Windows | None = windows_of(wanted.window, wanted.stride, fields, axes)
        on_grid = [axis.name for axis in space] != ["point"]
        self._flat = wanted.as_points and on_grid
        thinned = [axis for axis in self.axes if axis.name != "time"]
        self._places = places_of(thinned, fields) if self._flat else {}
        self._total = math.prod(len(axis.points) for axis in thinned)
        if wanted.points is not None and on_grid and not wanted.as_points:
            raise InputError(
                f"points={wanted.points} draws unordered points, but the dataset is on a grid; set "
                "as_points=True as well"
            )
        if wanted.points is not None and not 1 <= wanted.points <= self._total:
            raise InputError(
                f"points={wanted.points} cannot be drawn from {self._total}; give 1 to "
                f"{self._total}"
            )
        if wanted.normaliser:
            _require_known(wanted.normaliser, fields)

    @property
    def items_per_sample(self) -> int:
        """How many items a sample makes."""
        return self.windows.per_sample if self.windows else 1

    def kept(self, field: Field) -> tuple[slice, ...]:
        """Return the points that are taken of a field's values, shape `(samples, *dims)`."""
        return (
            slice(None),
            *(slice(None, None, self._steps.get(name, 1)) for name in field.dims),
        )

    def __call__(
        self, values: Mapping[str, np.ndarray], items: np.ndarray, epoch: int
    ) -> dict[str, np.ndarray]:
        """Return items.

        Args:
            values: The points taken of each item's sample, shape `(batch, *dims)`, by field name.
            items: The items' numbers.
            epoch: Of the drawn points.
        """
        drawn = self._drawn(items, epoch)
        batch: dict[str, np.ndarray] = {}
        for field in self.fields:
            made = values[field.name]
            if self.windows and "time" in field.dims:
                made = self.windows.cut(made, items % self.windows.per_sample)
            space = [name for name in field.dims if name != "time"]
            if self._flat and space:
                made = flattened(made, len(space))
            if drawn is not None and space:
                index = drawn if made.ndim == 2 else drawn[:, None, :]
                made = np.take_along_axis(made, index, axis=-1)
            if self.wanted.normaliser:
                made = self.wanted.normaliser.encode(field.name, made)
            batch |= with_presence(field.name, made) if self.wanted.masked and field.gaps else {}
            batch.setdefault(field.name, made)
        for name, places in self._places.items():
            batch[name] = np.tile(places, (len(items), 1)) if drawn is None else places[drawn]
        return {name: np.ascontiguousarray(made) for name, made in batch.items()}

    def _drawn(self, items: np.ndarray, epoch: int) -> np.ndarray | None:
        """Return the points drawn for each item, shape `(batch, points)`."""
        count, seed = self.wanted.points, self.wanted.seed
        if count is None:
            return None
        return np.stack([drawn_points(count, self._total, seed, epoch, int(n)) for n in items])


def _require_known(normaliser: Normaliser, fields: Sequence[Field]) -> None:
    unknown = [field.name for field in fields if field.name not in normaliser.mean]
    if unknown:
        raise InputError(
            f"the normaliser knows nothing of {', '.join(unknown)}; choose fields among "
            f"{', '.join(normaliser.mean)}"
        )


class Samples(Dataset[dict[str, Tensor]]):
    """The samples of one split of a dataset; each is a dict of float32 tensors by field name.

    Files are opened when they are read and closed at once, so that it may be pickled, and used by
    worker processes however they are started. `Loader` makes batches of it; so does torch's own
    `DataLoader`.

    Args:
        store: The dataset's folder.
        split: `train`, `validation` or `test`.
        fields: Names of the fields of an item; all of them if not given.
        window: Frames of an item: then every window of every sample is an item, those of one sample
            one after the other. Fields without a time axis come whole with each of them.
        stride: Frames from the beginning of a window to that of the next.
        every: Take one of so many points along the axes of space: one number, or one for each axis,
            in order or by name.
        as_points: Give a grid as unordered points, shape `(points,)` or `(frames, points)`, with
            their coordinates as further fields, named like the axes, in the axes' units.
        points: Draw so many of the unordered points for each item, anew in every epoch.
        normaliser: Brings fields to zero mean and unit deviation; physical units if not given.
        masked: Give a field with gaps 0 where a value is missing, and beside it `<name>_present`,
            a bool tensor. Otherwise missing values are NaN.
        in_memory: Whether all samples are read into memory now; `"auto"` where they take at most a
            quarter of the memory that is available. Otherwise each is read when it is asked for,
            with all of its frames and points, which are compressed together.
        verify: Whether every file's checksum is verified now, for which every byte is read.
        seed: Of the drawn points.

    Attributes:
        schema: Of the dataset.
        fields: The fields of an item.
        axes: The axes with the points that are taken, that of time whole.
        indices: Numbers of the samples in the dataset, shape `(samples,)`.
        epoch: Decides which points are drawn; set it, or let `Loader` do so.

    Raises:
        InputError: The folder is not a released dataset, or has nothing of what is asked for.
        MnoError: A file of the dataset is missing or damaged.
    """

    def __init__(
        self,
        store: Path | str,
        split: str = "train",
        *,
        fields: Sequence[str] | None = None,
        window: int | None = None,
        stride: int = 1,
        every: Every = 1,
        as_points: bool = False,
        points: int | None = None,
        normaliser: Normaliser | None = None,
        masked: bool = False,
        in_memory: bool | Literal["auto"] = "auto",
        verify: bool = True,
        seed: int = 0,
    ) -> None:
        stored = open_split(Path(store), split, checked=verify)
        self.schema, self.indices, self.epoch = stored.schema, stored.indices, 0
        self.fields = _chosen(stored.schema, fields)
        options = FormOptions(window, stride, every, as_points, points, normaliser, masked, seed)
        self._form = Form(self.fields, stored.schema.axes, options)
        self._kept = {field.name: self._form.kept(field) for field in self.fields}
        arrays = {field.name: stored.fields[field.name] for field in self.fields}
        self._arrays: dict[str, StoredArray | np.ndarray] = dict(arrays)
        if _is_to_load(in_memory, sum(_bytes(a, self._kept[name]) for name, a in arrays.items())):
            self._arrays = {name: _loaded(a, self._kept[name]) for name, a in arrays.items()}

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes with the points that are taken, that of time whole."""
        return self._form.axes

    @property
    def in_memory(self) -> bool:
        """Whether the samples lie in memory."""
        return all(isinstance(array, np.ndarray) for array in self._arrays.values())

    def __len__(self) -> int:
        return len(self.indices) * self._form.items_per_sample

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        """Return one item."""
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[int]) -> list[dict[str, Tensor]]:
        """Return several items, read together; torch's `DataLoader` asks for a batch so."""
        batch = self.batch(np.asarray(items))
        return [{name: values[row] for name, values in batch.items()} for row in range(len(items))]

    def batch(self, items: np.ndarray, epoch: int | None = None) -> dict[str, Tensor]:
        """Return items as one batch: each field of all of them as one tensor.

        Args:
            items: Their numbers, shape `(batch,)`.
            epoch: Decides which points are drawn; the attribute `epoch` if not given.

        Raises:
            IndexError: There is no such item.
            MnoError: A file of the dataset is missing or damaged.
        """
        items = np.asarray(items, dtype=np.int64)
        if ((items < -len(self)) | (items >= len(self))).any():
            raise IndexError(f"items {items.min()} to {items.max()} are not all of {len(self)}")
        items = items % len(self)
        samples = items // self._form.items_per_sample
        values = {name: self._read(name, samples) for name in self._arrays}
        made = self._form(values, items, self.epoch if epoch is None else epoch)
        return {name: torch.from_numpy(array) for name, array in made.items()}

    def _read(self, name: str, samples: np.ndarray) -> np.ndarray:
        array = self._arrays[name]
        if isinstance(array, np.ndarray):  # has what is kept and no more
            return array[samples]
        return array[samples][self._kept[name]]


def _chosen(schema: Schema, names: Sequence[str] | None) -> tuple[Field, ...]:
    if names is None:
        return schema.fields
    known = {field.name: field for field in schema.fields}
    unknown = [name for name in names if name not in known]
    if unknown or not names or isinstance(names, str):
        raise InputError(
            f"fields={names!r}: expected a list of names among {', '.join(known)}; leave it out "
            "for all of them"
        )
    return tuple(known[name] for name in dict.fromkeys(names))


def _is_to_load(asked: bool | Literal["auto"], size: int) -> bool:
    if asked == "auto":
        return fits_in_memory(size)
    if asked and size > available_memory():
        raise InputError(
            f"in_memory=True: the samples take {size / 2**30:.3g} GiB, and only "
            f"{available_memory() / 2**30:.3g} GiB are available; set in_memory=False"
        )
    return asked


def _shape(array: StoredArray, kept: tuple[slice, ...]) -> tuple[int, ...]:
    return tuple(len(range(n)[part]) for n, part in zip(array.shape, kept, strict=True))


def _bytes(array: StoredArray, kept: tuple[slice, ...]) -> int:
    return math.prod(_shape(array, kept)) * array.dtype.itemsize


def _loaded(array: StoredArray, kept: tuple[slice, ...]) -> np.ndarray:
    """Read what is kept of all samples, block by block."""
    values = np.empty(_shape(array, kept), array.dtype)
    for block in blocks(array):
        values[block] = array[block][kept]
    return values
