"""Additive statistics: what is measured on each sample, and how parts of a split add up.

A metric is a function of these (`mno.evaluation.metrics`), never of the fields themselves. Each
sample is measured alone, in float64, and totals are exact sums, so batches, their size and their
order cannot change a result: neither a bit of it nor its meaning.

Where the truth is missing, NaN, nothing is compared: such values are counted and left out.

The split into statistics and metrics is that of weatherbenchX.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

Statistic = Callable[[np.ndarray, np.ndarray], float]


def _squared_error(prediction: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sum(np.square(prediction - truth)))


def _squared_truth(_: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sum(np.square(truth)))


def _max_error(prediction: np.ndarray, truth: np.ndarray) -> float:
    return float(np.max(np.abs(prediction - truth), initial=0.0))


def _points(_: np.ndarray, truth: np.ndarray) -> float:
    return float(truth.size)


STATISTICS: Mapping[str, Statistic] = {
    "points": _points,
    "squared_error": _squared_error,
    "squared_truth": _squared_truth,
    "max_error": _max_error,
}
"""What is measured on the values of one sample whose truth is known, by name."""

NAMES = (*STATISTICS, "missing")


class Statistics:
    """The statistics of one field, one value per sample.

    Args:
        values: For each name in `NAMES`, the values of all samples, in their order.
    """

    def __init__(self, values: Mapping[str, Iterable[float]] | None = None) -> None:
        given = values or {}
        self._values = {name: list(given.get(name, ())) for name in NAMES}

    @classmethod
    def of(cls, predictions: np.ndarray, truths: np.ndarray) -> Statistics:
        """Measure a batch.

        Args:
            predictions: Shape `(samples, *dims)`, in the field's unit.
            truths: The same shape and unit; NaN where it is missing.

        Raises:
            ValueError: The shapes differ.
        """
        if predictions.shape != truths.shape:
            raise ValueError(
                f"predictions have shape {predictions.shape}, truths {truths.shape}; "
                "expected the same shape"
            )
        statistics = cls()
        for prediction, truth in zip(predictions, truths, strict=True):
            p, t = np.ravel(prediction).astype(np.float64), np.ravel(truth).astype(np.float64)
            missing = np.isnan(t)
            statistics._values["missing"].append(float(missing.sum()))
            if missing.any():
                p, t = p[~missing], t[~missing]
            for name, measure in STATISTICS.items():
                statistics._values[name].append(measure(p, t))
        return statistics

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics({name: self._values[name] + other._values[name] for name in NAMES})

    def __len__(self) -> int:
        return len(self._values["points"])

    @property
    def measured(self) -> np.ndarray:
        """Which samples have a true value to compare with, shape `(samples,)`, boolean."""
        return self.per_sample("points") > 0

    def per_sample(self, name: str) -> np.ndarray:
        """Return one statistic of every sample, shape `(samples,)`, float64."""
        return np.array(self._values[name], dtype=np.float64)

    def total(self, name: str) -> float:
        """Return the exact sum over samples; NaN where a sample's is."""
        return math.fsum(self._values[name])

    def largest(self, name: str) -> float:
        """Return the largest value over samples; NaN where a sample's is, 0 without samples."""
        return float(np.max(self.per_sample(name), initial=0.0))
