"""Intervals over seeds and test samples, of errors and of differences between two trainings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean and where 95 of 100 repetitions would put it."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether it lies on one side of zero."""
        return self.low > 0 or self.high < 0


def interval(values: np.ndarray) -> Interval:
    """Bootstrap the mean of values of shape `(seeds, samples)`: seeds and samples are redrawn.

    Three seeds are few; an interval over so few is too narrow rather than too wide.
    """
    rng = np.random.default_rng(0)
    seeds, samples = values.shape
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    of_samples = rng.multinomial(samples, np.full(samples, 1 / samples), RESAMPLES) / samples
    means = np.einsum("rs,rn,sn->r", of_seeds, of_samples, values, optimize=True)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def relative_change(values: np.ndarray, base: np.ndarray) -> Interval:
    """Bootstrap the change of the mean from a base, as a share of the base; both are redrawn alike.

    Shapes are `(seeds, samples)`, seed by seed and sample by sample.
    """
    change = interval(values - base)
    scale = float(base.mean())
    return Interval(change.mean / scale, change.low / scale, change.high / scale)
