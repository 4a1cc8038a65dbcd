"""What is measured of each field of a dataset: moments, histogram, spectrum, noise; additive.

Glossary: `k` wavenumber in cycles per unit of length; `p` power, the variance that one mode holds;
`h` distance between points; `N` number of points of one frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np

from mno.core.fields import Axis, Field
from mno.data.statistics import Moments

BINS = 128
_MANTISSA = 24  # bits of a float32; finer bins than it tells apart would stay empty
_SMALLEST = -149  # exponent of the smallest float32


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of finite values in bins as wide as a power of two, at most `BINS` of them.

    Bins begin at multiples of their width, so that two of them make one of twice the width: parts
    are brought to the width that the whole needs and added, and the result does not depend on how
    the values were divided.
    """

    exponent: int  # bins are `2**exponent` wide
    first: int  # the first bin begins at `first * 2**exponent`
    counts: np.ndarray  # of values, shape (bins,); empty where there are none

    @classmethod
    def of(cls, values: np.ndarray) -> Histogram:
        """Count an array of any shape; what is not finite is left out."""
        finite = values[np.isfinite(values)].astype(np.float64)
        if not finite.size:
            return cls(_SMALLEST, 0, np.zeros(0, np.int64))
        low, high = float(finite.min()), float(finite.max())
        # Bins are not too many, and not finer than float32 tells apart.
        finest = math.frexp(max(abs(low), abs(high)))[1] - _MANTISSA if low or high else _SMALLEST
        enough = math.frexp(high - low)[1] - (BINS.bit_length() - 1) if high > low else _SMALLEST
        exponent = max(finest, enough, _SMALLEST)
        first = math.floor(math.ldexp(low, -exponent))
        places = np.floor(np.ldexp(finite, -exponent)).astype(np.int64) - first
        return cls(exponent, first, np.bincount(places)).widened(exponent)

    @property
    def edges(self) -> np.ndarray:
        """Where bins begin and end, shape `(bins + 1,)`."""
        return np.ldexp(self.first + np.arange(len(self.counts) + 1.0), self.exponent)

    def widened(self, exponent: int) -> Histogram:
        """Return the same in wider bins: no narrower than asked for, and not too many."""
        result = self
        while result.exponent < exponent or len(result.counts) > BINS:
            result = result._halved()
        return result

    def _halved(self) -> Histogram:
        odd = self.first % 2
        counts = np.pad(self.counts, (odd, (odd + len(self.counts)) % 2))
        return Histogram(self.exponent + 1, self.first // 2, counts.reshape(-1, 2).sum(axis=1))

    def __add__(self, other: Histogram) -> Histogram:
        if not (self.counts.size and other.counts.size):
            return self if self.counts.size else other
        a, b = self, other
        while True:
            exponent = max(a.exponent, b.exponent)
            a, b = a.widened(exponent), b.widened(exponent)
            first = min(a.first, b.first)
            bins = max(a.first + len(a.counts), b.first + len(b.counts)) - first
            if bins <= BINS:
                break
            a, b = a._halved(), b._halved()
        counts = np.zeros(bins, np.int64)
        for part in (a, b):
            counts[part.first - first :][: len(part.counts)] += part.counts
        return Histogram(exponent, first, counts)


CUTOFF = 2 / 3  # above this share of the highest wavenumber a field counts as at the cut-off
_NOISE = 0.9  # and above this one there is hoped to be nothing but noise
_MAD = 0.6744897501960817  # median of |x| for the normal distribution of deviation one
_FEWEST_POINTS = 8


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Radially averaged power spectrum of fields on one grid; additive over samples and frames.

    The mean is removed and a Hann window put on, so that the jump from one end of the domain to
    the other, which is none of the field's, does not fill the high wavenumbers. Shells are as wide
    as the lowest wavenumber and end at the highest one that all axes resolve, `1 / (2 h)`.
    """

    wavenumbers: np.ndarray  # of the shells, shape (shells,)
    modes: np.ndarray  # how many are in each shell
    variance: np.ndarray  # in each shell, summed over fields
    total: float  # variance at all wavenumbers but zero, corners beyond the last shell included
    points: int  # of one field
    count: int  # of fields

    @classmethod
    def of(cls, values: np.ndarray, spacing: Sequence[float]) -> Spectrum:
        """Measure fields of shape `(fields, *grid)` whose points are equally far apart."""
        grid, axes = values.shape[1:], tuple(range(1, values.ndim))
        finite = values[np.isfinite(values).all(axis=axes)].astype(np.float64)
        centred = (finite - finite.mean(axis=axes, keepdims=True)) * _window(grid)
        power = np.square(np.abs(np.fft.rfftn(centred, axes=axes)) / math.prod(grid)).sum(axis=0)
        k, weights = _wavenumbers(grid, spacing)
        width = max(1 / (n * h) for n, h in zip(grid, spacing, strict=True))
        shells = int(min(1 / (2 * h) for h in spacing) / width + 1e-9)
        shell = np.rint(k / width).astype(np.int64).ravel()
        modes = np.bincount(shell, weights.ravel(), minlength=shells + 1)[1 : shells + 1]
        variance = np.bincount(shell, (weights * power).ravel(), minlength=shells + 1)
        wavenumbers, total = width * np.arange(1, shells + 1), float(variance[1:].sum())
        variance = variance[1 : shells + 1]
        return cls(wavenumbers, modes, variance, total, math.prod(grid), len(finite))

    def __add__(self, other: Spectrum) -> Spectrum:
        return replace(
            self,
            variance=self.variance + other.variance,
            total=self.total + other.total,
            count=self.count + other.count,
        )

    @property
    def power(self) -> np.ndarray:
        """Mean power of a mode in each shell, shape `(shells,)`."""
        return self.variance / self.modes / max(self.count, 1)

    @property
    def share_at_cutoff(self) -> float:
        """Share of the variance above two thirds of the highest wavenumber."""
        below = self.wavenumbers <= CUTOFF * self.wavenumbers[-1]
        rest = self.total - float(self.variance[below].sum())
        return max(0.0, rest / self.total) if self.total else 0.0

    @property
    def noise(self) -> float:
        """Standard deviation of white noise that has the power of the highest wavenumbers."""
        high = self.wavenumbers > _NOISE * self.wavenumbers[-1]
        modes = float(self.modes[high].sum()) * max(self.count, 1)
        return math.sqrt(self.points * float(self.variance[high].sum()) / modes)


def noise_of_differences(values: np.ndarray) -> float:
    """Estimate the noise in one field by the median of its absolute second differences.

    They are taken along every axis of the grid, one after the other. Of white noise of deviation
    `s` they have the deviation `s * sqrt(6)` for each axis; smooth fields have small ones, and the
    median does not see few large ones, such as jumps. Curvature counts as noise, so that the truth
    is below the estimate; where most neighbours are equal it is zero and tells nothing. Values have
    the shape `(frames, *grid)`.
    """
    differences = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    for axis in range(1, values.ndim):
        differences = np.diff(differences, 2, axis=axis)
    finite = np.abs(differences[np.isfinite(differences)])
    if not finite.size:
        return math.nan
    return float(np.median(finite)) / _MAD / math.sqrt(6.0) ** (values.ndim - 1)


def _window(grid: Sequence[int]) -> np.ndarray:
    """Return a Hann window of mean square one."""
    window = np.ones(())
    for n in grid:
        line = np.square(np.sin(np.pi * (np.arange(n) + 0.5) / n))
        window = window[..., None] * (line / math.sqrt(np.mean(np.square(line))))
    return window


def _wavenumbers(grid: Sequence[int], spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return |k| of the modes of `rfftn`, and how many modes of the whole transform each is."""
    *others, last = [np.fft.fftfreq(n, h) for n, h in zip(grid, spacing, strict=True)]
    last = np.abs(last[: grid[-1] // 2 + 1])
    k = np.sqrt(sum(np.square(a) for a in np.meshgrid(*others, last, indexing="ij")))
    alone = (np.arange(len(last)) == 0) | (2 * np.arange(len(last)) == grid[-1])
    return k, np.broadcast_to(np.where(alone, 1.0, 2.0), k.shape)


_FRAMES = 8  # of each sample, for what is slow to measure
_EQUAL = 1e-4  # largest difference between distances that count as equal, as a share of their mean


class FieldMeasurement:
    """A field over those of a dataset's samples that were added so far.

    Memory grows by a few numbers per sample, whatever the size of a sample. Axes are those of one
    sample's array, in order.
    """

    def __init__(self, field: Field, axes: Sequence[Axis], samples: int) -> None:
        self.field, self.axes = field, tuple(axes)
        self.moments: dict[str, Moments] = {}  # by split
        self.histogram = Histogram.of(np.zeros(0))
        self.spectrum: Spectrum | None = None  # of some frames; none without an even grid
        self.norms = np.full(samples, math.nan)  # root mean square of each sample
        self.constant: list[int] = []  # samples in which all values are the same
        self.still: list[int] = []  # samples in which a frame repeats the one before it
        self.repeated_frames = 0
        self._noise = np.full(samples, math.nan)
        space = [axis for axis in axes if axis.name != "time"]
        grid = tuple(len(axis.points) for axis in space)
        # Numbers of unordered points are equally far apart, their places are not.
        even = all(axis.name != "point" and spacing_of(axis)[2] for axis in space)
        enough = len(grid) > 0 and min(grid) >= _FEWEST_POINTS
        self._spacing: tuple[float, ...] | None = None
        if field.role != "coordinate" and even and enough:
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
        """Measure samples that follow each other from one on, shape `(samples, *dims)`."""
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
