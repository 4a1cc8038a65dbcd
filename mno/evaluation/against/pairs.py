"""Readings, and what model and solver say at their places and times, in the model's units."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mno.errors import InputError
from mno.evaluation.against.given import Given
from mno.evaluation.against.predicted import Predicted
from mno.evaluation.against.stencil import brackets
from mno.evaluation.against.units import places_of, scales_of, seconds_to

if TYPE_CHECKING:
    from mno.data.importers.readings import Readings

_SAME = 1e-6  # of an interval: nearer than this, a time is that of the frame


@dataclass(frozen=True, eq=False)
class Series:
    """What one sensor measures of one quantity at one place, and what is said of it.

    Attributes:
        quantity: Name of the model's field.
        sensor: Name of the sensor.
        place: Its coordinates, shape `(axes,)`, in the units of the axes.
        times: When the frames are, shape `(frames,)`; empty for a field without time.
        model: What the model predicts there, shape `(frames,)`, or `(1,)` without time.
        solver: What the solver says, of the same shape; none where there is no solver.
    """

    quantity: str
    sensor: str
    place: np.ndarray
    times: np.ndarray
    model: np.ndarray
    solver: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Pairs:
    """Readings that can be compared, one row each.

    Attributes:
        units: The model's unit of each quantity that is compared, by name.
        series: Those that have a row.
        of: Number of each row's series, shape `(rows,)`.
        time: In the unit of the prediction's times, from its time 0, shape `(rows,)`.
        value: What was read, shape `(rows,)`.
        uncertainty: Standard uncertainty of it, NaN where none is given, shape `(rows,)`.
        model: What the model predicts, shape `(rows,)`.
        solver: What the solver says; none where there is none.
        left_out: Number of readings that cannot be compared, by the reason.
    """

    units: Mapping[str, str]
    series: tuple[Series, ...]
    of: np.ndarray
    time: np.ndarray
    value: np.ndarray
    uncertainty: np.ndarray
    model: np.ndarray
    solver: np.ndarray | None
    left_out: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.value)


class _Sieve:
    """Which readings are still to be compared, and why others are not."""

    def __init__(self, count: int) -> None:
        self.kept = np.ones(count, dtype=bool)
        self.left_out: dict[str, int] = {}

    def leave_out(self, reason: str, which: np.ndarray) -> None:
        count = int(np.count_nonzero(self.kept & which))
        if count:
            self.left_out[reason] = count
        self.kept &= ~which


def pair(
    readings: Readings,
    outputs: Mapping[str, str],
    given: Given,
    predictions: tuple[Predicted, ...],
    position_units: str = "m",
    start: float = 0.0,
) -> Pairs:
    """Bring predictions to the places and times of readings.

    The prediction is interpolated linearly in space and time, readings never. A field without time
    is compared with readings of any time.

    Args:
        readings: The readings, quantities named like the model's fields.
        outputs: Units of the model's fields, by name.
        given: Where the predictions are.
        predictions: What the model predicts, and what the solver says where there is one.
        position_units: Unit of the sensors' positions.
        start: When the prediction's time 0 is, in seconds on the clock of the readings.

    Raises:
        InputError: Quantities, units or axes do not fit, or no reading can be compared.
    """
    names = [readings.quantities[quantity] for quantity in readings.series_quantity]
    measured = _among(names, outputs)
    if not measured.any():
        raise InputError(
            f"the readings are of {', '.join(readings.quantities)}; the model predicts "
            f"{', '.join(outputs)}: rename quantities in a mapping file (--mapping), as in "
            f"`fields: {{{readings.quantities[0]}: {{name: {next(iter(outputs))}}}}}`"
        )
    of, times = readings.series, predictions[0].times
    factor, offset = scales_of(readings, outputs)[of].T
    time = (readings.time - start) * seconds_to(given.time_units)
    places = places_of(readings, given.axes, position_units)[readings.series_place]
    stencil = given.stencil(places)
    curves = [prediction.at(stencil) for prediction in predictions]
    moving = _among(names, [name for name, curve in curves[0].items() if len(curve) > 1])

    sieve = _Sieve(len(readings))
    sieve.leave_out("of quantities that the model does not predict", ~measured[of])
    sieve.leave_out("again of the same time and sensor", _repeated(readings))
    sieve.leave_out("without a place", np.isnan(places[of, 0]))
    sieve.leave_out("outside the domain", ~stencil.inside[of])
    if moving.any():
        margin = _SAME * (times[1] - times[0])
        early, late = time <= given.known_until + margin, time > times[-1] + margin
        sieve.leave_out("from the time of the frames that are given", moving[of] & early)
        sieve.leave_out("after the last frame that is predicted", moving[of] & late)
    columns = []
    for fields in curves:
        column = np.full(len(readings), np.nan)
        for series in np.flatnonzero(measured & stencil.inside):
            rows = np.flatnonzero(sieve.kept & (of == series))
            column[rows] = _in_time(times, fields[names[series]][:, series], time[rows])
        columns.append(column)
    missing = np.isnan(np.sum(columns, axis=0))
    sieve.leave_out("where a frame that is given lacks a value", missing)
    kept = sieve.kept
    if not kept.any():
        told = "; ".join(f"{count} {reason}" for reason, count in sieve.left_out.items())
        raise InputError(
            f"none of {len(readings)} readings can be compared ({told}); check positions, "
            "position_units and --start"
        )
    used, row_series = np.unique(of[kept], return_inverse=True)
    compared = {names[s] for s in used}
    return Pairs(
        units={name: units for name, units in outputs.items() if name in compared},
        series=tuple(
            Series(
                names[s],
                readings.sensors[readings.series_sensor[s]],
                places[s],
                times if moving[s] else np.empty(0),
                curves[0][names[s]][:, s],
                curves[1][names[s]][:, s] if curves[1:] else None,
            )
            for s in used
        ),
        of=row_series,
        time=time[kept],
        value=(readings.value * factor + offset)[kept],
        uncertainty=_positive((readings.uncertainty * factor)[kept]),
        model=columns[0][kept],
        solver=columns[1][kept] if columns[1:] else None,
        left_out=sieve.left_out,
    )


def _among(names: Sequence[str], chosen: Collection[str]) -> np.ndarray:
    return np.array([name in chosen for name in names])


def _repeated(readings: Readings) -> np.ndarray:
    """Return which readings have the time and the series of one before."""
    order = np.lexsort((readings.series, readings.time))
    time, series = readings.time[order], readings.series[order]
    repeated = np.zeros(len(readings), dtype=bool)
    repeated[order[1:]] = (np.diff(time) == 0) & (np.diff(series) == 0)
    return repeated


def _in_time(times: np.ndarray, curve: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Interpolate the values of frames; one value without time holds always."""
    if len(curve) == 1:
        return np.full(len(at), curve[0])
    below, share = brackets(times, at)
    before, after = curve[below], curve[below + 1]
    between = (1 - share) * before + share * after
    # At a frame its neighbours have no say, not even where they are missing.
    return np.where(share > 1 - _SAME, after, np.where(share < _SAME, before, between))


def _positive(uncertainty: np.ndarray) -> np.ndarray:
    """Take an uncertainty of zero for none."""
    return np.where(uncertainty > 0, uncertainty, np.nan)
