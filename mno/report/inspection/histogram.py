"""A histogram whose range need not be known before: additive, whatever the parts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

BINS = 128
_MANTISSA = 24  # bits of a float32; finer bins than it tells apart would stay empty
_SMALLEST = -149  # exponent of the smallest float32


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of finite values in bins as wide as a power of two, at most `BINS` of them.

    Bins begin at multiples of their width, so that two of them make one of twice the width: parts
    are brought to the width that the whole needs and added, and the result does not depend on how
    the values were divided.

    Attributes:
        exponent: Bins are `2**exponent` wide.
        first: The first bin begins at `first * 2**exponent`.
        counts: Numbers of values, shape `(bins,)`; empty where there are none.
    """

    exponent: int
    first: int
    counts: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Histogram:
        """Count an array of any shape; what is not finite is left out."""
        finite = values[np.isfinite(values)].astype(np.float64)
        if not finite.size:
            return cls(_SMALLEST, 0, np.zeros(0, np.int64))
        low, high = float(finite.min()), float(finite.max())
        exponent = _exponent(low, high)
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


def _exponent(low: float, high: float) -> int:
    """Return the exponent of bins that are not too many and not finer than float32 tells apart."""
    finest = math.frexp(max(abs(low), abs(high)))[1] - _MANTISSA if low or high else _SMALLEST
    enough = math.frexp(high - low)[1] - (BINS.bit_length() - 1) if high > low else _SMALLEST
    return max(finest, enough, _SMALLEST)
