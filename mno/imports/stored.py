"""Arrays of files, read a few samples at a time whatever their order in the file.

A file may keep all samples of one place side by side, as MATLAB does, or in chunks of many samples.
Reading a few samples then reads more. What a file keeps together stays in memory until other
samples are asked for; where it is too large for that, the whole array is read once, in boxes of all
samples and a part of the places. A temporary file keeps the boxes one after the other, each in the
order of the samples, so that a few samples are a few runs of bytes.
"""

import itertools
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mno.core.errors import InputError

Box = tuple[slice, ...]

_BOX_BYTES = 64 * 2**20
_KEPT_BYTES = 32 * 2**20  # of samples that reach beyond what was asked for


@dataclass(eq=False)
class FileArray:
    """An array of a file, unread."""

    path: Path  # of the file
    name: str  # in the file, for messages
    lengths: tuple[int, ...]  # along its axes, as the file has them
    dtype: np.dtype
    part: Callable[[Box], np.ndarray]  # reads a box, a slice for each axis, in the file's order
    chunks: tuple[int, ...] | None = None  # shape of what is read at once; rows if not given
    order: tuple[int, ...] | None = None  # the file's axes as they are wanted, the samples' first

    def __post_init__(self) -> None:
        self._order = self.order or tuple(range(len(self.lengths)))
        self.shape = tuple(self.lengths[axis] for axis in self._order)
        self._kept = (0, 0, np.empty(0))

    def whole(self) -> np.ndarray:
        """Return all values."""
        return self._box(tuple(slice(0, length) for length in self.lengths))

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return some samples, shape `(stop - start, …)`, for reading only."""
        axis = self._order[0]
        size = self.chunks[axis] if self.chunks else self.lengths[axis] if axis else 1
        first, last = start // size * size, min(-(-stop // size) * size, self.shape[0])
        low, high, kept = self._kept
        if low <= start and stop <= high:
            return kept[start - low : stop - low]
        large = (last - first) * math.prod(self.shape[1:]) * self.dtype.itemsize > _KEPT_BYTES
        if large and (first, last) != (start, stop):
            return self._tiles.read(start, stop)
        self._kept = (0, 0, kept[:0])
        where = [slice(0, length) for length in self.lengths]
        where[axis] = slice(first, last)
        kept = self._box(tuple(where))
        if not large:
            self._kept = (first, last, kept)
        return kept[start - first : stop - first]

    def _box(self, where: Box) -> np.ndarray:
        return np.asarray(self.part(where)).transpose(self._order)

    @cached_property
    def _tiles(self) -> "SampleTiles":
        places = boxes(self.lengths, self.chunks, self.dtype.itemsize, self._order)
        parts = ((tuple(box[i] for i in self._order), self._box(box)) for box in places)
        return SampleTiles(self.path, self.shape, parts)


def boxes(
    shape: Sequence[int], chunks: Sequence[int] | None, itemsize: int, fastest: Iterable[int]
) -> Iterator[Box]:
    """Yield boxes that cover an array, are whole chunks and not too large: a slice for each axis.

    `fastest` are the axes along which a box is made as long as can be, the first of all first;
    boxes follow one another in this order, too.
    """
    order = list(fastest)
    lengths = list(chunks or [1] * len(shape))
    for axis in order:
        times = max(1, _BOX_BYTES // (math.prod(lengths) * itemsize))
        lengths[axis] = min(shape[axis], lengths[axis] * times)
    starts = [range(0, shape[axis], lengths[axis]) for axis in reversed(order)]
    for corner in itertools.product(*starts):
        at = dict(zip(reversed(order), corner, strict=True))
        yield tuple(slice(at[i], min(at[i] + lengths[i], n)) for i, n in enumerate(shape))


class SampleTiles:
    """An array of some shape, samples first, on disk: boxes that cover it, with their values."""

    def __init__(
        self, path: Path, shape: Sequence[int], parts: Iterable[tuple[Box, np.ndarray]]
    ) -> None:
        self._shape = tuple(shape)
        self._tiles: list[tuple[Box, int]] = []
        place = 0
        try:
            # Without a buffer, so that nothing is left to be written when it is closed.
            self._file = tempfile.TemporaryFile(  # noqa: SIM115 - closed with us
                prefix="mno-import-", buffering=0
            )
            for box, values in parts:
                with np.errstate(over="ignore", invalid="ignore"):
                    ordered = np.ascontiguousarray(values, dtype=np.float32)
                left = memoryview(ordered.data).cast("B")
                while len(left):
                    left = left[self._file.write(left) :]
                self._tiles.append((box, place))
                place += ordered.nbytes
        except OSError as error:
            raise InputError(
                f"{path}: its samples are put in order in a temporary file, which failed "
                f"({error.strerror}); expected {4 * math.prod(shape) / 2**30:.1f} GiB of room: set "
                "TMPDIR to a folder that has it"
            ) from None

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return some samples, shape `(stop - start, …)`, float32."""
        out = np.empty((stop - start, *self._shape[1:]), dtype=np.float32)
        for box, place in self._tiles:
            first, last = max(start, box[0].start), min(stop, box[0].stop)
            if first >= last:
                continue
            lengths = [part.stop - part.start for part in box[1:]]
            row = 4 * math.prod(lengths)
            begin, size = place + (first - box[0].start) * row, (last - first) * row
            data = os.pread(self._file.fileno(), size, begin)
            values = np.frombuffer(data, dtype=np.float32).reshape(last - first, *lengths)
            out[(slice(first - start, last - start), *box[1:])] = values
        return out
