"""What came of bounds and flags: coverage on the test split, false alarms and missed ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mno.core.config import Config
from mno.surrogate.trust.bounds import (
    coverage_interval,
    expected_coverage,
    samples_needed,
)


class Rate(Config):
    """How many of some samples had what is counted.

    Attributes:
        count: How many.
        samples: Of how many.
        low: Lower end of the 95 % binomial interval of the rate.
        high: Upper end.
        expected: Range in which the rate lies in 95 % of all cases, where the sizes of the splits
            tell it.
    """

    count: int
    samples: int
    low: float
    high: float
    expected: tuple[float, float] | None = None

    @classmethod
    def of(cls, which: np.ndarray) -> Rate:
        """Count.

        Args:
            which: Shape `(samples,)`, boolean.
        """
        count, samples = int(which.sum()), len(which)
        low, high = coverage_interval(count, samples)
        return cls(count=count, samples=samples, low=low, high=high)

    @property
    def rate(self) -> float | None:
        """The share of the samples; none of no samples."""
        return self.count / self.samples if self.samples else None


class Pairs(Config):
    """Relative L2 errors of some test samples and the bounds on them; none where infinite.

    Attributes:
        error: Of each sample.
        bound: Likewise.
    """

    error: tuple[float | None, ...]
    bound: tuple[float | None, ...]


class Measured(Config):
    """What was found on samples that nothing was calibrated on.

    Attributes:
        coverage: Test samples whose error a bound held for: by field, by measure, of each frame;
            samples without a known truth do not count, and none is measured where there is no
            bound.
        false_alarms: Test samples that were flagged as unlike the training data.
        outside: Inputs from outside the training data that were flagged, by kind; the others are
            missed alarms.
        pairs: Errors and bounds of the first test samples, by field.
    """

    coverage: Mapping[str, Mapping[str, tuple[Rate | None, ...]]]
    false_alarms: Rate
    outside: Mapping[str, Rate]
    pairs: Mapping[str, Pairs]


def coverage(errors: np.ndarray, bounds: np.ndarray, calibrated_on: int, level: float) -> tuple[
    Rate | None, ...
]:  # fmt: skip
    """Count the samples whose error is within its bound.

    Args:
        errors: Shape `(samples, frames)`; NaN where no truth is known.
        bounds: Likewise; infinite where there is none.
        calibrated_on: Samples that the bounds were calibrated on.
        level: Of the bounds.

    Returns:
        The rate of each frame; none where no finite bound was given on a measured error.
    """
    rates = []
    for error, bound in zip(errors.T, bounds.T, strict=True):
        known = ~np.isnan(error)
        if not (known & np.isfinite(bound)).any() or calibrated_on < samples_needed(level):
            rates.append(None)
            continue
        held = Rate.of((error <= bound)[known])
        expected = expected_coverage(calibrated_on, held.samples, level)
        rates.append(held.model_copy(update={"expected": expected}))
    return tuple(rates)


def finite(values: np.ndarray) -> tuple[float | None, ...]:
    """Return numbers as JSON takes them, none for those that are infinite or not a number."""
    return tuple(float(v) if np.isfinite(v) else None for v in values)
