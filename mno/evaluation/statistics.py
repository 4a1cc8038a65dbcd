"""Additive statistics: what is measured on each sample, and how parts of a split add up.

A metric is a function of these (`mno.evaluation.metrics`), never of the fields themselves. Each
sample is measured alone, in float64, and totals are exact sums, so batches, their size and their
order cannot change a result: neither a bit of it nor its meaning.

Where the truth is missing, NaN, nothing is compared: such values are counted and left out.

The split into statistics and metrics is that of weatherbenchX.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from mno.evaluation.space import Space
from mno.evaluation.spatial import measure_on_grid

POINTWISE = ("points", "missing", "squared_error", "squared_truth", "max_error")
"""What is measured of every field; on a grid there is more (`mno.evaluation.spatial`)."""

NO_GRID = "no grid was given"

_AT_ONCE = 2**17  # values, so that what is computed on the way stays in the processor's cache


class Statistics:
    """The statistics of one field, one value per sample.

    Args:
        values: By name, the values of all samples in their order, shape `(samples, *more)`.
        space: The grid on which the field was measured, or why there is none.
    """

    def __init__(
        self, values: Mapping[str, np.ndarray] | None = None, space: Space | str = NO_GRID
    ) -> None:
        self._values = dict(values) if values else {name: np.zeros(0) for name in POINTWISE}
        self.space = space

    @classmethod
    def of(
        cls,
        predictions: np.ndarray,
        truths: np.ndarray,
        space: Space | str = NO_GRID,
        spectra: bool = False,
    ) -> Statistics:
        """Measure a batch.

        Args:
            predictions: Shape `(samples, *dims)`, in the field's unit.
            truths: The same shape and unit; NaN where it is missing.
            space: The grid of the field, to measure what asks for one; or why there is none.
            spectra: Whether the spectra of prediction and truth are measured, too, on a grid.

        Raises:
            ValueError: The shapes differ, or are not those of the grid.
        """
        if predictions.shape != truths.shape:
            raise ValueError(
                f"predictions have shape {predictions.shape}, truths {truths.shape}; "
                "expected the same shape"
            )
        if isinstance(space, Space) and truths.shape[-len(space.shape) :] != space.shape:
            raise ValueError(
                f"fields have shape {truths.shape[1:]}; expected the grid's {space.shape}, frames "
                "before it"
            )
        blocks = _blocks(truths.shape)
        parts = [_measure(predictions[rows], truths[rows], space, spectra) for rows in blocks]
        return cls({n: np.concatenate([part[n] for part in parts]) for n in parts[0]}, space)

    def __add__(self, other: Statistics) -> Statistics:
        """Return the statistics of this one's samples and then the other's."""
        if not (len(self) and len(other)):
            return self if len(self) else other
        pairs = {name: (own, other._values[name]) for name, own in self._values.items()}
        return Statistics({n: np.concatenate(pair) for n, pair in pairs.items()}, self.space)

    def __len__(self) -> int:
        return len(self._values["points"])

    @property
    def measured(self) -> np.ndarray:
        """Which samples have a true value to compare with, shape `(samples,)`, boolean."""
        return self.per_sample("points") > 0

    def per_sample(self, name: str) -> np.ndarray:
        """Return one statistic of every sample, shape `(samples, *more)`, float64."""
        return self._values[name]

    def total(self, name: str) -> float:
        """Return the exact sum over samples; NaN where a sample's is."""
        return math.fsum(self._values[name])

    def largest(self, name: str) -> float:
        """Return the largest value over samples; NaN where a sample's is, 0 without samples."""
        return float(np.max(self._values[name], initial=0.0))


def of_frames(predictions: np.ndarray, truths: np.ndarray) -> list[Statistics]:
    """Measure each frame of a batch for itself, without what a grid would add.

    Args:
        predictions: Shape `(samples, frames, *grid)`.
        truths: The same shape; NaN where it is missing.
    """
    frames = truths.shape[1]
    rows = Statistics.of(
        predictions.reshape(-1, *predictions.shape[2:]), truths.reshape(-1, *truths.shape[2:])
    )
    values = {name: rows.per_sample(name).reshape(-1, frames) for name in POINTWISE}
    return [Statistics({n: v[:, frame] for n, v in values.items()}) for frame in range(frames)]


def _measure(
    predictions: np.ndarray, truths: np.ndarray, space: Space | str, spectra: bool
) -> dict[str, np.ndarray]:
    predicted, true = (np.ascontiguousarray(a, dtype=np.float64) for a in (predictions, truths))
    with np.errstate(invalid="ignore", over="ignore"):  # of predictions that are not numbers
        flat = len(true), math.prod(true.shape[1:])
        found = _measure_pointwise(predicted.reshape(flat), true.reshape(flat))
        if isinstance(space, Space):
            found |= measure_on_grid(predicted, true, space, spectra)
    return found


def _measure_pointwise(predicted: np.ndarray, true: np.ndarray) -> dict[str, np.ndarray]:
    """Measure samples of shape `(samples, values)`."""
    missing = np.isnan(true)
    counts = missing.sum(axis=1).astype(np.float64)
    if counts.any():
        predicted, true = (np.where(missing, 0.0, a) for a in (predicted, true))
    error = predicted - true
    return {
        "points": true.shape[1] - counts,
        "missing": counts,
        "squared_error": np.square(error).sum(axis=1),
        "squared_truth": np.square(true).sum(axis=1),
        "max_error": np.abs(error).max(axis=1, initial=0.0),
    }


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    step = max(1, _AT_ONCE // max(math.prod(shape[1:]), 1))
    for start in range(0, max(shape[0], 1), step):
        yield slice(start, start + step)
