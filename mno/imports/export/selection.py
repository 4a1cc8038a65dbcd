"""What is exported: some fields of some samples of a store, read a few samples at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.imports.mapping import Mapping
from mno.imports.zarr import ZarrGroup

_BLOCK_BYTES = 32 * 2**20
_BLOCK_SAMPLES = 64


@dataclass(frozen=True)
class Run:
    """Samples that follow one another in the store, and in the export.

    Attributes:
        position: Where the first one is in the export.
        start: Number of the first one in the store.
        stop: One behind the last.
    """

    position: int
    start: int
    stop: int

    @property
    def place(self) -> slice:
        """Where they are in the export."""
        return slice(self.position, self.position + self.stop - self.start)


class Selection:
    """Fields and samples of an open store.

    Args:
        source: A dataset or a store of predictions: a Zarr group.
        fields: Names of fields; all if none are given. Coordinates of points always belong.
        samples: Numbers of samples, in the order of the export; all if not given.

    Attributes:
        fields: The fields.
        samples: Numbers of the samples.
        axes: The axes of the fields, time first.
        about: What the store says of the whole of it, as plain values.

    Raises:
        InputError: The store cannot be read, or has no such field or sample.
    """

    def __init__(
        self, source: Path, fields: Sequence[str] = (), samples: Sequence[int] | None = None
    ) -> None:
        self._group = ZarrGroup(source, Mapping(), default="output")
        found = self._group.contents
        known = [field.name for field in found.fields]
        unknown = [name for name in fields if name not in known]
        if unknown or not known:
            raise InputError(
                f"{source} has no field {unknown[0] if unknown else 'at all'}; it has "
                f"{', '.join(known) or 'none'}"
            )
        self.fields: tuple[Field, ...] = tuple(
            field
            for field in found.fields
            if not fields or field.name in fields or field.role == "coordinate"
        )
        self.samples = tuple(range(found.samples) if samples is None else samples)
        outside = [number for number in self.samples if not 0 <= number < found.samples]
        if outside or not self.samples:
            raise InputError(
                f"sample {outside[0] if outside else 'none'} is not in {source}; it has "
                f"{found.samples}, numbered from 0 to {found.samples - 1}"
            )
        used = {dim for field in self.fields for dim in field.dims}
        self.axes: tuple[Axis, ...] = tuple(axis for axis in found.axes if axis.name in used)
        self.about = found.parameters

    @property
    def lengths(self) -> dict[str, int]:
        """Number of points along each axis."""
        return {axis.name: len(axis.points) for axis in self.axes}

    def shape(self, field: Field) -> tuple[int, ...]:
        """Shape of a field in one sample."""
        return tuple(self.lengths[dim] for dim in field.dims)

    @property
    def sample_bytes(self) -> int:
        """Bytes of all fields of one sample, as float32."""
        return sum(4 * math.prod(self.shape(field)) for field in self.fields)

    @property
    def nbytes(self) -> int:
        """Bytes of all values, as float32."""
        return self.sample_bytes * len(self.samples)

    def per_sample(self) -> dict[str, np.ndarray]:
        """Return what else is known of each sample: its number, split, group and beginning."""
        chosen = np.asarray(self.samples, dtype=np.int64)
        contents = self._group.contents
        known = {
            "split": self._group.labels("split"),
            "group": contents.groups,
            "start": contents.starts,
        }
        told = {name: values[chosen] for name, values in known.items() if values is not None}
        return {"sample": chosen, **told}

    def runs(self) -> Iterator[Run]:
        """Yield the samples, a few at a time."""
        most = max(1, min(_BLOCK_SAMPLES, _BLOCK_BYTES // max(1, self.sample_bytes)))
        position = 0
        while position < len(self.samples):
            start = stop = self.samples[position]
            while (
                stop - start < most
                and position + stop - start < len(self.samples)
                and self.samples[position + stop - start] == stop
            ):
                stop += 1
            yield Run(position, start, stop)
            position += stop - start

    def read(self, field: Field, run: Run) -> np.ndarray:
        """Read a field of some samples, shape `(samples, *dims)`, float32."""
        return self._group.read(field.name, run.start, run.stop)

    def close(self) -> None:
        """Close the store."""
        self._group.close()

    def __enter__(self) -> Selection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
