"""Normalisation: every field to mean zero and standard deviation one, and back."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from torch import Tensor

ArrayT = TypeVar("ArrayT", np.ndarray, Tensor)


@dataclass(frozen=True)
class Normaliser:
    """One mean and one standard deviation per field.

    They are single numbers, not maps, so that a model may be asked at any resolution.

    Attributes:
        mean: Mean by field name, in the field's unit; 0 for a field whose zero is to stay zero.
        std: Standard deviation from that by field name, in the field's unit; 1 where it would be 0.
    """

    mean: Mapping[str, float]
    std: Mapping[str, float]

    @classmethod
    def fit(cls, fields: Mapping[str, np.ndarray], about_zero: Collection[str] = ()) -> Normaliser:
        """Fit to arrays of any shape; hand it the training split only.

        Args:
            fields: Values by field name, at least one of each; those that are missing, NaN, do not
                count.
            about_zero: Fields that are divided by their root mean square only.
        """
        mean, std = {}, {}
        for name, field in fields.items():
            missing = np.isnan(field)
            present = field[~missing] if missing.any() else field
            mean[name] = float(np.mean(present, dtype=np.float64))
            std[name] = float(np.std(present, dtype=np.float64))
        for name in about_zero:
            mean[name], std[name] = 0.0, math.hypot(mean[name], std[name])
        return cls(mean, {name: value or 1.0 for name, value in std.items()})

    def encode(self, name: str, field: ArrayT) -> ArrayT:
        """Bring a field from physical units to zero mean and unit deviation."""
        return (field - self.mean[name]) / self.std[name]

    def decode(self, name: str, field: ArrayT) -> ArrayT:
        """Bring a field back to physical units."""
        return field * self.std[name] + self.mean[name]
