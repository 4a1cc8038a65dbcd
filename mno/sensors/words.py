"""A comparison in words and as rows of tables, for the terminal and the page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from mno.core.numbers import number, percent
from mno.sensors.comparison import Comparison, Scores
from mno.sensors.scores import TO_UNCERTAINTY, Estimate

Row = dict[str, str]

_TITLES = {
    "bias": "Bias",
    "rmse": "RMSE",
    "mae": "Mean absolute error",
    "max": "Largest error",
    "relative_l2": "Relative L2",
    "within_two_uncertainties": "Readings within 2 uncertainties",
    "rmse_in_uncertainties": "RMSE in uncertainties",
    "reduced_chi_square": "Reduced chi-square",
}
_SHARES = ("relative_l2", "within_two_uncertainties")


def title_of(scores: Scores) -> str:
    """Return what some scores are of, with their unit."""
    name = scores.quantity or "all quantities, each by its root mean square"
    return f"{name} [{scores.units}]" if scores.units not in ("", "1") else name


def error_rows(scores: Scores) -> list[Row]:
    """Return one row for each figure that could be measured."""
    rows = []
    for name in scores.model:
        if name in TO_UNCERTAINTY and not scores.judged:
            continue
        row = {"figure": _TITLES[name], "model": _with_interval(name, scores.model[name])}
        if scores.solver is not None:
            row["solver"] = _with_interval(name, scores.solver[name])
        if scores.difference is not None:
            known = name in scores.difference
            row["model less solver"] = (
                _with_interval(name, scores.difference[name]) if known else "–"
            )
        rows.append(row)
    return rows


def sensor_rows(comparison: Comparison, most: int) -> list[Row]:
    """Return one row for each sensor and quantity, the worst first, `most` of each quantity."""
    rows = []
    for scores in comparison.quantities:
        own = [row for row in comparison.sensors if row["quantity"] == scores.quantity]
        own.sort(key=lambda row: -row["model"]["rmse"])
        rows += [_sensor_row(row) for row in own[:most]]
    return rows


def verdicts(comparison: Comparison) -> list[str]:
    """Say of each quantity how large the error is, and whether it is larger than the solver's."""
    return [" ".join(_verdict(scores, comparison)) for scores in comparison.quantities]


def left_out(comparison: Comparison) -> str:
    """Say how many readings are left out, and why; empty where none is."""
    why = comparison.pairs.left_out
    listed = "; ".join(f"{number(count)} {reason}" for reason, count in why.items())
    return f"{number(sum(why.values()))} readings are left out: {listed}" if why else ""


def _verdict(scores: Scores, comparison: Comparison) -> Iterator[str]:
    rmse = _with_interval("rmse", scores.model["rmse"])
    unit = "" if scores.units == "1" else f" {scores.units}"
    yield f"{scores.quantity}: RMSE {rmse}{unit} at {_counted(scores.sensors, 'sensor')}."
    if scores.judged:
        ratio = number(scores.model["rmse_in_uncertainties"].value, 2)
        share = percent(scores.model["within_two_uncertainties"].value)
        yield f"That is {ratio} times their uncertainty; {share} of readings are within twice it."
    if scores.solver is None or scores.difference is None:
        yield f"There is nothing to compare it with: {comparison.solver_missing}."
        return
    yield f"The solver's own is {_with_interval('rmse', scores.solver['rmse'])}{unit}:"
    apart = scores.difference["rmse"].differs_from_zero
    if apart is None:
        yield "with one sensor it cannot be said whether they differ."
    elif not apart:
        yield "the two cannot be told apart."
    else:
        worse = scores.difference["rmse"].value > 0
        yield f"the {'model' if worse else 'solver'} is worse."


def _sensor_row(row: Any) -> Row:
    shown = {
        "sensor": str(row["sensor"]),
        "quantity": row["quantity"],
        "position": ", ".join(number(x, 3) for x in row["position"]),
        "readings": number(row["readings"]),
        "uncertainty": "–" if row["uncertainty"] is None else number(row["uncertainty"], 2),
        "bias": number(row["model"]["bias"], 3),
        "RMSE": number(row["model"]["rmse"], 3),
        "largest": number(row["model"]["max"], 3),
    }
    if row["solver"] is not None:
        shown["solver's bias"] = number(row["solver"]["bias"], 3)
        shown["solver's RMSE"] = number(row["solver"]["rmse"], 3)
    return shown


def _with_interval(name: str, estimate: Estimate) -> str:
    if not math.isfinite(estimate.value):
        return "–"
    show = percent if name in _SHARES else lambda value: number(value, 3)
    value = show(estimate.value)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} ({show(estimate.low)} to {show(estimate.high)})"


def _counted(count: int, what: str) -> str:
    return f"{number(count)} {what}{'' if count == 1 else 's'}"
