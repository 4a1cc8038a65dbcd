"""The samples of one array in a Zarr group, read by whole chunks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from mno.core.errors import InputError, first_line
from mno.core.files import file_sha256
from mno.imports.shared.packing import Packing
from mno.imports.shared.tiles import Box, SampleTiles, boxes
from mno.imports.zarr_metadata import ArrayMetadata

_KEPT = 32 * 2**20  # bytes of chunks that reach beyond what was asked for


class ZarrRows:
    """An array whose samples are read a few at a time, though a chunk may hold many.

    Args:
        path: The group's folder.
        array: What is known of the array.
        axis: Its axis of samples; where it has none, all samples have the same values.
        recorded: SHA-256 of files in the group, where it records any, by path.
    """

    def __init__(
        self, path: Path, array: ArrayMetadata, axis: int | None, recorded: Mapping[str, Any]
    ) -> None:
        self._path, self._array, self._axis = path, array, axis
        self._packing = Packing.of(array.attributes, _fill(array))
        self._opened: Any = None
        self._kept = (0, 0, np.empty(0))
        self._tiles: SampleTiles | None = None
        self._unchecked: dict[int, list[str]] = defaultdict(list)
        self._recorded = recorded
        for name in recorded:
            parts = name.split("/")
            if parts[:2] == [array.name, "c"] and len(parts) > 2 and parts[2].isdigit():
                self._unchecked[int(parts[2])].append(name)

    @property
    def has_gaps(self) -> bool:
        """Whether some value stands for a missing one, other than NaN."""
        return bool(self._packing.missing)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read some samples, shape `(stop - start, *)`.

        Raises:
            InputError: They cannot be read, or are not as recorded.
        """
        if self._axis is None:
            whole = self._packing.unpack(self.whole())
            return np.broadcast_to(whole, (stop - start, *whole.shape))
        self._check(start, stop)
        return self._packing.unpack(self._rows(start, stop))

    def whole(self) -> np.ndarray:
        """Read the whole array, as it is stored."""
        return self._read(...)

    def _rows(self, start: int, stop: int) -> np.ndarray:
        """Return rows, from chunks that are read once for all that ask for a part of them."""
        axis = self._axis or 0
        length, size = self._array.shape[axis], self._array.chunks[axis]
        first, last = start // size * size, min(-(-stop // size) * size, length)
        if (first, last) == (start, stop):
            return self._slab(start, stop)
        low, high, kept = self._kept
        if not (low <= start and stop <= high):
            row = math.prod(self._array.shape) // length * np.dtype(self._array.dtype).itemsize
            if (last - first) * row > _KEPT:
                return self._tiled(start, stop)
            self._kept = (0, 0, np.empty(0))
            kept, low = self._slab(first, last), first
            self._kept = (first, last, kept)
        return kept[start - low : stop - low]

    def _tiled(self, start: int, stop: int) -> np.ndarray:
        """Return rows of an array whose chunks hold too many to be kept in memory."""
        if self._tiles is None:
            shape, axis = self._array.shape, self._axis or 0
            order = (axis, *(i for i in range(len(shape)) if i != axis))
            rows = tuple(shape[i] for i in order)
            item = np.dtype(self._array.dtype).itemsize

            def parts() -> Iterator[tuple[Box, np.ndarray]]:
                self._check(0, shape[axis])
                for box in boxes(shape, self._array.chunks, item, order):
                    yield tuple(box[i] for i in order), self._read(box).transpose(order)

            self._tiles = SampleTiles(self._path, rows, parts())
        return self._tiles.read(start, stop)

    def _slab(self, start: int, stop: int) -> np.ndarray:
        """Read rows, the axis of samples first."""
        axis = self._axis or 0
        return np.moveaxis(self._read((slice(None),) * axis + (slice(start, stop),)), axis, 0)

    def _read(self, selection: Any) -> np.ndarray:
        name = self._array.name
        try:
            if self._opened is None:
                version: Any = self._array.zarr_format
                self._opened = zarr.open_array(self._path / name, mode="r", zarr_format=version)
            return np.asarray(self._opened[selection])
        except Exception as error:  # of damaged files it may be any
            reason = first_line(error)[:200] or type(error).__name__
            raise InputError(
                f"{self._path}: {name} cannot be read ({reason}); get the store anew"
            ) from None

    def _check(self, start: int, stop: int) -> None:
        """Compare the files that hold some samples with what the group records, once.

        Raises:
            InputError: One is missing or altered.
        """
        size = self._array.files[0]
        for number in range(start // size, -(-stop // size)):
            for name in self._unchecked.pop(number, ()):
                file = self._path / name
                if not file.is_file() or file_sha256(file) != self._recorded[name]:
                    raise InputError(
                        f"{self._path}: {name} is {'altered' if file.exists() else 'missing'} "
                        "since the dataset was released; get or make it anew"
                    )


def _fill(array: ArrayMetadata) -> Any:
    """Return the fill value if it stands for a missing value.

    In version 2, xarray stores `_FillValue` so; of other writers it is 0 where nobody chose it.
    """
    return array.fill_value if array.zarr_format == 2 and array.fill_value else None
