"""Samples of a dataset as torch takes them: named tensors, in the form that a model wants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.core.memory import available_memory, fits_in_memory
from mno.data.blocks import blocks
from mno.data.form import Form, Wanted
from mno.data.forms import Every
from mno.data.normalise import Normaliser
from mno.data.reading import Schema, open_split
from mno.data.stored import StoredArray


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
        wanted = Wanted(window, stride, every, as_points, points, normaliser, masked, seed)
        self._form = Form(self.fields, stored.schema.axes, wanted)
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
