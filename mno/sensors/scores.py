"""What errors at sensors amount to, with intervals that count sensors, not readings.

Readings of one sensor share its errors of placing and calibration and are close in time, so that
they are not independent. Intervals are therefore found by drawing sensors with replacement, all
readings of a sensor together. Their 95 % are those of the expanded percentile bootstrap (T.
Hesterberg, The American Statistician 69, 2015, section 3.3), which a few sensors do not make too
narrow as the plain one does.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm, t

from mno.sensors.pairs import Pairs

LEVEL = 0.95
DRAWS = 4000
_AT_ONCE = 2_000_000  # numbers of draws that are in memory together
_FEW_SENSORS = 5  # below, intervals of planted errors held them less often than in 94 of 100 cases


class Estimate(NamedTuple):
    """A figure, NaN if nothing was measured, and its interval of 95 %, if of enough sensors."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def differs_from_zero(self) -> bool | None:
        """Whether zero is outside the interval; none where there is no interval."""
        return None if self.low is None or self.high is None else not self.low <= 0.0 <= self.high


Estimates = Mapping[str, Estimate]

_FIGURES: Mapping[str, Callable[[Mapping[str, np.ndarray]], np.ndarray]] = {
    "bias": lambda s: s["error"] / s["count"],
    "rmse": lambda s: np.sqrt(s["squared"] / s["count"]),
    "mae": lambda s: s["absolute"] / s["count"],
    "max": lambda s: s["max"],
    "relative_l2": lambda s: np.sqrt(s["squared"] / s["squared_reading"]),
    "within_two_uncertainties": lambda s: s["within"] / s["judged"],
    "rmse_in_uncertainties": lambda s: np.sqrt(s["judged_squared"] / s["squared_uncertainty"]),
}
COMPARED = ("rmse", "mae", "relative_l2")  # of which model less solver is estimated
TO_UNCERTAINTY = ("within_two_uncertainties", "rmse_in_uncertainties")
"""Figures that need the sensors' uncertainties."""


class SensorErrors:
    """Errors of a prediction (less the reading), summed by sensor; all arguments are `(rows,)`.

    Uncertainties of readings are NaN where not given; each sensor up to the largest has a row.
    """

    def __init__(
        self, error: np.ndarray, reading: np.ndarray, uncertainty: np.ndarray, sensor: np.ndarray
    ) -> None:
        self.num_sensors = int(sensor.max()) + 1
        judged = np.isfinite(uncertainty)
        columns = {
            "count": np.ones(len(error)), "error": error, "absolute": np.abs(error),
            "squared": np.square(error), "squared_reading": np.square(reading),
            "judged": judged.astype(np.float64),
            "within": (np.abs(error) <= 2.0 * uncertainty).astype(np.float64),  # of NaN, never
            "judged_squared": np.where(judged, np.square(error), 0.0),
            "squared_uncertainty": np.where(judged, np.square(uncertainty), 0.0),
        }  # fmt: skip
        self._sums = {
            name: np.bincount(sensor, weights=column, minlength=self.num_sensors)
            for name, column in columns.items()
        }
        self._max = np.zeros(self.num_sensors)
        np.maximum.at(self._max, sensor, np.abs(error))

    def figures(self, draws: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return every figure over all sensors, or over each of many draws of them.

        Draws are how often each sensor is drawn, shape `(draws, sensors)`. Figures have shape
        `(draws,)`; NaN where nothing was measured.
        """
        draws = np.ones((1, self.num_sensors)) if draws is None else draws
        totals = {name: draws @ sums for name, sums in self._sums.items()}
        totals["max"] = np.where(draws > 0, self._max, 0.0).max(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return {name: figure(totals) for name, figure in _FIGURES.items()}


def estimate(
    model: SensorErrors, solver: SensorErrors | None
) -> tuple[Estimates, Estimates | None, Estimates | None]:
    """Estimate all figures of model and solver, and by how much those in `COMPARED` differ.

    Both are drawn together: what they share, such as a badly placed sensor, is in no difference.
    """
    ours, our_draws = _drawn(model)
    found = _estimates(ours, our_draws, model.num_sensors)
    if solver is None:
        return found, None, None
    theirs, their_draws = _drawn(solver)
    less = {name: ours[name] - theirs[name] for name in COMPARED}
    drawn = {n: our_draws[n] - their_draws[n] for n in COMPARED if n in our_draws}
    solvers = _estimates(theirs, their_draws, model.num_sensors)
    return found, solvers, _estimates(less, drawn, model.num_sensors)


def _drawn(errors: SensorErrors) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return every figure, and that of `DRAWS` draws of the sensors; none of a single sensor."""
    count, parts = errors.num_sensors, []
    rng = np.random.default_rng(0)  # the same draws for model and solver
    at_once = max(1, min(DRAWS, _AT_ONCE // count))
    for start in range(0, DRAWS if count > 1 else 0, at_once):
        size = min(at_once, DRAWS - start)
        draws = rng.multinomial(count, np.full(count, 1.0 / count), size=size)
        parts.append(errors.figures(draws.astype(np.float64)))
    whole = {name: float(value[0]) for name, value in errors.figures().items()}
    return whole, {name: np.concatenate([p[name] for p in parts]) for name in whole if parts}


def _estimates(
    values: Mapping[str, float], draws: Mapping[str, np.ndarray], sensors: int
) -> dict[str, Estimate]:
    found = {name: Estimate(value) for name, value in values.items()}
    for name, drawn in draws.items():
        known = drawn[np.isfinite(drawn)]
        if np.isfinite(values[name]) and known.size:
            quantile = t.ppf(0.5 + LEVEL / 2, sensors - 1)
            tail = float(norm.cdf(-np.sqrt(sensors / (sensors - 1)) * quantile))
            low, high = np.quantile(known, [tail, 1.0 - tail])
            found[name] = Estimate(values[name], float(low), float(high))
    return found


@dataclass(frozen=True)
class Scores:
    """Errors of one quantity, by figure."""

    quantity: str
    units: str
    readings: int  # that are compared
    judged: int  # of them, with an uncertainty
    sensors: int
    model: Estimates
    solver: Estimates | None  # none where there is none
    difference: Estimates | None  # model less solver

    def to_dict(self) -> dict[str, Any]:
        """Return them as plain values; model and solver are told apart by the RMSE."""
        return {
            "units": self.units, "readings": self.readings,
            "readings_with_uncertainty": self.judged, "sensors": self.sensors,
            "model": _plain(self.model), "solver": _plain(self.solver),
            "model_less_solver": _plain(self.difference),
            "told_apart": self.difference and self.difference["rmse"].differs_from_zero,
        }  # fmt: skip


def _plain(estimates: Estimates | None) -> dict[str, Any] | None:
    if estimates is None:
        return None
    return {n: e._asdict() if math.isfinite(e.value) else None for n, e in estimates.items()}


@dataclass(frozen=True)
class Comparison:
    """What came of comparing a model with sensors."""

    pairs: Pairs  # the readings with what is predicted of each
    quantities: tuple[Scores, ...]
    sensors: tuple[Mapping[str, Any], ...]  # one row for each series, as plain values
    facts: Mapping[str, Any]  # what was compared: model, scenario, inputs, readings, start
    solver_missing: str  # why there is no solver; empty where there is one
    remarks: tuple[str, ...]  # what is worth knowing, one sentence each

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values; what could not be measured is None."""
        return {
            **self.facts,
            "readings_compared": len(self.pairs),
            "readings_left_out": dict(self.pairs.left_out),
            "quantities": {scores.quantity: scores.to_dict() for scores in self.quantities},
            "sensors": [dict(row) for row in self.sensors],
            "solver_missing": self.solver_missing or None,
            "remarks": list(self.remarks),
        }


def compare(pairs: Pairs, facts: Mapping[str, Any], solver_missing: str = "") -> Comparison:
    """Measure the errors of what is paired, and say why there is no solver where there is none."""
    quantities = tuple(_scores_of(pairs, name) for name in pairs.units)
    by_series = np.split(np.argsort(pairs.of, kind="stable"), np.cumsum(np.bincount(pairs.of))[:-1])
    rows = tuple(_sensor_row(pairs, number, own) for number, own in enumerate(by_series))
    remarks = tuple(f"{s.quantity}: {remark}" for s in quantities for remark in _remarks(s))
    return Comparison(pairs, quantities, rows, facts, solver_missing, remarks)


def _scores_of(pairs: Pairs, name: str) -> Scores:
    chosen = np.array([series.quantity == name for series in pairs.series])[pairs.of]
    _, sensors = np.unique([series.sensor for series in pairs.series], return_inverse=True)
    _, sensor = np.unique(sensors[pairs.of[chosen]], return_inverse=True)
    value, uncertainty = pairs.value[chosen], pairs.uncertainty[chosen]
    model, solver = (
        None if said is None else SensorErrors(said[chosen] - value, value, uncertainty, sensor)
        for said in (pairs.model, pairs.solver)
    )
    assert model  # there always is one
    judged = int(np.isfinite(uncertainty).sum())
    estimates = estimate(model, solver)
    return Scores(name, pairs.units[name], len(value), judged, model.num_sensors, *estimates)


def _sensor_row(pairs: Pairs, number: int, rows: np.ndarray) -> dict[str, Any]:
    series = pairs.series[number]
    sigma = pairs.uncertainty[rows]
    known = sigma[np.isfinite(sigma)]
    row = {
        "sensor": series.sensor, "quantity": series.quantity,
        "units": pairs.units[series.quantity],
        "position": [float(x) for x in series.place], "readings": len(rows),
        "uncertainty": float(np.sqrt(np.mean(np.square(known)))) if len(known) else None,
    }  # fmt: skip
    for name, predicted in (("model", pairs.model), ("solver", pairs.solver)):
        row[name] = None
        if predicted is not None:
            error = predicted[rows] - pairs.value[rows]
            squared, largest = float(np.mean(np.square(error))), float(np.abs(error).max())
            row[name] = {"bias": float(error.mean()), "rmse": math.sqrt(squared), "max": largest}
    return row


def _remarks(scores: Scores) -> Iterator[str]:
    if scores.sensors < 2:
        yield "one sensor alone gives no intervals"
    elif scores.sensors < _FEW_SENSORS:
        yield (
            f"{scores.sensors} sensors are few; intervals hold the truth less often than in 95 of "
            "100 cases"
        )
    if not scores.judged:
        yield "no reading has an uncertainty, so that nothing is said of errors relative to it"
    elif scores.judged < scores.readings:
        yield (
            f"{scores.judged} of {scores.readings} readings have an uncertainty; the figures "
            "relative to it are of these alone"
        )
