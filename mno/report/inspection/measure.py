"""What is measured on one field, a part of its samples at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np

from mno.core.fields import Axis, Field
from mno.data.statistics import Moments
from mno.report.inspection.histogram import Histogram
from mno.report.inspection.spectrum import Spectrum, can_be_measured, noise_of_differences

_FRAMES = 8  # of each sample, for what is slow to measure
_EQUAL = 1e-4  # largest difference between distances that count as equal, as a share of their mean


class FieldMeasurement:
    """A field over the samples that were added so far.

    Memory grows by a few numbers per sample, whatever the size of a sample.

    Args:
        field: The field.
        axes: Of one sample's array, in order.
        samples: Number of samples of the dataset.

    Attributes:
        moments: Extremes, mean and spread by split, with the number of values that are not finite.
        histogram: Of all finite values.
        spectrum: Over space, of up to eight frames of each sample; none without an even grid.
        norms: Root mean square of each sample, shape `(samples,)`.
        constant: Samples in which all values are the same.
        still: Samples in which a frame repeats the one before it.
        repeated_frames: Number of such frames.
    """

    def __init__(self, field: Field, axes: Sequence[Axis], samples: int) -> None:
        self.field = field
        self.axes = tuple(axes)
        self.moments: dict[str, Moments] = {}
        self.histogram = Histogram.of(np.zeros(0))
        self.spectrum: Spectrum | None = None
        self.norms = np.full(samples, math.nan)
        self.constant: list[int] = []
        self.still: list[int] = []
        self.repeated_frames = 0
        self._noise = np.full(samples, math.nan)
        space = [axis for axis in axes if axis.name != "time"]
        grid = tuple(len(axis.points) for axis in space)
        # Numbers of unordered points are equally far apart, their places are not.
        even = all(axis.name != "point" and spacing_of(axis)[2] for axis in space)
        self._spacing: tuple[float, ...] | None = None
        if field.role != "coordinate" and can_be_measured(grid, even):
            self._spacing = tuple(spacing_of(axis)[0] for axis in space)

    @property
    def total(self) -> Moments:
        """Moments over all splits."""
        return reduce(add, self.moments.values())

    @property
    def noise(self) -> float:
        """Estimate of the noise by second differences: the median over samples, or NaN."""
        known = self._noise[np.isfinite(self._noise)]
        return float(np.median(known)) if known.size else math.nan

    @property
    def extremes(self) -> dict[str, int]:
        """Numbers of the samples of smallest, median and largest norm; none where none has one."""
        order = np.argsort(self.norms, kind="stable")[: int(np.isfinite(self.norms).sum())]
        if not order.size:
            return {}
        places = {"smallest": 0, "median": (len(order) - 1) // 2, "largest": len(order) - 1}
        return {rank: int(order[place]) for rank, place in places.items()}

    def add(self, start: int, values: np.ndarray, splits: np.ndarray) -> None:
        """Measure samples that follow each other.

        Args:
            start: Number of the first.
            values: Shape `(samples, *dims)`.
            splits: Split of each, shape `(samples,)`.
        """
        for row, split in enumerate(splits):
            self._add_sample(start + row, np.asarray(values[row]), str(split))
        self.histogram = self.histogram + Histogram.of(values)
        if self._spacing is not None:
            frames = _frames(values, self.axes)
            spectrum = Spectrum.of(frames.reshape(-1, *frames.shape[2:]), self._spacing)
            self.spectrum = spectrum if self.spectrum is None else self.spectrum + spectrum
            for row, sample in enumerate(frames):
                self._noise[start + row] = noise_of_differences(sample)

    def _add_sample(self, sample: int, values: np.ndarray, split: str) -> None:
        moments = Moments.of(values)
        self.moments[split] = self.moments[split] + moments if split in self.moments else moments
        if moments.count:
            self.norms[sample] = math.hypot(moments.mean, moments.std)
        if values.size > 1 and moments.count == values.size and moments.min == moments.max:
            self.constant.append(sample)
        elif "time" in self.field.dims and len(values) > 1:
            frames = values.reshape(len(values), -1)
            repeated = int((frames[1:] == frames[:-1]).all(axis=1).sum())
            self.repeated_frames += repeated
            if repeated:
                self.still.append(sample)


def spacing_of(axis: Axis) -> tuple[float, float, bool]:
    """Return the smallest and the largest distance between neighbours, and whether all are equal.

    Points are taken as equally far apart where only rounding makes a difference; NaN for one point.
    """
    if len(axis.points) < 2:
        return math.nan, math.nan, False
    distances = np.diff(axis.points)
    low, high = float(distances.min()), float(distances.max())
    return low, high, high - low <= _EQUAL * abs(float(distances.mean()))


def _frames(values: np.ndarray, axes: Sequence[Axis]) -> np.ndarray:
    """Return up to eight frames of each sample, shape `(samples, frames, *grid)`."""
    if not any(axis.name == "time" for axis in axes):
        return values[:, None]
    count = values.shape[1]
    return values[:, np.unique(np.linspace(0, count - 1, min(_FRAMES, count)).astype(int))]
