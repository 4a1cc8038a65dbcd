"""Arrays that a file does not keep sample by sample: put in order once, on disk.

A file may keep all samples of one place side by side, as MATLAB does, or in chunks of many samples.
Reading a few samples then reads everything. Such an array is read once, in boxes of all samples and
a part of the places; a temporary file keeps the boxes one after the other, each in the order of the
samples, so that a few samples are a few runs of bytes.
"""

from __future__ import annotations

import itertools
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mno.core.errors import InputError

Box = tuple[slice, ...]

_BOX_BYTES = 64 * 2**20
_PIECE_BYTES = 16 * 2**20


def boxes(
    shape: Sequence[int], chunks: Sequence[int] | None, itemsize: int, fastest: Iterable[int]
) -> Iterator[Box]:
    """Yield boxes that cover an array, are whole chunks and not too large: a slice for each axis.

    Args:
        shape: Of the array.
        chunks: Shape of its chunks, if it has any.
        itemsize: Bytes of one element.
        fastest: Along which axis a box is made as long as can be, first of all, and so on; boxes
            follow one another in this order, too.
    """
    order = list(fastest)
    lengths = list(chunks or [1] * len(shape))
    for axis in order:
        times = max(1, _BOX_BYTES // (math.prod(lengths) * itemsize))
        lengths[axis] = min(shape[axis], lengths[axis] * times)
    starts = [range(0, shape[axis], lengths[axis]) for axis in reversed(order)]
    for corner in itertools.product(*starts):
        at = dict(zip(reversed(order), corner, strict=True))
        yield tuple(
            slice(at[axis], min(at[axis] + lengths[axis], shape[axis]))
            for axis in range(len(shape))
        )


def pieces(shape: Sequence[int], width: int) -> Iterator[Box]:
    """Yield pieces of an array that follow one another in memory and are not too large.

    An element has `width` bytes.
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


def shifted(piece: Box, whole: Sequence[slice]) -> Box:
    """Return where a piece is in an array, of which `whole` was cut into pieces."""
    return tuple(
        slice(w.start + p.start, w.start + p.stop) for w, p in zip(whole, piece, strict=True)
    )


class SampleTiles:
    """An array of some shape, samples first, that can be read a few samples at a time.

    Args:
        path: The file that it comes from, for messages.
        shape: Of the array.
        parts: Boxes that cover it, with their values.
    """

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
            data = os.pread(
                self._file.fileno(), (last - first) * row, place + (first - box[0].start) * row
            )
            values = np.frombuffer(data, dtype=np.float32).reshape(last - first, *lengths)
            out[(slice(first - start, last - start), *box[1:])] = values
        return out
