"""A variable of a NetCDF file: its dimensions, its attributes, and how its values are unpacked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mno.imports.hdf5.array import pieces

Part = Callable[[tuple[slice, ...]], np.ndarray]


@dataclass(frozen=True, eq=False)
class Variable:
    """A variable whose values are unread.

    Attributes:
        name: What the file calls it.
        dims: Names of its dimensions.
        shape: Their lengths.
        dtype: Of its values as they are stored.
        attributes: What the file says of it, as plain values.
        part: Returns a part of its values as they are stored, one slice for each dimension.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    attributes: Mapping[str, Any]
    part: Part

    @property
    def missing(self) -> list[Any]:
        """The stored values that stand for a missing one."""
        found = []
        for name in ("_FillValue", "missing_value"):
            value = self.attributes.get(name)
            for item in value if isinstance(value, list) else [value]:
                # Plain values have what is not finite as text.
                mark = float(item) if item in ("nan", "inf", "-inf") else item
                if isinstance(mark, (int, float)) and _fits(mark, self.dtype):
                    found.append(self.dtype.type(mark))
        return found

    def values(self) -> np.ndarray:
        """Return all values, unpacked, float64: for coordinates and the like."""
        return self._unpacked(self.part(tuple(slice(0, length) for length in self.shape)))

    def read(self, where: Mapping[str, slice], order: Sequence[str]) -> np.ndarray:
        """Return a part of the values, unpacked.

        Args:
            where: Which part of a dimension, by its name; all of it if not given.
            order: The dimensions, as the result is to have them.

        Returns:
            Values, float32; NaN where they are missing.
        """
        parts = [
            where.get(dim, slice(0, length))
            for dim, length in zip(self.dims, self.shape, strict=True)
        ]
        lengths = {dim: p.stop - p.start for dim, p in zip(self.dims, parts, strict=True)}
        out = np.empty([lengths[dim] for dim in order], dtype=np.float32)
        as_stored = out.transpose([order.index(dim) for dim in self.dims])
        for piece in pieces(as_stored.shape, 8):
            source = tuple(
                slice(whole.start + p.start, whole.start + p.stop)
                for whole, p in zip(parts, piece, strict=True)
            )
            with np.errstate(over="ignore"):
                as_stored[piece] = self._unpacked(self.part(source))
        return out

    def _unpacked(self, stored: np.ndarray) -> np.ndarray:
        factor, offset = self.attributes.get("scale_factor"), self.attributes.get("add_offset")
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.array(stored, dtype=np.float64)
            if isinstance(factor, (int, float)):
                values *= factor
            if isinstance(offset, (int, float)):
                values += offset
        for mark in self.missing:
            values[stored == mark] = np.nan
        return values


def _fits(mark: float, dtype: np.dtype) -> bool:
    """Whether a mark can be one of the stored values."""
    if dtype.kind == "f":
        return True
    if dtype.kind not in "iu" or mark != mark or mark in (float("inf"), float("-inf")):
        return False
    limits = np.iinfo(dtype)
    return limits.min <= mark <= limits.max
