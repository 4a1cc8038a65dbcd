"""The header of a classic NetCDF file.

It is described in Unidata's "NetCDF Classic Format Specification": numbers of dimensions,
attributes and variables, each list with a tag and a count before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mno.core.errors import InputError
from mno.imports.hdf5.files import plain

_DIMENSION, _VARIABLE, _ATTRIBUTE = 10, 11, 12
_CHAR = 2
_TYPES = {1: "i1", _CHAR: "S1", 3: ">i2", 4: ">i4", 5: ">f4", 6: ">f8"}
_TYPES |= {7: "u1", 8: ">u2", 9: ">u4", 10: ">i8", 11: ">u8"}
_MAX_BYTES = 2**20
_MAX_ITEMS = 100_000


@dataclass(frozen=True)
class VariableHeader:
    """What the header says of a variable.

    Attributes:
        name: Of the variable.
        dims: Numbers of its dimensions.
        attributes: As plain values.
        dtype: Of its values.
        begin: Where they begin in the file.
    """

    name: str
    dims: tuple[int, ...]
    attributes: dict[str, Any]
    dtype: np.dtype
    begin: int


class Header:
    """The header of a classic NetCDF file.

    Args:
        path: The file.

    Attributes:
        records: Length of the unlimited dimension; none if the file does not say.
        dims: Names and lengths of the dimensions; 0 for the unlimited one.
        attributes: What the file says of itself, as plain values.
        variables: In the order of the file.

    Raises:
        InputError: It is no such file, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self._file: BinaryIO = file
            magic = file.read(4)
            if magic not in (b"CDF\x01", b"CDF\x02", b"CDF\x05"):
                raise InputError(
                    f"{path} is not a NetCDF file; expected one: choose another importer"
                )
            self._is_wide = magic[3] == 5
            self._offset_bytes = 4 if magic[3] == 1 else 8
            count = self._number()
            unknown = 2 ** (64 if self._is_wide else 32) - 1
            self.records = None if count == unknown else count
            self.dims = [(self._text(), self._number()) for _ in self._items(_DIMENSION)]
            self.attributes = self._attributes()
            self.variables = [self._variable() for _ in self._items(_VARIABLE)]

    def _variable(self) -> VariableHeader:
        name = self._text()
        dims = tuple(self._number() for _ in range(self._limited(self._number())))
        if any(number >= len(self.dims) for number in dims):
            raise self.damaged(f"has no such dimensions as those of {name}")
        attributes = self._attributes()
        dtype = self._dtype()
        self._number()  # the size, which follows from the rest
        return VariableHeader(name, dims, attributes, dtype, self._number(self._offset_bytes))

    def _attributes(self) -> dict[str, Any]:
        found = {}
        for _ in self._items(_ATTRIBUTE):
            name, dtype = self._text(), self._dtype()
            count = self._limited(self._number())
            data = self._padded(count * dtype.itemsize)
            if dtype.kind == "S":
                found[name] = data.rstrip(b"\0").decode("utf-8", "replace")
            else:
                found[name] = plain(np.frombuffer(data, dtype))
        return found

    def _items(self, tag: int) -> Iterator[int]:
        given, count = self._number(4), self._number()
        if given != tag and (given or count):
            raise self.damaged(f"has a list of kind {given} where one of kind {tag} should be")
        yield from range(self._limited(count))

    def _dtype(self) -> np.dtype:
        number = self._number(4)
        if number not in _TYPES:
            raise self.damaged(f"has values of type {number}")
        return np.dtype(_TYPES[number])

    def _text(self) -> str:
        return self._padded(self._limited(self._number())).decode("utf-8", "replace")

    def _padded(self, length: int) -> bytes:
        if length > _MAX_BYTES:
            raise self.damaged(f"has {length} bytes of text in its header")
        return self._exactly(-(-length // 4) * 4)[:length]

    def _limited(self, count: int) -> int:
        if count > _MAX_ITEMS:
            raise self.damaged(f"has a list of {count} in its header")
        return count

    def _number(self, size: int | None = None) -> int:
        return int.from_bytes(self._exactly(size or (8 if self._is_wide else 4)), "big")

    def _exactly(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) != count:
            raise self.damaged("ends within its header")
        return data

    def damaged(self, what: str) -> InputError:
        """Return the error of a file in which something is wrong."""
        return InputError(
            f"{self._path} {what}; expected an undamaged NetCDF file: get it anew, or convert it "
            "by nccopy -k nc4"
        )
