"""NumPy's own format: headers read without trust, rows read without the rest of the array."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy_format

from mno.core.errors import InputError, first_line
from mno.imports.shared.arrays import Found
from mno.imports.shared.tiles import Box, SampleTiles, boxes

_LONGEST_HEADER = 10_000


@dataclass(frozen=True)
class Header(Found):
    """What a header says.

    Attributes:
        fortran: Whether the first axis is the one that varies fastest.
        length: Bytes of the header itself.
    """

    fortran: bool
    length: int

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(path: Path, name: str, stream: IO[bytes], size: int) -> Header:
    """Read the header at the beginning of a stream.

    Args:
        path: The file, for messages.
        name: The array, for messages.
        stream: Bytes of the array.
        size: How many there are.

    Raises:
        InputError: It is no header, or one of an array that does not fill those bytes; or the
            array holds Python objects, which only running code of the file could read.
    """
    before = stream.tell()
    try:
        version = npy_format.read_magic(stream)
        read = {
            (1, 0): npy_format.read_array_header_1_0,
            (2, 0): npy_format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(stream, max_header_size=_LONGEST_HEADER)
    except KeyError:
        raise InputError(
            f"{path}: {name} has an unknown version of the npy format; save it anew by numpy.save"
        ) from None
    except (ValueError, SyntaxError, TypeError, EOFError, RecursionError, MemoryError) as error:
        raise InputError(
            f"{path}: {name} is no array of NumPy's ({first_line(error)[:100]}); expected one as "
            "numpy.save and numpy.savez write it"
        ) from None
    header = Header(tuple(shape), dtype, bool(fortran), stream.tell() - before)
    if dtype.hasobject:
        raise InputError(
            f"{path}: {name} holds pickled Python objects, which are never loaded; expected "
            "numbers: save it as an array of numbers"
        )
    if min(shape, default=0) < 0 or header.length + header.nbytes != size:
        raise InputError(
            f"{path}: {name} claims shape {tuple(shape)} of {dtype}, {header.nbytes} bytes, but "
            f"has {size - header.length}; expected as many: the file is damaged, get it anew"
        )
    return header


class Rows:
    """The rows of an array in a file, read from there as they are asked for.

    Args:
        file: An open file.
        header: The array's.
        offset: Where its values begin, in C order.
    """

    def __init__(self, file: IO[bytes], header: Header, offset: int) -> None:
        self._file, self._header, self._offset = file, header, offset

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read some rows, shape `(stop - start, *)`; all of an array without axes."""
        shape, dtype = self._header.shape, self._header.dtype
        rows = (stop - start, *shape[1:]) if shape else ()
        at = self._offset + start * math.prod(shape[1:]) * dtype.itemsize
        return _read(self._file, at, dtype, math.prod(rows)).reshape(rows)


def tiles(path: Path, file: IO[bytes], header: Header, offset: int) -> SampleTiles:
    """Put the samples of an array in Fortran order one behind the other, on disk.

    Args:
        path: The file, for messages.
        file: An open file.
        header: The array's.
        offset: Where its values begin.
    """
    shape, item = header.shape, header.dtype.itemsize
    strides = np.cumprod([item, *shape[:-1]]).tolist()

    def parts() -> Iterator[tuple[Box, np.ndarray]]:
        # Boxes as long as can be along the first axes are one run of bytes each.
        for box in boxes(shape, None, item, range(len(shape))):
            lengths = [part.stop - part.start for part in box]
            at = offset + sum(part.start * s for part, s in zip(box, strides, strict=True))
            yield box, _read(file, at, header.dtype, math.prod(lengths)).reshape(lengths, order="F")

    return SampleTiles(path, shape, parts())


def _read(file: IO[bytes], offset: int, dtype: np.dtype, count: int) -> np.ndarray:
    values = np.empty(count, dtype)
    file.seek(offset)
    got = file.readinto(values.view(np.uint8))  # type: ignore[attr-defined]
    if got != values.nbytes:
        raise EOFError(f"the file ends {values.nbytes - got} bytes early")
    return values
