"""Normalisation: every field to mean zero and standard deviation one, and back."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from torch import Tensor

from mno.data.reading import SampleArray, blocks

ArrayT = TypeVar("ArrayT", np.ndarray, Tensor)


@dataclass(frozen=True)
class Normaliser:
    """One mean and one standard deviation per field.

    They are single numbers, not maps, so that a model may be asked at any resolution. A field whose
    zero is to stay zero has mean 0; the deviation is 1 where it would be 0. Both are in the field's
    unit.
    """

    mean: Mapping[str, float]
    std: Mapping[str, float]

    @classmethod
    def fit(cls, fields: Mapping[str, SampleArray], about_zero: Collection[str] = ()) -> Normaliser:
        """Fit to samples, in memory or in files; hand it those of the training split only.

        Fields are arrays of shape `(samples, *sample)` with at least one value each; those that are
        missing, NaN, do not count. Those `about_zero` are divided by their root mean square only.
        """
        mean, std = {}, {}
        for name, field in fields.items():
            mean[name], std[name] = _mean_and_std(field)
        for name in about_zero:
            mean[name], std[name] = 0.0, math.hypot(mean[name], std[name])
        return cls(mean, {name: value or 1.0 for name, value in std.items()})

    def encode(self, name: str, field: ArrayT) -> ArrayT:
        """Bring a field from physical units to zero mean and unit deviation."""
        return (field - self.mean[name]) / self.std[name]

    def decode(self, name: str, field: ArrayT) -> ArrayT:
        """Bring a field back to physical units."""
        return field * self.std[name] + self.mean[name]


def _mean_and_std(field: SampleArray) -> tuple[float, float]:
    """Return what is added up of the blocks (Chan, Golub and LeVeque, 1983, eq. 1.3)."""
    count, mean, std = 0, 0.0, 0.0
    for rows in blocks(field):
        values = field[rows]
        missing = np.isnan(values)
        present = values[~missing] if missing.any() else values
        if not present.size:
            continue
        share = present.size / (count + present.size)
        here = float(np.mean(present, dtype=np.float64))
        spread = float(np.std(present, dtype=np.float64))
        if count:
            step = here - mean
            spread = math.sqrt(
                (1 - share) * std**2 + share * spread**2 + share * (1 - share) * step**2
            )
            here = mean + share * step
        count, mean, std = count + present.size, here, spread
    return mean, std
