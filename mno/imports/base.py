"""What an importer is: it says what is in a file, and reads it a few samples at a time.

An importer is one module of this package, named like its kind with underscores, that assigns its
class to `IMPORTER`. Files are untrusted: whatever is in one, an importer raises `InputError` with
one line (what was found, what was expected, what to do) and never runs code from it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.imports.mapping import Mapping as FieldMapping

MAX_SAMPLE_BYTES = 256 * 2**20
"""Largest size of one sample of one field, as float32: what a shard of one sample would hold."""

MAX_SAMPLES = 10_000_000


@dataclass(frozen=True, eq=False)
class Contents:
    """What a file holds, in the terms of a dataset.

    Attributes:
        samples: Number of samples.
        axes: Coordinate axes, time first, then those of space; `point` for unordered points.
        fields: What becomes of the file's arrays: names, units, roles, axes.
        sources: What the file calls each field, for people; by name of the field.
        parameters: What the file says of the whole of it, as plain values.
        groups: Which run or trajectory each sample is part of, shape `(samples,)`, int64; samples
            of one group stay in one split. None where every sample is its own.
        starts: When each sample begins, in seconds, shape `(samples,)`, float64; none where that
            has no meaning.
        remarks: What is worth knowing before an import, one sentence each.
    """

    samples: int
    axes: tuple[Axis, ...]
    fields: tuple[Field, ...]
    sources: Mapping[str, str]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    groups: np.ndarray | None = None
    starts: np.ndarray | None = None
    remarks: tuple[str, ...] = ()


class Importer(ABC):
    """One open file.

    Memory stays far below 1 GiB whatever the size of the file: `contents` reads no field, and
    `read` no more than it is asked for (and a few chunks around it).

    Args:
        path: The file, or the folder of a Zarr store.
        mapping: What the user says of it. Importers heed only what they need in order to find
            fields (`mapping.fields[name].role` where the file does not tell, `sensors`); names,
            units and extents are applied to `contents` for all importers alike (`MappedFile`).

    Raises:
        InputError: The file is not what it should be.
    """

    kind: ClassVar[str]
    version: ClassVar[int]
    """Raised with every change that makes other data of the same file."""

    @abstractmethod
    def __init__(self, path: Path, mapping: FieldMapping) -> None: ...

    @property
    @abstractmethod
    def contents(self) -> Contents:
        """What the file holds."""

    @abstractmethod
    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Read one field of some samples.

        Args:
            name: Of a field of `contents`.
            start: The first sample.
            stop: One behind the last.

        Returns:
            Values as the file has them, shape `(stop - start, *dims)`, float32.

        Raises:
            InputError: The file cannot be read there.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Importer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_sample(path: Path, name: str, shape: Sequence[int], samples: int) -> None:
    """Refuse shapes that no honest file has, or that would not fit into memory.

    Args:
        path: The file.
        name: What it calls the array.
        shape: Of one sample.
        samples: Their number.

    Raises:
        InputError: There is nothing in the array, or too much.
    """
    if samples < 1 or any(length < 1 for length in shape):
        raise InputError(
            f"{path}: {name} has {samples} samples of shape {tuple(shape)}; expected at least one "
            "value: give a file with data"
        )
    if samples > MAX_SAMPLES or 4 * math.prod(shape) > MAX_SAMPLE_BYTES:
        raise InputError(
            f"{path}: {name} claims {samples} samples of shape {tuple(shape)}; expected at most "
            f"{MAX_SAMPLES} samples of {MAX_SAMPLE_BYTES // 2**20} MiB each: cut or coarsen the "
            "arrays before the import"
        )


def check_numbers(path: Path, name: str, dtype: np.dtype) -> None:
    """Refuse an array that does not hold real numbers.

    Raises:
        InputError: It holds text, objects, complex numbers or records.
    """
    if dtype.kind not in "fiub":
        raise InputError(
            f"{path}: {name} holds {dtype}; expected real numbers: convert it, or leave it out by "
            f"`fields: {{{name}: {{drop: true}}}}` in a mapping file"
        )


def cell_centres(name: str, num_points: int, extent: tuple[float, float] = (0.0, 1.0)) -> Axis:
    """Return the axis of a file that says nothing of it: cell centres of an extent."""
    low, high = extent
    points = low + (np.arange(num_points) + 0.5) / num_points * (high - low)
    return Axis(name, "1", name, points, extent)


def axis_of_points(name: str, points: np.ndarray, units: str = "1") -> Axis:
    """Return the axis of coordinates that a file gives, with half a cell beyond both ends.

    Points on the ends of a domain cannot be told from cell centres, so they are taken for these.
    """
    points = np.asarray(points, dtype=np.float64)
    if name == "time" or len(points) == 1:
        extent = (float(points[0]), float(points[-1]))
    else:
        half = (points[-1] - points[0]) / (len(points) - 1) / 2
        extent = (float(points[0] - half), float(points[-1] + half))
    return Axis(name, units, name, points, extent)
