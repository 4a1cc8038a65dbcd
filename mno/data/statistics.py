"""Additive statistics: computed in parts, added in any grouping."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Extremes, mean and spread of a set of values.

    Two sets are added by the pairwise update of Chan, Golub and LeVeque (1983), which does not
    lose digits where the mean is large against the spread.

    Attributes:
        count: Number of values.
        min: Smallest value.
        max: Largest value.
        mean: Mean value.
        squares: Sum of squared distances from the mean.
    """

    count: int
    min: float
    max: float
    mean: float
    squares: float

    @classmethod
    def of(cls, values: np.ndarray) -> Moments:
        """Measure an array of any shape, in double precision."""
        values = values.astype(np.float64)
        mean = float(values.mean())
        squares = float(np.square(values - mean).sum())
        return cls(values.size, float(values.min()), float(values.max()), mean, squares)

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        step = other.mean - self.mean
        return Moments(
            count,
            min(self.min, other.min),
            max(self.max, other.max),
            self.mean + step * (other.count / count),
            self.squares + other.squares + step * step * (self.count * other.count / count),
        )

    @property
    def std(self) -> float:
        """Standard deviation (of the values themselves, not an estimate for a population)."""
        return math.sqrt(self.squares / self.count)
