"""MATLAB files of version 5 (`save -v6` and `save -v7`), read as a stream.

A file is a header and variables one after the other, each compressed as a whole by zlib. An array
is kept with its first axis fastest. The format is described in MathWorks' "MAT-File Format"; only
arrays of real numbers are read here, nothing is evaluated.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mno.core.errors import InputError

_MATRIX, _COMPRESSED = 14, 15
# Types of data elements, and classes of arrays, by their numbers.
_TYPES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_CLASSES = {
    6: "f8",
    7: "f4",
    8: "i1",
    9: "u1",
    10: "i2",
    11: "u2",
    12: "i4",
    13: "u4",
    14: "i8",
    15: "u8",
}
_COMPLEX = 0x08
_HEADER_BYTES = 128
_READ_BYTES = 2**20
_MAX_HEADER = 4096


@dataclass(frozen=True)
class MatVariable:
    """An array of real numbers in a file.

    Attributes:
        name: Of the variable.
        shape: As MATLAB has it.
        offset: Where its element begins.
    """

    name: str
    shape: tuple[int, ...]
    offset: int


class Mat5File:
    """A MATLAB file of version 5.

    Args:
        path: The file.

    Attributes:
        variables: Arrays of real numbers, by name.
        others: Names of variables of other kinds.

    Raises:
        InputError: It is no such file, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
            if header[126:128] not in (b"IM", b"MI"):
                raise InputError(
                    f"{path} is no MATLAB file of version 5, 7 or 7.3; expected one: save it by "
                    "save('data.mat', '-v7')"
                )
            self._order = "<" if header[126:128] == b"IM" else ">"
            size = path.stat().st_size
            self.variables: dict[str, MatVariable] = {}
            self.others: list[str] = []
            offset = _HEADER_BYTES
            while offset + 8 <= size:
                kind, length = self._pair(file.read(8))
                if offset + 8 + length > size:
                    raise self._damaged("ends in the middle of a variable")
                self._look(offset)
                # What is compressed is not padded.
                offset += 8 + (length if kind == _COMPRESSED else _padded(length))
                file.seek(offset)

    def blocks(self, name: str, sizes: Iterable[int]) -> Iterator[np.ndarray]:
        """Yield the values of a variable, first axis fastest.

        Args:
            name: Of the variable.
            sizes: How many values to yield at a time, all together no more than there are.

        Raises:
            InputError: The file is damaged.
        """
        variable = self.variables[name]
        with self._path.open("rb") as file:
            stream = self._stream(file, variable.offset)
            self._array_header(stream)
            kind, length, small = self._tag(stream)
            if kind not in _TYPES:
                raise self._damaged(f"has data of type {kind} in {name}")
            dtype = np.dtype(self._order + _TYPES[kind])
            count = math.prod(variable.shape)
            if length != count * dtype.itemsize:
                raise self._damaged(
                    f"has {length} bytes of {name}, whose shape is {variable.shape}"
                )
            if small is not None:  # one value of a few bytes, or two
                stream = _Stream(io.BytesIO(small), len(small), compressed=False)
            for size in sizes:
                yield np.frombuffer(self._exactly(stream, size * dtype.itemsize), dtype)

    def _look(self, offset: int) -> None:
        """Read the header of the variable at an offset."""
        with self._path.open("rb") as file:
            name, shape, is_real = self._array_header(self._stream(file, offset))
        if is_real:
            self.variables[name] = MatVariable(name, shape, offset)
        elif name:
            self.others.append(name)

    def _stream(self, file: BinaryIO, offset: int) -> _Stream:
        """Return the content of the array whose element begins at an offset."""
        file.seek(offset)
        kind, length = self._pair(file.read(8))
        stream = _Stream(file, length, compressed=kind == _COMPRESSED)
        if kind == _COMPRESSED:
            kind, length = self._pair(self._exactly(stream, 8))
        if kind != _MATRIX:
            raise self._damaged(f"has an element of type {kind} where a variable should be")
        return stream

    def _array_header(self, stream: _Stream) -> tuple[str, tuple[int, ...], bool]:
        """Return name and shape of an array, and whether it holds real numbers."""
        flags = self._small_element(stream)
        if len(flags) != 8:
            raise self._damaged("has a variable without flags")
        word = int(np.frombuffer(flags, f"{self._order}u4")[0])
        number, properties = word & 0xFF, word >> 8
        if number not in range(1, 16):  # functions and objects have no shape
            return "", (), False
        data = self._small_element(stream)
        shape = tuple(int(n) for n in np.frombuffer(data[: len(data) // 4 * 4], f"{self._order}i4"))
        name = self._small_element(stream).decode("latin-1")
        return name, shape, number in _CLASSES and not properties & _COMPLEX and min(shape) >= 0

    def _small_element(self, stream: _Stream) -> bytes:
        """Read an element of a header."""
        _, length, small = self._tag(stream)
        if small is not None:
            return small[:length]
        if length > _MAX_HEADER:
            raise self._damaged(f"has a header of {length} bytes")
        return self._exactly(stream, _padded(length))[:length]

    def _tag(self, stream: _Stream) -> tuple[int, int, bytes | None]:
        """Return type and length of the next element, and its data if they are in the tag."""
        data = self._exactly(stream, 8)
        kind, length = self._pair(data)
        if kind >> 16:
            return kind & 0xFFFF, kind >> 16, data[4:]
        return kind, length, None

    def _pair(self, data: bytes) -> tuple[int, int]:
        first, second = np.frombuffer(data, f"{self._order}u4")
        return int(first), int(second)

    def _exactly(self, stream: _Stream, count: int) -> bytes:
        try:
            data = stream.read(count)
        except zlib.error as error:
            raise self._damaged(f"cannot be unpacked ({error})") from None
        if len(data) != count:
            raise self._damaged("ends in the middle of a variable")
        return data

    def _damaged(self, what: str) -> InputError:
        return InputError(
            f"{self._path} {what}; expected an undamaged MATLAB file: get it anew, or save it by "
            "save('data.mat', '-v7.3')"
        )


class _Stream:
    """The bytes of one element, unpacked as they are asked for, never more."""

    def __init__(self, file: BinaryIO, length: int, *, compressed: bool) -> None:
        self._file, self._left = file, length
        self._unpacker = zlib.decompressobj() if compressed else None

    def read(self, count: int) -> bytes:
        """Return `count` bytes, or fewer where there are no more."""
        if self._unpacker is None:
            return self._raw(count)
        parts = []
        while count:
            waiting = self._unpacker.unconsumed_tail or self._raw(_READ_BYTES)
            part = self._unpacker.decompress(waiting, min(count, _READ_BYTES))
            if not part and (not waiting or self._unpacker.eof):
                break
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _raw(self, count: int) -> bytes:
        data = self._file.read(min(count, self._left))
        self._left -= len(data)
        return data


def _padded(length: int) -> int:
    return -(-length // 8) * 8
