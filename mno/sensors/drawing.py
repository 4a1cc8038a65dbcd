"""The figures of a comparison: predicted against read, errors by sensor, two sensors over time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mno.core.numbers import number
from mno.report.curves import LEGEND, NARROW, WIDE
from mno.report.figures import Figure
from mno.report.panels import labelled
from mno.report.style import (
    PREDICTION_COLOUR,
    REFERENCE_COLOUR,
    TRUTH_COLOUR,
    house_style,
    new_figure,
    png_bytes,
)
from mno.sensors.comparison import Comparison, Scores
from mno.sensors.pairs import Pairs

_MOST_DOTS = 4000
_MOST_SENSORS = 30
_SOLVER: dict[str, Any] = {"color": TRUTH_COLOUR, "label": "solver"}
_MODEL: dict[str, Any] = {"color": PREDICTION_COLOUR, "label": "model"}


def draw_comparison(comparison: Comparison) -> list[Figure]:
    """Draw each quantity: all readings, all sensors, and the worst and the median sensor."""
    return [figure for scores in comparison.quantities for figure in _figures(comparison, scores)]


def _figures(comparison: Comparison, scores: Scores) -> Iterator[Figure]:
    pairs, name = comparison.pairs, scores.quantity
    order = _by_error(comparison, name)
    who = "the model and the solver" if pairs.solver is not None else "the model"
    rmse = f"{number(scores.model['rmse'].value, 3)}{_unit(scores.units)}"
    yield Figure(
        name=f"parity_{name}",
        title=f"{name}: predicted and read",
        caption=f"Predictions of {who} at the place and time of each reading, against the reading. "
        f"On the line they agree; the model's RMSE is {rmse}."
        + (f" One reading in {_stride(scores.readings)} is drawn."
           if scores.readings > _MOST_DOTS else ""),
        alt=f"Scatter of predicted against read {name} of {scores.sensors} sensors; RMSE {rmse}.",
        png=_parity(pairs, scores, WIDE),
        narrow=_parity(pairs, scores, NARROW),
    )  # fmt: skip
    shown = order[-_MOST_SENSORS:]
    worst = pairs.series[order[-1]].sensor
    yield Figure(
        name=f"sensors_{name}",
        title=f"{name}: error by sensor",
        caption="Mean of prediction less reading at each sensor, the sensors in the order of the "
        "model's RMSE. Bars reach two standard uncertainties of a reading to either side, where "
        f"they are given. The worst is {worst}."
        + (f" The {len(shown)} worst of {len(order)} are drawn." if shown != order else ""),
        alt=f"Mean error of {name} at {len(shown)} sensors; the worst is {worst}.",
        png=_by_sensor(comparison, shown, WIDE),
        narrow=_by_sensor(comparison, shown, NARROW),
    )
    chosen = {"worst": order[-1], "median": order[(len(order) - 1) // 2]}
    for rank, series in chosen.items():
        if not len(pairs.series[series].times) or (rank == "median" and len(order) == 1):
            continue
        sensor = pairs.series[series].sensor
        yield Figure(
            name=f"series_{name}_{rank}",
            title=f"{name}: the {rank} sensor, {sensor}",
            caption=f"Readings of {sensor} with bars of two standard uncertainties, where they are "
            f"given, and predictions of {who} at its place. By RMSE of the model it is the {rank} "
            f"of {len(order)}.",
            alt=f"Readings of {name} at {sensor} over time, with the prediction of {who}.",
            png=_over_time(pairs, series, scores.units, comparison.facts["time_units"], WIDE),
            narrow=_over_time(pairs, series, scores.units, comparison.facts["time_units"], NARROW),
        )


def _stride(count: int) -> int:
    """Return one in how many of so many readings is drawn."""
    return -(-count // _MOST_DOTS)


def _by_error(comparison: Comparison, quantity: str) -> list[int]:
    """Return the numbers of a quantity's series, the best first."""
    rows = comparison.sensors
    own = [place for place, row in enumerate(rows) if row["quantity"] == quantity]
    return sorted(own, key=lambda place: rows[place]["model"]["rmse"])


def _parity(pairs: Pairs, scores: Scores, width: float) -> bytes:
    own = np.array([series.quantity == scores.quantity for series in pairs.series])[pairs.of]
    rows = np.flatnonzero(own)
    rows = rows[:: _stride(len(rows))]
    sides = [(pairs.solver, _SOLVER, "s"), (pairs.model, _MODEL, "o")]
    with house_style():
        figure = new_figure(width, min(width, 5.0))
        ax = figure.add_subplot()
        for predicted, look, marker in sides:
            if predicted is not None:
                ax.plot(pairs.value[rows], predicted[rows], marker, ms=3, alpha=0.5, mew=0, **look)
        ends = [*ax.get_xlim(), *ax.get_ylim()]
        ax.plot([min(ends), max(ends)], [min(ends), max(ends)], color=REFERENCE_COLOUR, lw=1)
        ax.set_xlim(min(ends), max(ends))
        ax.set_ylim(min(ends), max(ends))
        ax.set_aspect("equal")
        ax.set_xlabel(labelled(f"{scores.quantity}, read", scores.units))
        ax.set_ylabel(labelled(f"{scores.quantity}, predicted", scores.units))
        ax.legend(**LEGEND)
        return png_bytes(figure)


def _by_sensor(comparison: Comparison, shown: list[int], width: float) -> bytes:
    rows = [comparison.sensors[place] for place in shown]
    heights = np.arange(len(rows))
    with house_style():
        figure = new_figure(width, 1.1 + 0.24 * len(rows))
        ax = figure.add_subplot()
        for side, look, marker, shift in (
            ("solver", _SOLVER, "s", 0.15), ("model", _MODEL, "o", -0.15),
        ):  # fmt: skip
            if rows[0][side] is None:
                continue
            ax.errorbar(
                [row[side]["bias"] for row in rows], heights + shift,
                xerr=[2 * (row["uncertainty"] or 0.0) for row in rows],
                fmt=marker, ms=4, elinewidth=1, **look,
            )  # fmt: skip
        ax.axvline(0.0, color=REFERENCE_COLOUR, lw=1)
        ax.set_yticks(heights, [str(row["sensor"])[:24] for row in rows])
        ax.set_ylim(-0.6, len(rows) - 0.4)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.set_xlabel(labelled("mean of prediction less reading", rows[0]["units"]))
        ax.legend(**LEGEND)
        return png_bytes(figure)


def _over_time(pairs: Pairs, number_of: int, units: str, time_units: str, width: float) -> bytes:
    series, rows = pairs.series[number_of], np.flatnonzero(pairs.of == number_of)
    rows = rows[:: _stride(len(rows))]
    with house_style():
        figure = new_figure(width, 3.4)
        ax = figure.add_subplot()
        bars = 2 * np.nan_to_num(pairs.uncertainty[rows])
        ax.errorbar(
            pairs.time[rows], pairs.value[rows], yerr=bars, fmt=".", ms=4, color="black",
            ecolor=REFERENCE_COLOUR, elinewidth=0.8, label="readings", zorder=1,
        )  # fmt: skip
        _curve(ax, series.times, series.solver, "--", _SOLVER)
        _curve(ax, series.times, series.model, "-", _MODEL)
        ax.xaxis.set_major_locator(MaxNLocator(6))
        ax.set_xlabel(labelled("time", time_units))
        ax.set_ylabel(labelled(series.quantity, units))
        ax.legend(**LEGEND)
        return png_bytes(figure)


def _curve(ax: Axes, times: np.ndarray, values: np.ndarray | None, dashes: str, look: dict) -> None:
    if values is not None:
        ax.plot(times, values, dashes, lw=1.6, zorder=2, **look)


def _unit(units: str) -> str:
    return "" if units == "1" else f" {units}"
