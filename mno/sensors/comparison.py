"""The outcome: errors at the sensors, of the model beside those of the solver."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mno.sensors.pairs import Pairs
from mno.sensors.scores import IN_UNITS, Estimate, SensorErrors, estimate

_FEW_SENSORS = 5  # below, intervals of planted errors held them less often than in 94 of 100 cases

Estimates = Mapping[str, Estimate]


@dataclass(frozen=True)
class Scores:
    """Errors of one quantity, or of all.

    Attributes:
        quantity: Its name; empty for all together.
        units: Its unit; empty for all together where they are several.
        readings: Number of readings that are compared.
        judged: Number of them with an uncertainty.
        sensors: Number of sensors.
        model: Figures of the model.
        solver: Figures of the solver; none where there is none.
        difference: Model less solver.
    """

    quantity: str
    units: str
    readings: int
    judged: int
    sensors: int
    model: Estimates
    solver: Estimates | None
    difference: Estimates | None

    @property
    def headline(self) -> str:
        """Name of the figure by which model and solver are compared."""
        return "rmse" if self.units else "relative_l2"


@dataclass(frozen=True)
class Comparison:
    """What came of comparing a model with sensors.

    Attributes:
        pairs: The readings with what is predicted of each.
        quantities: Scores by quantity.
        overall: Scores of all of them together.
        sensors: One row for each series, as plain values.
        facts: What was compared: model, scenario, inputs, readings, start.
        solver_missing: Why there is no solver; empty where there is one.
        remarks: What is worth knowing, one sentence each.
    """

    pairs: Pairs
    quantities: tuple[Scores, ...]
    overall: Scores
    sensors: tuple[Mapping[str, Any], ...]
    facts: Mapping[str, Any]
    solver_missing: str
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values; what could not be measured is None."""
        return {
            **self.facts,
            "readings_compared": len(self.pairs),
            "readings_left_out": dict(self.pairs.left_out),
            "quantities": {scores.quantity: _scores(scores) for scores in self.quantities},
            "overall": _scores(self.overall),
            "sensors": [dict(row) for row in self.sensors],
            "solver_missing": self.solver_missing or None,
            "remarks": list(self.remarks),
        }


def compare(
    pairs: Pairs, facts: Mapping[str, Any], solver_missing: str = "", remarks: tuple[str, ...] = ()
) -> Comparison:
    """Measure the errors.

    Args:
        pairs: What `pair` returned.
        facts: What was compared, for people.
        solver_missing: Why there is no solver, where there is none.
        remarks: What else is worth knowing.
    """
    quantities = tuple(_scores_of(pairs, [name]) for name in pairs.units)
    overall = quantities[0] if len(quantities) == 1 else _scores_of(pairs, list(pairs.units))
    by_series = np.split(np.argsort(pairs.of, kind="stable"), np.cumsum(np.bincount(pairs.of))[:-1])
    rows = tuple(_sensor_row(pairs, number, own) for number, own in enumerate(by_series))
    found = (*remarks, *_remarks(quantities))
    return Comparison(pairs, quantities, overall, rows, facts, solver_missing, found)


def _scores_of(pairs: Pairs, names: list[str]) -> Scores:
    """Measure some quantities together; several are scaled to a root mean square of 1 each."""
    of = {name: np.array([s.quantity == name for s in pairs.series])[pairs.of] for name in names}
    chosen = np.any(list(of.values()), axis=0)
    scale = np.ones(len(pairs))
    if len(names) > 1:
        for rows in of.values():
            scale[rows] = math.sqrt(float(np.mean(np.square(pairs.value[rows])))) or 1.0
    _, sensors = np.unique([series.sensor for series in pairs.series], return_inverse=True)
    _, sensor = np.unique(sensors[pairs.of[chosen]], return_inverse=True)
    value, uncertainty = pairs.value / scale, pairs.uncertainty / scale

    def errors(predicted: np.ndarray) -> SensorErrors:
        error = (predicted / scale - value)[chosen]
        return SensorErrors(error, value[chosen], uncertainty[chosen], sensor)

    solver = None if pairs.solver is None else errors(pairs.solver)
    estimates = list(estimate(errors(pairs.model), solver))
    if len(names) > 1:  # in no unit that anybody knows
        hidden = {*IN_UNITS}
        estimates = [e and {k: v for k, v in e.items() if k not in hidden} for e in estimates]
    return Scores(
        names[0] if len(names) == 1 else "",
        pairs.units[names[0]] if len(names) == 1 else "",
        int(chosen.sum()),
        int(np.isfinite(uncertainty[chosen]).sum()),
        int(sensor.max()) + 1,
        *estimates,  # type: ignore[arg-type]
    )


def _sensor_row(pairs: Pairs, number: int, rows: np.ndarray) -> dict[str, Any]:
    """Return the errors of one series, whose rows are given, in the quantity's unit."""
    series = pairs.series[number]
    sigma = pairs.uncertainty[rows]
    known = sigma[np.isfinite(sigma)]
    row = {
        "sensor": series.sensor,
        "quantity": series.quantity,
        "units": pairs.units[series.quantity],
        "position": [float(x) for x in series.place],
        "readings": len(rows),
        "uncertainty": float(np.sqrt(np.mean(np.square(known)))) if len(known) else None,
    }
    for name, predicted in (("model", pairs.model), ("solver", pairs.solver)):
        if predicted is None:
            row[name] = None
            continue
        error = predicted[rows] - pairs.value[rows]
        row[name] = {
            "bias": float(error.mean()),
            "rmse": float(np.sqrt(np.mean(np.square(error)))),
            "max": float(np.abs(error).max()),
        }
    return row


def _remarks(quantities: tuple[Scores, ...]) -> list[str]:
    found = []
    for scores in quantities:
        name = scores.quantity
        if scores.sensors < 2:
            found.append(f"{name}: one sensor alone gives no intervals")
        elif scores.sensors < _FEW_SENSORS:
            found.append(
                f"{name}: {scores.sensors} sensors are few; intervals hold the truth less often "
                "than in 95 of 100 cases"
            )
        if not scores.judged:
            found.append(
                f"{name}: no reading has an uncertainty, so that nothing is said of errors "
                "relative to it"
            )
        elif scores.judged < scores.readings:
            found.append(
                f"{name}: {scores.judged} of {scores.readings} readings have an uncertainty; the "
                "figures relative to it are of these alone"
            )
    return found


def _scores(scores: Scores) -> dict[str, Any]:
    return {
        "units": scores.units or None,
        "readings": scores.readings,
        "readings_with_uncertainty": scores.judged,
        "sensors": scores.sensors,
        "model": _estimates(scores.model),
        "solver": _estimates(scores.solver),
        "model_less_solver": _estimates(scores.difference),
        "told_apart": scores.difference and scores.difference[scores.headline].differs_from_zero,
    }


def _estimates(estimates: Estimates | None) -> dict[str, Any] | None:
    if estimates is None:
        return None
    return {
        name: {"value": e.value, "low": e.low, "high": e.high} if math.isfinite(e.value) else None
        for name, e in estimates.items()
    }
