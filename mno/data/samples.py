"""Samples of a dataset as torch takes them: named tensors, in the form that a model wants."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from mno.data.reading import Schema, Split, StoredArray, StoredSplit, blocks, open_split

Every = int | Sequence[int] | Mapping[str, int]
"""Of every axis, or of each in order or by name: one of how many points is taken."""


class Samples(Dataset[dict[str, Tensor]]):
    """The samples of one split of a dataset; each is a dict of float32 tensors by field name.

    Files are opened when they are read and closed at once, so that it may be pickled, and used by
    worker processes however they are started. `Loader` makes batches of it; so does torch's own
    `DataLoader`.

    Args:
        store: The dataset's folder; or a split that is open already, as it is.
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
        in_memory: Whether the samples lie in memory.
        epoch: Decides which points are drawn; set it, or let `Loader` do so.

    Raises:
        InputError: The folder is not a released dataset, or has nothing of what is asked for.
        MnoError: A file of the dataset is missing or damaged.
    """

    def __init__(
        self,
        store: Path | str | Split | StoredSplit,
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
        stored = store if isinstance(store, Split | StoredSplit) else None
        stored = stored or open_split(Path(str(store)), split, checked=verify)
        self.schema, self.indices, self.epoch = stored.schema, stored.indices, 0
        self.fields = _chosen(stored.schema, fields)
        self._window, self._stride, self._points = window, stride, points
        self._normaliser, self._masked, self._seed = normaliser, masked, seed
        steps = _steps(every, self.schema.space)
        self.axes = tuple(
            replace(axis, points=axis.points[:: steps.get(axis.name, 1)])
            for axis in self.schema.axes
        )
        self._per_sample = _windows(window, stride, self.fields, self.schema.axes)
        space = [axis for axis in self.axes if axis.name != "time"]
        on_grid = [axis.name for axis in space] != ["point"]
        self._flat = as_points and on_grid
        self._places = _places(space, self.fields) if self._flat else {}
        self._total = math.prod(len(axis.points) for axis in space)
        if points is not None and on_grid and not as_points:
            raise InputError(
                f"points={points} draws unordered points, but the dataset is on a grid; set "
                "as_points=True as well"
            )
        if points is not None and not 1 <= points <= self._total:
            raise InputError(
                f"points={points} cannot be drawn from {self._total}; give 1 to {self._total}"
            )
        unknown = [f.name for f in self.fields if normaliser and f.name not in normaliser.mean]
        if normaliser and unknown:
            raise InputError(
                f"the normaliser knows nothing of {', '.join(unknown)}; choose fields among "
                f"{', '.join(normaliser.mean)}"
            )
        self._kept = {
            f.name: (slice(None), *(slice(None, None, steps.get(name, 1)) for name in f.dims))
            for f in self.fields
        }
        self._arrays: dict[str, StoredArray | np.ndarray] = {
            field.name: stored.fields[field.name] for field in self.fields
        }
        self.in_memory = isinstance(stored, Split)
        if not self.in_memory:
            size = sum(math.prod(self._shape(name)) for name in self._arrays)
            self.in_memory = _is_to_load(in_memory, size * StoredArray.dtype.itemsize)
        if self.in_memory:
            self._arrays = {name: self._loaded(name) for name in self._arrays}

    def _shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of what is kept of a field."""
        kept = zip(self._arrays[name].shape, self._kept[name], strict=True)
        return tuple(len(range(n)[part]) for n, part in kept)

    def _loaded(self, name: str) -> np.ndarray:
        array, kept = self._arrays[name], self._kept[name]
        if isinstance(array, np.ndarray):
            return array[kept]
        values = np.empty(self._shape(name), array.dtype)
        for block in blocks(array):
            values[block] = array[block][kept]
        return values

    def __len__(self) -> int:
        return len(self.indices) * self._per_sample

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
        drawn = self._drawn(items, self.epoch if epoch is None else epoch)
        batch: dict[str, np.ndarray] = {}
        for field in self.fields:
            values = self._formed(field, items, drawn)
            if self._masked and field.gaps:
                present = ~np.isnan(values)
                batch[field.name] = np.where(present, values, np.float32(0))
                batch[f"{field.name}_present"] = present
            else:
                batch[field.name] = values
        for name, places in self._places.items():
            batch[name] = np.tile(places, (len(items), 1)) if drawn is None else places[drawn]
        return {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in batch.items()}

    def _drawn(self, items: np.ndarray, epoch: int) -> np.ndarray | None:
        """Return the points drawn for each item, ascending, shape `(batch, points)`."""
        if self._points is None:
            return None
        drawn = []
        for item in items:
            sequence = np.random.SeedSequence(self._seed, spawn_key=(epoch, int(item), 0))
            rng = np.random.default_rng(sequence)
            drawn.append(np.sort(rng.choice(self._total, self._points, replace=False)))
        return np.stack(drawn)

    def _formed(self, field: Field, items: np.ndarray, drawn: np.ndarray | None) -> np.ndarray:
        """Return a field of items in the form that is asked for, but for its gaps."""
        array, samples = self._arrays[field.name], items // self._per_sample
        values = array[samples]
        if isinstance(array, StoredArray):  # in memory is what is kept and no more
            values = values[self._kept[field.name]]
        if self._window and "time" in field.dims:
            first = items % self._per_sample * self._stride
            frames = first[:, None] + np.arange(self._window)
            values = values[np.arange(len(values))[:, None], frames]
        space = [name for name in field.dims if name != "time"]
        if self._flat and space:
            values = values.reshape(*values.shape[: values.ndim - len(space)], -1)
        if drawn is not None and space:
            index = drawn if values.ndim == 2 else drawn[:, None, :]
            values = np.take_along_axis(values, index, axis=-1)
        if self._normaliser:
            values = self._normaliser.encode(field.name, values)
        return values.astype(np.float32, copy=False)


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


def _windows(length: int | None, stride: int, fields: Sequence[Field], axes: Sequence[Axis]) -> int:
    """Return how many windows a sample has; one, the whole, where no length is given."""
    if length is None:
        return 1
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
    return (frames - length) // stride + 1


def _steps(every: Every, space: Sequence[Axis]) -> dict[str, int]:
    """Return by axis of space which of its points are taken: one of so many."""
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


def _places(axes: Sequence[Axis], fields: Sequence[Field]) -> dict[str, np.ndarray]:
    """Return the coordinates of all points of a grid, shape `(points,)`, float32, by axis."""
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


def _is_to_load(asked: bool | Literal["auto"], size: int) -> bool:
    if asked == "auto":
        return fits_in_memory(size)
    if asked and size > available_memory():
        raise InputError(
            f"in_memory=True: the samples take {size / 2**30:.3g} GiB, and only "
            f"{available_memory() / 2**30:.3g} GiB are available; set in_memory=False"
        )
    return asked
