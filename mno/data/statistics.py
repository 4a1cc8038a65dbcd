"""Additive statistics: computed in parts, added in any grouping."""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np

_DECADES, _PER_DECADE = 8, 4
_TENTHS = 10
_BLOCK = 2**16  # values whose double-precision copy stays in a core's cache
_EDGES = 10.0 ** (np.arange(-_DECADES * _PER_DECADE, 1) / _PER_DECADE)


@dataclass(frozen=True)
class Moments:
    """Extremes, mean and spread of a set of values; those that are not finite are counted only.

    Two sets are added by the pairwise update of Chan, Golub and LeVeque (1983), which does not
    lose digits where the mean is large against the spread.
    """

    count: int  # of finite values
    min: float
    max: float
    mean: float
    squares: float  # sum of squared distances from the mean
    missing: int = 0  # values that are NaN or infinite

    @classmethod
    def of(cls, values: np.ndarray) -> "Moments":
        """Measure an array of any shape, in double precision."""
        values = np.asarray(values).ravel()
        starts = range(0, max(1, values.size), _BLOCK)
        return reduce(add, (cls._of_block(values[start : start + _BLOCK]) for start in starts))

    @classmethod
    def _of_block(cls, values: np.ndarray) -> "Moments":
        low = high = math.nan
        if values.size:  # extremes tell fastest whether all values are finite
            low, high = float(values.min()), float(values.max())
        missing = 0
        if not (math.isfinite(low) and math.isfinite(high)):
            finite = np.isfinite(values)
            missing = int(values.size - np.count_nonzero(finite))
            values = values[finite]
            if not values.size:
                return cls(0, math.inf, -math.inf, 0.0, 0.0, missing)
            low, high = float(values.min()), float(values.max())
        distances = values.astype(np.float64)
        mean = float(distances.mean())
        # In place, since fresh memory costs more than the arithmetic.
        np.subtract(distances, mean, out=distances)
        squares = float(np.square(distances, out=distances).sum())
        return cls(values.size, low, high, mean, squares, missing)

    def __add__(self, other: "Moments") -> "Moments":
        missing = self.missing + other.missing
        if not (self.count and other.count):
            return replace(self if self.count else other, missing=missing)
        count = self.count + other.count
        step = other.mean - self.mean
        low, high = min(self.min, other.min), max(self.max, other.max)
        mean = self.mean + step * (other.count / count)
        squares = self.squares + other.squares + step * step * (self.count * other.count / count)
        return Moments(count, low, high, mean, squares, missing)

    @property
    def std(self) -> float:
        """Standard deviation (of the values themselves, not an estimate for a population)."""
        return math.sqrt(self.squares / self.count) if self.count else math.nan


@dataclass(frozen=True)
class Margins:
    """How far values stay below a limit: a histogram of value / limit on a logarithmic scale.

    `counts` are numbers of values, the first of those up to `lowest` (zero and what is negative
    included), the last of those above the limit or not a number; between them in equal steps of
    the logarithm. Everything counts as `lowest` where the limit is zero and kept.
    """

    counts: tuple[int, ...]
    lowest: float = 10.0**-_DECADES  # as a share of the limit
    per_decade: int = _PER_DECADE

    @classmethod
    def of(cls, values: np.ndarray, limit: float) -> "Margins":
        """Count an array of any shape."""
        bins = np.searchsorted(limit * _EDGES, values.ravel())
        return cls(tuple(np.bincount(bins, minlength=len(_EDGES) + 1).tolist()))

    def __add__(self, other: "Margins") -> "Margins":
        return Margins(tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)))


@dataclass(frozen=True)
class Decades:
    """Where values lie over the decades: how many there are in each tenth of one.

    `counts` are by the number of the tenth, `n` from 10^(n/10) to 10^((n+1)/10); what is not
    positive is `others`, and what is not finite does not count.
    """

    counts: Mapping[int, int]
    others: int = 0

    @classmethod
    def of(cls, values: np.ndarray) -> "Decades":
        """Count an array of any shape."""
        finite = values[np.isfinite(values)].astype(np.float64)
        positive = finite[finite > 0.0]
        tenths, counts = np.unique(
            np.floor(_TENTHS * np.log10(positive)).astype(int), return_counts=True
        )
        found = dict(zip(tenths.tolist(), counts.tolist(), strict=True))
        return cls(found, finite.size - positive.size)

    def __add__(self, other: "Decades") -> "Decades":
        return Decades(Counter(self.counts) + Counter(other.counts), self.others + other.others)

    def span(self, low: float, high: float) -> tuple[float, float] | None:
        """Return two quantiles, outwards to ends of tenths of a decade.

        None where a value is not positive, or there is none.
        """
        tenths = sorted(self.counts)
        if self.others or not tenths:
            return None
        below = np.cumsum([self.counts[tenth] for tenth in tenths])
        first = tenths[int(np.searchsorted(below, low * below[-1], side="right"))]
        last = tenths[int(np.searchsorted(below, high * below[-1]))]
        return 10.0 ** (first / _TENTHS), 10.0 ** ((last + 1) / _TENTHS)


def count_duplicates(inputs: Sequence[Hashable], splits: Sequence[str]) -> tuple[int, int]:
    """Count samples whose inputs an earlier one has, and inputs found in more than one split."""
    found: dict[Hashable, set[str]] = {}
    for digest, split in zip(inputs, splits, strict=True):
        found.setdefault(digest, set()).add(split)
    return len(inputs) - len(found), sum(len(names) > 1 for names in found.values())
