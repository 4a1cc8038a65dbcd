"""The learning curve: the error as a function of the number of training samples, carried further.

The error of a trained model falls with the number n of its training samples as a power law that
ends in a floor, where no further sample helps (Hestness et al., arXiv:1712.00409; of operators
de Hoop et al., arXiv:2203.13181):

    e(n) = e_N ((1 - r) (n / N)^-b + r)

N is the largest number measured, e_N the error there, b the exponent, r the floor's share of e_N.
Three to five points cannot tell a small exponent from a near floor, and a best fit would hide that.
So all (b, r) on a grid are kept, each weighted by how well it explains the points, after half the
weight went to r = 0; what is said of more samples is a quantile over them. Of simulated trainings
whose points scatter by 1 to 8 %, 94 % of the intervals of 90 % held the true error at four times
the samples. How far points scatter about the curve is not known either, and is weighted likewise:
it stands for what initial weights, the choice of the subset and the finite number of measured
samples do to a single training. That these are few, and the same at all points, shifts the curve.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.special import ndtri

from mno.core.absent import Absent

LEVEL = 0.9  # share of the weight that lies in an interval
FURTHEST = 10  # times the largest measured number of samples, beyond which nothing is said
FEWEST = 3  # different numbers of samples without which there is no curve

_EXPONENTS = np.linspace(0.02, 2.0, 67)
_FLOORS = np.linspace(0.0, 0.98, 25)
_NO_FLOOR = 0.5  # weight, before anything is measured, of there being none
_SCATTER = np.geomspace(0.01, 0.2, 8)
_NEGLIGIBLE = 1e-6  # weight, relative to the largest, of curves that are left out
_LEVELS = ndtri((np.arange(5) + 0.5) / 5)  # equally likely standard normal numbers


class Interval(NamedTuple):
    """A median and the bounds of an interval of 90 %; None where it is further than can be told."""

    middle: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """All curves that explain the measured points, one in each row, with their weights."""

    largest: int  # N
    exponents: np.ndarray  # b
    floors: np.ndarray  # r
    errors: np.ndarray  # e_N
    weights: np.ndarray  # they sum to one

    @classmethod
    def fit(
        cls, samples: Sequence[int], errors: Sequence[float], relative_deviation: float = 0.0
    ) -> Self:
        """Weigh the curves by the number of training samples of each training, and its error.

        The relative deviation is the standard deviation of the measured error, relative to it, that
        the finite number of measured samples brings, alike for all points.

        Raises:
            ValueError: There are fewer than three different numbers, or an error is not above 0.
        """
        n, e = np.asarray(samples, float), np.asarray(errors, float)
        if len(np.unique(n)) < FEWEST or not (np.isfinite(e).all() and (e > 0).all()):
            raise ValueError(f"expected {FEWEST} numbers of samples or more, and errors above 0")
        exponents, floors, scatter = (
            grid.ravel() for grid in np.meshgrid(_EXPONENTS, _FLOORS, _SCATTER, indexing="ij")
        )
        shape = (1 - floors) * np.power.outer(n / n.max(), -exponents) + floors
        remainders = np.log(e)[:, None] - np.log(shape)
        level = remainders.mean(axis=0)
        squares = ((remainders - level) ** 2).sum(axis=0)
        # The level is integrated out, which leaves one power of the scatter fewer than points.
        log_weights = -(len(e) - 1) * np.log(scatter) - squares / (2 * scatter**2)
        others = len(_FLOORS) - 1
        prior = np.where(floors == 0, _NO_FLOOR, (1 - _NO_FLOOR) / others)
        weights = prior * np.exp(log_weights - log_weights.max())
        deviation = np.sqrt(scatter**2 / len(e) + relative_deviation**2)
        levels = level[:, None] + deviation[:, None] * _LEVELS
        kept = weights > _NEGLIGIBLE * weights.max()
        repeated = np.repeat(weights[kept], len(_LEVELS))
        return cls(
            largest=int(n.max()),
            exponents=np.repeat(exponents[kept], len(_LEVELS)),
            floors=np.repeat(floors[kept], len(_LEVELS)),
            errors=np.exp(levels[kept]).ravel(),
            weights=repeated / repeated.sum(),
        )

    def error(self, samples: float) -> Interval:
        """Return the error with so many training samples; a ValueError if they are too many."""
        if samples > FURTHEST * self.largest:
            raise ValueError(f"samples={samples} are more than {FURTHEST} times {self.largest}")
        powers = (samples / self.largest) ** -self.exponents
        return self._interval(self.errors * ((1 - self.floors) * powers + self.floors))

    def samples_for(self, error: float) -> Interval:
        """Return how many training samples bring the error down to this one.

        What is None lies beyond ten times the largest number that was measured, or nowhere.
        """
        found = self._interval(self._samples_for(error))
        return Interval(*(None if v is None or v > FURTHEST * self.largest else v for v in found))

    def chance(self, error: float) -> float:
        """Return the weight of the curves that reach an error within ten times the samples."""
        within = self._samples_for(error) <= FURTHEST * self.largest
        return float(self.weights[within].sum())

    def _samples_for(self, error: float) -> np.ndarray:
        above = (error / self.errors - self.floors) / (1 - self.floors)
        with np.errstate(divide="ignore", over="ignore"):
            times = np.where(above > 0, np.maximum(above, 0) ** (-1 / self.exponents), np.inf)
        return self.largest * times

    def _interval(self, values: np.ndarray) -> Interval:
        order = np.argsort(values, kind="stable")
        reached = np.cumsum(self.weights[order])
        at = np.searchsorted(reached, (0.5, (1 - LEVEL) / 2, (1 + LEVEL) / 2))
        middle, low, high = values[order[np.minimum(at, len(order) - 1)]]
        return Interval(*(float(v) if math.isfinite(v) else None for v in (middle, low, high)))


def fit_points(measured: Mapping[str, Any]) -> LearningCurve | Absent:
    """Return the curve through `reports/learning_curve.json`, of validation errors, or why none."""
    points = measured["points"]
    if not points:
        return Absent("learning.off")
    known = [p for p in points if _is_positive(p["validation"]["relative_l2"])]
    sizes = {p["samples"] for p in known}
    if len(sizes) < FEWEST:
        return Absent("learning.few", {"count": len(sizes), "fewest": FEWEST})
    errors = [p["validation"]["relative_l2"] for p in known]
    largest = max(known, key=lambda p: p["samples"])["validation"]
    deviation = largest["standard_error"]
    relative = deviation / largest["relative_l2"] if _is_positive(deviation) else 0.0
    return LearningCurve.fit([p["samples"] for p in known], errors, relative)


def _is_positive(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0
