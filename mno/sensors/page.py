"""The page of a comparison: one HTML file that is complete in itself, and its numbers beside it."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mno.core.files import write_bytes
from mno.core.numbers import number, percent
from mno.report.language import fact_rows
from mno.report.page import Figure, embedded, render_page
from mno.report.panels import labelled
from mno.report.style import PREDICTION_COLOUR, REFERENCE_COLOUR, TRUTH_COLOUR, curves, draw_legend
from mno.sensors.pairs import Pairs
from mno.sensors.scores import TO_UNCERTAINTY, Comparison, Estimate, Scores

Row = dict[str, str]

_TITLES = {
    "bias": "Bias", "rmse": "RMSE", "mae": "Mean absolute error", "max": "Largest error",
    "relative_l2": "Relative L2", "within_two_uncertainties": "Readings within 2 uncertainties",
    "rmse_in_uncertainties": "RMSE in uncertainties",
}  # fmt: skip
_SHARES = ("relative_l2", "within_two_uncertainties")


def error_rows(scores: Scores) -> list[Row]:
    """Return one row for each figure that could be measured."""
    sides = {"model": scores.model, "solver": scores.solver, "model less solver": scores.difference}
    rows = []
    for name in scores.model:
        if name not in TO_UNCERTAINTY or scores.judged:
            rows.append({"figure": _TITLES[name]})
            for side, found in sides.items():
                if found is not None:
                    rows[-1][side] = _with_interval(name, found[name]) if name in found else "–"
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
    rmse, unit = _with_interval("rmse", scores.model["rmse"]), _unit(scores.units)
    sensors = f"{number(scores.sensors)} sensor{'' if scores.sensors == 1 else 's'}"
    yield f"{scores.quantity}: RMSE {rmse}{unit} at {sensors}."
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
        yield f"the {'model' if scores.difference['rmse'].value > 0 else 'solver'} is worse."


def _sensor_row(row: Any) -> Row:
    at = {"position": ", ".join(number(x, 3) for x in row["position"])} if row["position"] else {}
    shown = {
        "sensor": str(row["sensor"]), "quantity": row["quantity"], **at,
        "readings": number(row["readings"]),
        "uncertainty": "–" if row["uncertainty"] is None else number(row["uncertainty"], 2),
        "bias": number(row["model"]["bias"], 3), "RMSE": number(row["model"]["rmse"], 3),
        "largest": number(row["model"]["max"], 3),
    }  # fmt: skip
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


_MOST_DOTS = 4000
_SOLVER: dict[str, Any] = {"color": TRUTH_COLOUR, "label": "solver"}
_MODEL: dict[str, Any] = {"color": PREDICTION_COLOUR, "label": "model"}


def _figures(comparison: Comparison, scores: Scores) -> Iterator[Figure]:
    pairs, name, rows = comparison.pairs, scores.quantity, comparison.sensors
    own = [place for place, row in enumerate(rows) if row["quantity"] == name]
    worst = max(own, key=lambda place: rows[place]["model"]["rmse"])
    time_units = comparison.facts["time_units"]
    who = "the model and the solver" if pairs.solver is not None else "the model"
    rmse = f"{number(scores.model['rmse'].value, 3)}{_unit(scores.units)}"
    stride = f" One reading in {_stride(scores.readings)} is drawn."
    yield Figure(
        f"parity_{name}",
        f"{name}: predicted and read",
        f"Predictions of {who} at the place and time of each reading, against the reading. "
        f"On the line they agree; the model's RMSE is {rmse}."
        + (stride if scores.readings > _MOST_DOTS else ""),
        f"Scatter of predicted against read {name} of {scores.sensors} sensors; RMSE {rmse}.",
        *curves(lambda ax: _parity(ax, pairs, scores), 5.0, square=True),
    )
    sensor = pairs.series[worst].sensor
    if len(pairs.series[worst].times):
        yield Figure(
            f"series_{name}_worst",
            f"{name}: the worst sensor, {sensor}",
            f"Readings of {sensor} with bars of two standard uncertainties, where they are "
            f"given, and predictions of {who} at its place. By RMSE of the model it is the worst "
            f"of {len(own)}.",
            f"Readings of {name} at {sensor} over time, with the prediction of {who}.",
            *curves(lambda ax: _over_time(ax, pairs, worst, scores.units, time_units)),
        )


def _stride(count: int) -> int:
    return -(-count // _MOST_DOTS)


def _parity(ax: Axes, pairs: Pairs, scores: Scores) -> None:
    own = np.array([series.quantity == scores.quantity for series in pairs.series])[pairs.of]
    rows = np.flatnonzero(own)
    rows = rows[:: _stride(len(rows))]
    for predicted, look, marker in ((pairs.solver, _SOLVER, "s"), (pairs.model, _MODEL, "o")):
        if predicted is not None:
            ax.plot(pairs.value[rows], predicted[rows], marker, ms=3, alpha=0.5, mew=0, **look)
    ends = [*ax.get_xlim(), *ax.get_ylim()]
    line = [min(ends), max(ends)]
    ax.plot(line, line, color=REFERENCE_COLOUR, lw=1)
    ax.set(xlim=line, ylim=line, aspect="equal")
    ax.set_xlabel(labelled(f"{scores.quantity}, read", scores.units))
    ax.set_ylabel(labelled(f"{scores.quantity}, predicted", scores.units))
    draw_legend(ax)


def _over_time(ax: Axes, pairs: Pairs, number_of: int, units: str, time_units: str) -> None:
    series, rows = pairs.series[number_of], np.flatnonzero(pairs.of == number_of)
    rows = rows[:: _stride(len(rows))]
    ax.errorbar(
        pairs.time[rows], pairs.value[rows], yerr=2 * np.nan_to_num(pairs.uncertainty[rows]),
        fmt=".", ms=4, color="black", ecolor=REFERENCE_COLOUR, elinewidth=0.8, label="readings",
        zorder=1,
    )  # fmt: skip
    for values, dashes, look in ((series.solver, "--", _SOLVER), (series.model, "-", _MODEL)):
        if values is not None:
            ax.plot(series.times, values, dashes, lw=1.6, zorder=2, **look)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.set_xlabel(labelled("time", time_units))
    ax.set_ylabel(labelled(series.quantity, units))
    draw_legend(ax)


def _unit(units: str) -> str:
    return "" if units == "1" else f" {units}"


def write_comparison(comparison: Comparison, folder: Path) -> Path:
    """Write the page, its numbers and its figures, in place of earlier ones; return its path."""
    figures = [f for scores in comparison.quantities for f in _figures(comparison, scores)]
    drawn = {folder / f"{figure.name}.png": figure.png for figure in figures}
    for kind in ("parity", "series"):
        for path in set(folder.glob(f"{kind}_*.png")) - set(drawn):
            path.unlink()
    for path, png in drawn.items():
        write_bytes(path, png)
    numbers = json.dumps(comparison.to_dict(), indent=2, allow_nan=False)
    write_bytes(folder / "comparison.json", numbers.encode() + b"\n")
    listed = sensor_rows(comparison, most=100)
    html = render_page(
        "sensors/comparison.html.j2",
        title=f"Against sensors: {str(comparison.facts['scenario']).replace('_', ' ')}",
        subtitle=f"{comparison.facts.get('model', 'A model')} against the readings of "
        f"{comparison.facts.get('readings', 'sensors')}.",
        verdicts=verdicts(comparison),
        remarks=[*comparison.remarks, *filter(None, [left_out(comparison)])],
        errors=[(labelled(s.quantity, s.units), error_rows(s)) for s in comparison.quantities],
        solved=comparison.pairs.solver is not None,
        sensors=listed,
        numbers=[name for name in listed[0] if name not in ("sensor", "quantity")],
        not_listed=len(comparison.sensors) - len(listed),
        figures=[embedded(figure) for figure in figures],
        what=fact_rows({**comparison.facts, "solver": comparison.solver_missing or "compared"}),
    )
    page = folder / "index.html"
    write_bytes(page, html.encode())
    return page
