"""Figures of a split, made of one or more numbers per sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Pooled:
    """A function of sums over samples.

    Attributes:
        columns: What is summed, shape `(sums, samples)`, float64.
        of: The figure that the sums make, from shape `(sums, *any)` to `(*any)`.
    """

    columns: np.ndarray
    of: Callable[[np.ndarray], np.ndarray]

    def value(self) -> float:
        """Return the figure of all samples; its sums are exact, so order does not matter."""
        return self._figure(np.array([math.fsum(column) for column in self.columns]))

    def per_sample(self) -> np.ndarray:
        """Return the figure of each sample alone, shape `(samples,)`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.of(self.columns)

    def minus(self, other: Pooled) -> Pooled:
        """Return the difference of two figures of the same samples.

        Raises:
            ValueError: They are of different numbers of samples.
        """
        (own, samples), theirs = self.columns.shape, other.columns.shape[1]
        if samples != theirs:
            raise ValueError(
                f"figures of {samples} and of {theirs} samples have no difference per sample; "
                "expected figures of the same samples"
            )
        columns = np.concatenate([self.columns, other.columns])
        return Pooled(columns, lambda sums: self.of(sums[:own]) - other.of(sums[own:]))

    def _figure(self, sums: np.ndarray) -> float:
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(self.of(sums))


@dataclass(frozen=True, eq=False)
class Largest:
    """The largest of one number per sample, shape `(samples,)`; NaN where it is not measured."""

    values: np.ndarray
    measured: np.ndarray

    def value(self) -> float:
        """Return the largest; NaN where one is, or where no sample was measured."""
        return float(np.max(self.values)) if self.measured.any() else math.nan

    def per_sample(self) -> np.ndarray:
        """Return the number of each sample, shape `(samples,)`; NaN where it was not measured."""
        return np.where(self.measured, self.values, math.nan)


def ratio(squared_error: np.ndarray, squared_size: np.ndarray) -> np.ndarray:
    """Return sqrt(error / size), with 0 for 0 / 0 and infinity for a positive number / 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.sqrt(squared_error) / np.sqrt(squared_size)
    return np.where(squared_error == 0, 0.0, found)
