"""One array of an HDF5 file, read a few samples at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mno.core.errors import InputError, first_line
from mno.imports.hdf5 import contiguous
from mno.imports.hdf5.chunks import ChunkGuard
from mno.imports.shared.tiles import SampleTiles, boxes

CACHE_BYTES = 64 * 2**20
"""What HDF5 keeps of the chunks of one array."""

_PIECE_BYTES = 16 * 2**20


class StoredArray:
    """An array of an HDF5 file that has been found to be sound; its first axis is the samples'.

    Args:
        path: The file.
        name: What the file calls the array.
        dataset: The array.
    """

    def __init__(self, path: Path, name: str, dataset: h5py.Dataset) -> None:
        self.path = path
        self.name = name
        self.dataset = dataset
        self.shape: tuple[int, ...] = dataset.shape
        self._guard = ChunkGuard(path, name, dataset)

    def whole(self) -> np.ndarray:
        """Return all values, float64: for coordinates and the like.

        Raises:
            InputError: There are more of them than a coordinate has, or they cannot be read.
        """
        if math.prod(self.shape) > _PIECE_BYTES:
            raise InputError(
                f"{self.path}: {self.name} has shape {self.shape}; expected coordinates or numbers "
                "of samples: correct the file"
            )
        return np.asarray(self.part(...), dtype=np.float64)

    def read(self, where: Sequence[slice], pick: tuple[int, ...] = ()) -> np.ndarray:
        """Return a part of the array.

        Args:
            where: Which part of the leading axes, from number to number.
            pick: Which element of each trailing axis.

        Returns:
            Shape as `where` says, float32.

        Raises:
            InputError: The file is damaged there.
        """
        out = np.empty([part.stop - part.start for part in where], dtype=np.float32)
        trailing = self.shape[len(where) :]
        width = self.dataset.dtype.itemsize * math.prod(trailing)
        if self.dataset.dtype == np.float32 and not trailing and not self._is_scattered:
            self.part(tuple(where), out)
            return out
        for piece in pieces(out.shape, width):
            source = tuple(
                slice(whole.start + part.start, whole.start + part.stop)
                for whole, part in zip(where, piece, strict=True)
            )
            with np.errstate(over="ignore"):
                out[piece] = self._piece(source)[(..., *pick)]
        return out

    def read_channels(self, out: np.ndarray) -> None:
        """Read all of the array, whose last axis is that of the channels.

        Args:
            out: Where to put the values, shape `(channels, …)`, float32.

        Raises:
            InputError: The file is damaged.
        """
        place = contiguous.place_of(self.dataset)
        if place and all(target.flags.c_contiguous for target in out):
            with self._damage():
                contiguous.read_channels(place, [target.reshape(-1) for target in out])
            return
        width = self.dataset.dtype.itemsize * self.shape[-1]
        for piece in pieces(self.shape[:-1], width):
            values = self._piece(piece)
            with np.errstate(over="ignore"):
                for channel, target in enumerate(out):
                    target[piece] = values[..., channel]

    def samples(self, start: int, stop: int, pick: tuple[int, ...] = ()) -> np.ndarray:
        """Return some samples; `pick` as for `read`."""
        middle = self.shape[1 : len(self.shape) - len(pick)]
        return self.read((slice(start, stop), *(slice(0, length) for length in middle)), pick)

    def _piece(self, where: tuple[slice, ...]) -> np.ndarray:
        if not self._is_scattered:
            return self.part(where)
        return self._tiles.read(where[0].start, where[0].stop)[(slice(None), *where[1:])]

    def part(self, where: Any, out: np.ndarray | None = None) -> np.ndarray:
        """Return a part of the array as it is stored.

        Args:
            where: One slice for each of the leading axes, or `...`.
            out: Where to put the values, if they are of that type.

        Raises:
            InputError: The file is damaged there.
        """
        self._guard.check(where)
        with self._damage():
            if out is None:
                return self.dataset[where]
            self.dataset.read_direct(out, where)
            return out

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """Turn what reading a damaged file raises into one line."""
        try:
            yield
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"{self.path}: {self.name} cannot be read ({first_line(error)}); expected an "
                "undamaged file: get it anew"
            ) from None

    @property
    def _is_scattered(self) -> bool:
        """Whether reading block after block would decompress the same chunks again and again."""
        chunks = self.dataset.chunks
        if not chunks or chunks[0] == 1:
            return False
        return math.prod((*self.shape[1:], chunks[0], self.dataset.dtype.itemsize)) > CACHE_BYTES

    @cached_property
    def _tiles(self) -> SampleTiles:
        chunks, itemsize = self.dataset.chunks, self.dataset.dtype.itemsize
        parts = boxes(self.shape, chunks, itemsize, fastest=range(len(self.shape)))
        return SampleTiles(self.path, self.shape, ((box, self.part(box)) for box in parts))


def pieces(shape: Sequence[int], width: int) -> Iterator[tuple[slice, ...]]:
    """Cut an array into pieces that follow one another in memory and are not too large.

    Args:
        shape: Of the array.
        width: Bytes of one element.

    Yields:
        One slice for each axis.
    """
    axis, inner = len(shape), width
    while axis and inner * shape[axis - 1] <= _PIECE_BYTES:
        axis -= 1
        inner *= shape[axis]
    rest = tuple(slice(0, length) for length in shape[axis:])
    if axis == 0:
        yield rest
        return
    step = max(1, _PIECE_BYTES // inner)
    for outer in np.ndindex(*shape[: axis - 1]):
        before = tuple(slice(index, index + 1) for index in outer)
        for start in range(0, shape[axis - 1], step):
            yield (*before, slice(start, min(start + step, shape[axis - 1])), *rest)
