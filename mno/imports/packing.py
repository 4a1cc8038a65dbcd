"""How the values of an array are packed by the CF conventions."""

import base64
import math
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np


class Packing(NamedTuple):
    """How values are packed by the CF conventions: scaled, shifted, some of them missing."""

    factor: float = 1.0
    offset: float = 0.0
    missing: tuple[float, ...] = ()  # packed values that stand for a missing one, NaN left out
    is_unsigned: bool = False  # though stored as signed
    is_marked: bool = False  # whether there is a missing value at all, NaN included

    @classmethod
    def of(cls, attributes: Mapping[str, Any], dtype: np.dtype, fill: Any = None) -> "Packing":
        """Read it from an array's attributes; `fill` is a further value for a missing one."""
        given = [fill]
        for name in ("_FillValue", "missing_value"):
            value = attributes.get(name)
            given += value if isinstance(value, list) else [value]
        marks = {number for number in map(_number, given) if number is not None}
        if dtype.kind in "iu":  # others are none of the stored values
            limits = np.iinfo(dtype)
            marks = {mark for mark in marks if limits.min <= mark <= limits.max}
        elif dtype.kind != "f":
            marks = set()
        factor, offset = (_number(attributes.get(n)) for n in ("scale_factor", "add_offset"))
        missing = tuple(sorted(mark for mark in marks if not math.isnan(mark)))
        unsigned = attributes.get("_Unsigned") == "true" and dtype.kind == "i"
        return cls(factor or 1.0, offset or 0.0, missing, unsigned, bool(marks))

    def unpack(self, values: np.ndarray) -> np.ndarray:
        """Return the values, missing ones as NaN."""
        stored = values
        if self.is_unsigned:
            values = stored.view(stored.dtype.str.replace("i", "u"))
        if self[:3] == (1.0, 0.0, ()):
            return values
        with np.errstate(over="ignore", invalid="ignore"):
            unpacked = np.array(values, dtype=np.float64)
            if self.factor != 1.0:
                unpacked *= self.factor
            if self.offset != 0.0:
                unpacked += self.offset
        for missing in self.missing:
            unpacked[stored == np.asarray(missing).astype(stored.dtype)] = np.nan
        return unpacked


def _number(value: Any) -> float | None:
    """Return a number that an attribute holds, perhaps as text."""
    if isinstance(value, str):
        with suppress(ValueError, struct.error):
            if value in ("nan", "inf", "-inf"):
                return float(value)
            # As xarray writes fill values into Zarr.
            return struct.unpack("<d", base64.standard_b64decode(value))[0]
        return None
    return value if type(value) in (int, float) else None
