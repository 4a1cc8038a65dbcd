"""NumPy's own format: headers read without trust, rows read without the rest of the array."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy_format

from mno.config import first_line
from mno.data.importers.arrays import Found
from mno.errors import InputError

_LONGEST_HEADER = 10_000
_TILE = 32 * 2**20


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
        offset: Where its values begin.
    """

    def __init__(self, file: IO[bytes], header: Header, offset: int) -> None:
        if header.fortran and len(header.shape) > 1:
            raise ValueError("values in Fortran order have no rows; turn them round first")
        self._file, self._header, self._offset = file, header, offset

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read some rows, shape `(stop - start, *)`; all of an array without axes."""
        shape = self._header.shape
        rows = (stop - start, *shape[1:]) if shape else ()
        size = math.prod(shape[1:]) * self._header.dtype.itemsize
        values = np.empty(math.prod(rows), self._header.dtype)
        self._file.seek(self._offset + start * size)
        got = self._file.readinto(values.view(np.uint8))  # type: ignore[attr-defined]
        if got != values.nbytes:
            raise EOFError(f"the file ends {values.nbytes - got} bytes early")
        return values.reshape(rows)


def turn_round(source: IO[bytes], header: Header, offset: int, target: IO[bytes]) -> Header:
    """Copy values in Fortran order into another file in C order, a tile at a time.

    Args:
        source: Holds them.
        header: The array's.
        offset: Where in the source they begin.
        target: An empty file.

    Returns:
        The header of the array in the target, of length 0.
    """
    samples, *rest = header.shape
    places = math.prod(rest)
    item = header.dtype.itemsize
    step = max(1, _TILE // (samples * item))
    target.truncate(header.nbytes)
    turned = np.empty((samples, min(step, places)), header.dtype)
    for begin in range(0, places, step):
        # In the source all samples of one place lie side by side; places come first axis first.
        at = np.unravel_index(np.arange(begin, min(begin + step, places)), rest)
        tile = turned[:, : len(at[0])]
        for column, place in enumerate(np.ravel_multi_index(at[::-1], rest[::-1])):
            source.seek(offset + int(place) * samples * item)
            tile[:, column] = np.frombuffer(source.read(samples * item), header.dtype)
        packed = np.ascontiguousarray(tile)
        for sample in range(samples):
            os.pwrite(target.fileno(), packed[sample], (sample * places + begin) * item)
    return Header(header.shape, header.dtype, False, 0)
