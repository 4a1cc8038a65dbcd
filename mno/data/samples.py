"""Samples of a dataset as torch takes them: named tensors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mno.core.errors import InputError
from mno.core.fields import Field
from mno.core.memory import fits_in_memory
from mno.data.normalise import Normaliser
from mno.data.reading import Schema, Split, StoredArray, StoredSplit, open_split


class Samples(Dataset[dict[str, Tensor]]):
    """The samples of one split of a dataset; each is a dict of float32 tensors by field name.

    Files are opened when they are read and closed at once, so that it may be pickled, and used by
    worker processes however they are started. `Loader` makes batches of it; so does torch's own
    `DataLoader`. A missing value is NaN.

    Args:
        store: The dataset's folder; or a split that is open already, as it is.
        split: `train`, `validation` or `test`.
        fields: Names of the fields of an item; all of them if not given.
        normaliser: Brings fields to zero mean and unit deviation, on their scales; physical units
            if not given.
        in_memory: Whether all samples are read into memory now; `"auto"` where they take at most a
            quarter of the memory that is available. Otherwise each is read when it is asked for.
        verify: Whether every file's checksum is verified now, for which every byte is read.

    Attributes:
        schema: Of the dataset.
        fields: The fields of an item.
        indices: Numbers of the samples in the dataset, shape `(samples,)`.
        in_memory: Whether the samples lie in memory.

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
        normaliser: Normaliser | None = None,
        in_memory: bool | Literal["auto"] = "auto",
        verify: bool = True,
    ) -> None:
        stored = store if isinstance(store, Split | StoredSplit) else None
        stored = stored or open_split(Path(str(store)), split, checked=verify)
        self.schema, self.indices = stored.schema, stored.indices
        self.fields = _chosen(stored.schema, fields)
        self._normaliser = normaliser
        names = [field.name for field in self.fields]
        others = {normaliser.reference(name) for name in names} if normaliser else set()
        names += [name for name in stored.fields if name in others and name not in names]
        self._arrays: dict[str, StoredArray | np.ndarray] = {n: stored.fields[n] for n in names}
        self.in_memory = isinstance(stored, Split)
        if not self.in_memory:
            size = sum(array.nbytes for array in self._arrays.values())
            self.in_memory = fits_in_memory(size) if in_memory == "auto" else in_memory
            if self.in_memory:
                self._arrays = {name: array[:] for name, array in self._arrays.items()}

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[int]) -> list[dict[str, Tensor]]:
        """Return several items, read together; torch's `DataLoader` asks for a batch so."""
        batch = self.batch(np.asarray(items))
        return [{name: values[row] for name, values in batch.items()} for row in range(len(items))]

    def batch(self, items: np.ndarray, epoch: int = 0) -> dict[str, Tensor]:
        """Return items, by their numbers, as one batch, which is the same in every epoch.

        An `IndexError` says that there is no such item; an `InputError` that a logarithm is wanted
        of a value not above 0; an `MnoError` that a file of the dataset is missing or damaged.
        """
        items = np.asarray(items, dtype=np.int64)
        if ((items < -len(self)) | (items >= len(self))).any():
            raise IndexError(f"items {items.min()} to {items.max()} are not all of {len(self)}")
        items = items % len(self)
        read = {name: array[items] for name, array in self._arrays.items()}
        batch = {}
        for field in self.fields:
            values = read[field.name]
            if self._normaliser:
                values = self._normaliser.encode(field.name, values, read)
            batch[field.name] = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
        return batch


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
