"""What errors at sensors amount to, with intervals that count sensors, not readings.

Readings of one sensor share its errors of placing and calibration and are close in time, so that
they are not independent. Intervals are therefore found by drawing sensors with replacement, all
readings of a sensor together. Their 95 % are those of the expanded percentile bootstrap (T.
Hesterberg, The American Statistician 69, 2015, section 3.3), which a few sensors do not make too
narrow as the plain one does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from scipy.stats import norm, t

LEVEL = 0.95
DRAWS = 4000
_AT_ONCE = 2_000_000  # numbers of draws that are in memory together

_Sums: TypeAlias = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Estimate:
    """A figure with the interval that holds it with a probability of 95 %.

    Attributes:
        value: NaN where nothing could be measured.
        low: Where the interval begins; none where there are too few sensors for one.
        high: Where it ends.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def differs_from_zero(self) -> bool | None:
        """Whether zero is outside the interval; none where there is no interval."""
        if self.low is None or self.high is None:
            return None
        return not self.low <= 0.0 <= self.high


IN_UNITS = ("bias", "rmse", "mae", "max")
"""Figures that have the unit of the quantity."""

TO_UNCERTAINTY = ("within_two_uncertainties", "rmse_in_uncertainties", "reduced_chi_square")
"""Figures that need the sensors' uncertainties."""

_FIGURES: Mapping[str, Callable[[_Sums], np.ndarray]] = {
    "bias": lambda s: s["error"] / s["count"],
    "rmse": lambda s: np.sqrt(s["squared"] / s["count"]),
    "mae": lambda s: s["absolute"] / s["count"],
    "max": lambda s: s["max"],
    "relative_l2": lambda s: np.sqrt(s["squared"] / s["squared_reading"]),
    "within_two_uncertainties": lambda s: s["within"] / s["judged"],
    "rmse_in_uncertainties": lambda s: np.sqrt(s["judged_squared"] / s["squared_uncertainty"]),
    "reduced_chi_square": lambda s: s["chi_square"] / s["judged"],
}

COMPARED = ("rmse", "mae", "relative_l2")
"""Figures of which the difference between model and solver is estimated."""


class SensorErrors:
    """Errors of a prediction, summed by sensor.

    Args:
        error: Prediction less reading, shape `(rows,)`.
        reading: Shape `(rows,)`.
        uncertainty: Standard uncertainty of the reading, NaN where none is given.
        sensor: Number of each row's sensor; every number below the largest has a row.
    """

    def __init__(
        self, error: np.ndarray, reading: np.ndarray, uncertainty: np.ndarray, sensor: np.ndarray
    ) -> None:
        self.num_sensors = int(sensor.max()) + 1
        judged = np.isfinite(uncertainty)
        ratio = np.where(judged, error / np.where(judged, uncertainty, 1.0), 0.0)
        columns = {
            "count": np.ones(len(error)),
            "error": error,
            "absolute": np.abs(error),
            "squared": np.square(error),
            "squared_reading": np.square(reading),
            "judged": judged.astype(np.float64),
            "within": (judged & (np.abs(ratio) <= 2.0)).astype(np.float64),
            "chi_square": np.square(ratio),
            "judged_squared": np.where(judged, np.square(error), 0.0),
            "squared_uncertainty": np.where(judged, np.square(uncertainty), 0.0),
        }
        self._sums = {
            name: np.bincount(sensor, weights=column, minlength=self.num_sensors)
            for name, column in columns.items()
        }
        self._max = np.zeros(self.num_sensors)
        np.maximum.at(self._max, sensor, np.abs(error))

    def figures(self, draws: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return every figure over all sensors, or over each of many draws of them.

        Args:
            draws: How often each sensor is drawn, shape `(draws, sensors)`.

        Returns:
            Shape `(draws,)` by name; NaN where nothing was measured.
        """
        draws = np.ones((1, self.num_sensors)) if draws is None else draws
        totals = {name: draws @ sums for name, sums in self._sums.items()}
        totals["max"] = np.where(draws > 0, self._max, 0.0).max(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return {name: figure(totals) for name, figure in _FIGURES.items()}


def estimate(
    model: SensorErrors, solver: SensorErrors | None
) -> tuple[dict[str, Estimate], dict[str, Estimate] | None, dict[str, Estimate] | None]:
    """Estimate all figures, and by how much those of model and solver differ.

    Both are drawn together: what they share, such as a badly placed sensor, is in no difference.

    Args:
        model: Errors of the model.
        solver: Errors of the solver at the same readings.

    Returns:
        Figures of the model; of the solver; and model less solver, of those in `COMPARED`.
    """
    sides = [model] if solver is None else [model, solver]
    whole = [{name: float(v[0]) for name, v in side.figures().items()} for side in sides]
    drawn = [_drawn(side) for side in sides]
    ours, *theirs = (
        {name: _estimate(value, draws.get(name), model.num_sensors) for name, value in w.items()}
        for w, draws in zip(whole, drawn, strict=True)
    )
    if not theirs:
        return ours, None, None
    difference = {
        name: _estimate(
            whole[0][name] - whole[1][name],
            drawn[0][name] - drawn[1][name] if drawn[0] else None,
            model.num_sensors,
        )
        for name in COMPARED
    }
    return ours, theirs[0], difference


def _drawn(errors: SensorErrors) -> dict[str, np.ndarray]:
    """Return every figure of `DRAWS` draws of the sensors, none of a single sensor."""
    count = errors.num_sensors
    if count < 2:
        return {}
    rng = np.random.default_rng(0)  # the same draws for model and solver
    at_once = max(1, min(DRAWS, _AT_ONCE // count))
    parts = []
    for start in range(0, DRAWS, at_once):
        size = min(at_once, DRAWS - start)
        draws = rng.multinomial(count, np.full(count, 1.0 / count), size=size)
        parts.append(errors.figures(draws.astype(np.float64)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _estimate(value: float, draws: np.ndarray | None, sensors: int) -> Estimate:
    if draws is None or not np.isfinite(value):
        return Estimate(value)
    known = draws[np.isfinite(draws)]
    if not known.size:
        return Estimate(value)
    tail = _tail(sensors)
    low, high = np.quantile(known, [tail, 1.0 - tail])
    return Estimate(value, float(low), float(high))


@cache
def _tail(sensors: int) -> float:
    """Return the share of draws on either side of the interval."""
    quantile = t.ppf(0.5 + LEVEL / 2, sensors - 1)
    return float(norm.cdf(-np.sqrt(sensors / (sensors - 1)) * quantile))
