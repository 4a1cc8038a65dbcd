"""Classic NetCDF files: versions 1, 2 and 5.

Behind the header the values of one variable follow those of another; variables along the unlimited
dimension are interleaved, record by record.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np

from mno.imports.netcdf_files.classic_header import Header, VariableHeader
from mno.imports.netcdf_files.variable import Variable


class Netcdf3File:
    """The variables of a classic NetCDF file.

    Args:
        path: The file.

    Attributes:
        variables: Those of numbers, by name.
        others: Names of those of text.
        attributes: What the file says of itself.

    Raises:
        InputError: It is no such file, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._size = path, path.stat().st_size
        self._header = Header(path)
        self.attributes = self._header.attributes
        self._lengths = [length for _, length in self._header.dims]
        self._record_bytes = self._record_size()
        self.variables: dict[str, Variable] = {}
        self.others: list[str] = []
        for found in self._header.variables:
            if found.dtype.kind == "S":
                self.others.append(found.name)
            else:
                self.variables[found.name] = self._variable(found)

    def _is_record(self, found: VariableHeader) -> bool:
        return bool(found.dims) and self._lengths[found.dims[0]] == 0

    def _record_size(self) -> int:
        """Return the bytes of a record; each variable is padded, unless it is the only one."""
        sizes = [
            math.prod(self._lengths[n] for n in found.dims[1:]) * found.dtype.itemsize
            for found in self._header.variables
            if self._is_record(found)
        ]
        return sizes[0] if len(sizes) == 1 else sum(-(-size // 4) * 4 for size in sizes)

    def _records(self) -> int:
        """Return the number of records, from the size of the file where it is not said."""
        if self._header.records is not None:
            return self._header.records
        begin = min(v.begin for v in self._header.variables if self._is_record(v))
        return max(0, self._size - begin) // max(1, self._record_bytes)

    def _variable(self, found: VariableHeader) -> Variable:
        shape = [self._lengths[n] for n in found.dims]
        strides = [found.dtype.itemsize * math.prod(shape[i + 1 :]) for i in range(len(shape))]
        if self._is_record(found):
            shape[0], strides[0] = self._records(), self._record_bytes
        last = sum(s * (n - 1) for s, n in zip(strides, shape, strict=True))
        end = found.begin + last + found.dtype.itemsize
        if math.prod(shape) and end > self._size:
            raise self._header.damaged(
                f"ends at byte {self._size}, {found.name} of shape {tuple(shape)} at {end}"
            )
        part = partial(_part, self._path, tuple(shape), found.dtype, found.begin, tuple(strides))
        return Variable(
            name=found.name,
            dims=tuple(self._header.dims[n][0] for n in found.dims),
            shape=tuple(shape),
            dtype=found.dtype,
            attributes=found.attributes,
            part=part,
        )


def _part(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype,
    begin: int,
    strides: tuple[int, ...],
    where: tuple[slice, ...],
) -> np.ndarray:
    """Return a part of a variable; pages of the file are let go when that is done."""
    file = np.memmap(path, mode="r")
    values = np.ndarray(shape, dtype, buffer=file.data, offset=begin, strides=strides)
    return values[where].copy()
