"""Packed values, as the CF conventions have them: scaled, shifted, some of them missing."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Packing:
    """How values are packed.

    Attributes:
        factor: What packed values are multiplied by.
        offset: What is added to them then.
        missing: Packed values that stand for a missing one.
    """

    factor: float = 1.0
    offset: float = 0.0
    missing: tuple[float, ...] = ()

    @classmethod
    def of(cls, attributes: Mapping[str, Any], fill: Any = None) -> Packing:
        """Read it from an array's attributes.

        Args:
            attributes: `scale_factor`, `add_offset`, `_FillValue` and `missing_value` count.
            fill: A further value that stands for a missing one.
        """
        given = (attributes.get("_FillValue"), attributes.get("missing_value"), fill)
        missing = {number for number in map(_number, given) if number is not None}
        return cls(
            _number(attributes.get("scale_factor")) or 1.0,
            _number(attributes.get("add_offset")) or 0.0,
            tuple(sorted(missing)),
        )

    def unpack(self, values: np.ndarray) -> np.ndarray:
        """Return the values, missing ones as NaN."""
        plain = self.factor == 1.0 and self.offset == 0.0
        if plain and not self.missing:
            return values
        unpacked = values.astype(np.float64) * self.factor + self.offset
        for missing in self.missing:
            unpacked[values == np.asarray(missing).astype(values.dtype)] = np.nan
        return unpacked


def _number(value: Any) -> float | None:
    """Return a number that an attribute holds; none if there is none, or it is NaN."""
    if isinstance(value, str):  # as xarray writes fill values into Zarr
        try:
            (value,) = struct.unpack("<d", base64.standard_b64decode(value))
        except (binascii.Error, struct.error, ValueError):
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        return None
    return float(value)
