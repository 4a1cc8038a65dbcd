"""Normalisation: every field to mean zero and standard deviation one, and back."""

from __future__ import annotations

from collections.abc import Mapping
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
        mean: Mean by field name, in the field's unit.
        std: Standard deviation by field name, in the field's unit; 1 for a constant field.
    """

    mean: Mapping[str, float]
    std: Mapping[str, float]

    @classmethod
    def fit(cls, fields: Mapping[str, np.ndarray]) -> Normaliser:
        """Fit to arrays of any shape; hand it the training split only."""
        mean = {name: float(np.mean(field, dtype=np.float64)) for name, field in fields.items()}
        std = {name: float(np.std(field, dtype=np.float64)) for name, field in fields.items()}
        return cls(mean, {name: value or 1.0 for name, value in std.items()})

    def encode(self, name: str, field: ArrayT) -> ArrayT:
        """Bring a field from physical units to zero mean and unit deviation."""
        return (field - self.mean[name]) / self.std[name]

    def decode(self, name: str, field: ArrayT) -> ArrayT:
        """Bring a field back to physical units."""
        return field * self.std[name] + self.mean[name]
