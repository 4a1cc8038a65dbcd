"""Readings, and what model and solver say at their places and times, in the model's units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis
from mno.imports.mapping import conversion
from mno.imports.readings import Readings
from mno.sensors.inputs import RunInputs
from mno.sensors.interpolation import Predicted, brackets, on_grid, on_points

_SAME = 1e-6  # of an interval: nearer than this, a time is that of the frame


@dataclass(frozen=True, eq=False)
class Series:
    """What one sensor measures of one quantity at one place, and what is said of it."""

    quantity: str  # name of the model's field
    sensor: str
    place: np.ndarray  # coordinates in the units of the axes, shape (axes,)
    times: np.ndarray  # of the frames, shape (frames,); empty for a field without time
    model: np.ndarray  # what it predicts there, shape (frames,), or (1,) without time
    solver: np.ndarray | None  # the same; none where there is no solver


@dataclass(frozen=True, eq=False)
class Pairs:
    """Readings that can be compared, one row each; arrays have shape `(rows,)`."""

    units: Mapping[str, str]  # the model's, of each quantity that is compared
    series: tuple[Series, ...]  # those that have a row
    of: np.ndarray  # number of each row's series
    time: np.ndarray  # in the unit of the prediction's times, from its time 0
    value: np.ndarray  # what was read
    uncertainty: np.ndarray  # standard uncertainty of it, NaN where none is given
    model: np.ndarray  # what the model predicts
    solver: np.ndarray | None  # what the solver says; none where there is none
    left_out: Mapping[str, int]  # number of readings that cannot be compared, by the reason

    def __len__(self) -> int:
        return len(self.value)


def pair(
    readings: Readings,
    outputs: Mapping[str, str],
    given: RunInputs,
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
    row_series = readings.series
    names = [readings.quantities[quantity] for quantity in readings.series_quantity]
    measured = np.array([name in outputs for name in names])
    if not measured.any():
        raise InputError(
            f"the readings are of {', '.join(readings.quantities)}; the model predicts "
            f"{', '.join(outputs)}: rename quantities in a mapping file (--mapping), as in "
            f"`fields: {{{readings.quantities[0]}: {{name: {next(iter(outputs))}}}}}`"
        )
    scales = [
        conversion(readings.units[name], outputs[name], f"sensor readings of {name}")
        if name in outputs
        else (1.0, 0.0)
        for name in readings.quantities
    ]
    factor, offset = np.array(scales)[readings.series_quantity][row_series].T
    time = readings.time - start
    if given.time_units != "1":
        time = time * conversion("s", given.time_units, "time of the prediction")[0]
    places = _places(readings, given.axes, position_units)[readings.series_place]
    stencil = (
        on_grid(given.axes, places) if given.points is None else on_points(given.points, places)
    )
    curves = [{n: stencil.apply(v) for n, v in said.fields.items()} for said in predictions]
    moving = np.array([name in curves[0] and len(curves[0][name]) > 1 for name in names])
    times = predictions[0].times
    said = [_by_series(fields, names, measured, max(len(times), 1)) for fields in curves]
    columns = [_in_time(times, curve, row_series, time) for curve in said]

    before = after = np.zeros(len(readings), dtype=bool)
    if moving.any():
        margin = _SAME * (times[1] - times[0])
        before = moving[row_series] & (time <= given.known_until + margin)
        after = moving[row_series] & (time > times[-1] + margin)
    kept, left_out = _left_out(
        {
            "of quantities that the model does not predict": ~measured[row_series],
            "again of the same time and sensor": _repeated(readings),
            "without a place": np.isnan(places[:, 0])[row_series],
            "outside the domain": ~stencil.inside[row_series],
            "from the time of the frames that are given": before,
            "after the last frame that is predicted": after,
            "where a frame that is given lacks a value": np.isnan(np.sum(columns, axis=0)),
        }
    )
    used, own_series = np.unique(row_series[kept], return_inverse=True)
    uncertainty = (readings.uncertainty * factor)[kept]
    return Pairs(
        units={name: units for name, units in outputs.items() if name in {names[s] for s in used}},
        series=tuple(
            Series(
                names[s],
                readings.sensors[readings.series_sensor[s]],
                places[s],
                times if moving[s] else np.empty(0),
                *(curve[:, s] if moving[s] else curve[:1, s] for curve in said),
                *([] if said[1:] else [None]),
            )
            for s in used
        ),
        of=own_series,
        time=time[kept],
        value=(readings.value * factor + offset)[kept],
        uncertainty=np.where(uncertainty > 0, uncertainty, np.nan),
        model=columns[0][kept],
        solver=columns[1][kept] if columns[1:] else None,
        left_out=left_out,
    )


def _left_out(reasons: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, int]]:
    """Return which readings are kept, and how many are not; each for its first reason alone."""
    kept = np.ones(len(next(iter(reasons.values()))), dtype=bool)
    left_out = {}
    for reason, rows in reasons.items():
        count = int(np.count_nonzero(kept & rows))
        if count:
            left_out[reason] = count
        kept &= ~rows
    if not kept.any():
        told = "; ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise InputError(
            f"none of {len(kept)} readings can be compared ({told}); check positions, "
            "position_units and --start"
        )
    return kept, left_out


def _repeated(readings: Readings) -> np.ndarray:
    """Return which readings are of the time and the series of one before."""
    order = np.lexsort((readings.series, readings.time))
    repeated = np.zeros(len(readings), dtype=bool)
    same = (np.diff(readings.time[order]) == 0) & (np.diff(readings.series[order]) == 0)
    repeated[order[1:]] = same
    return repeated


def _places(readings: Readings, axes: Sequence[Axis], position_units: str) -> np.ndarray:
    """Return the places of sensors in the order and the units of a prediction's axes.

    On an axis without a unit, positions stay as they are. The shape is `(places + 1, axes)`; the
    last, which is also number -1, is nowhere (NaN).
    """
    names = tuple(axis.name for axis in axes)
    if set(readings.axes) != set(names):
        raise InputError(
            f"the readings have positions along {', '.join(readings.axes) or 'no axis'}; the model "
            f"has {', '.join(names)}: give the table a column for each of these"
        )
    columns = []
    for axis in axes:
        factor, offset = (1.0, 0.0)
        if axis.units != "1":
            factor, offset = conversion(position_units, axis.units, f"position along {axis.name}")
        column = readings.places[:, readings.axes.index(axis.name)] * factor + offset
        columns.append(np.append(column, np.nan))
    return np.stack(columns, axis=-1)


def _by_series(
    fields: Mapping[str, np.ndarray], names: list[str], measured: np.ndarray, frames: int
) -> np.ndarray:
    """Return what is said of each series, shape `(frames, series)`; NaN of what is not predicted.

    A field without time is the same in all frames.
    """
    curves = np.full((frames, len(names)), np.nan)
    for series in np.flatnonzero(measured):
        curves[:, series] = fields[names[series]][:, series]
    return curves


def _in_time(
    times: np.ndarray, curves: np.ndarray, series: np.ndarray, at: np.ndarray
) -> np.ndarray:
    """Interpolate frames to the time of each reading."""
    if not len(times):
        return curves[0, series]
    below, share = brackets(times, at)
    before, after = curves[below, series], curves[below + 1, series]
    between = (1 - share) * before + share * after
    # At a frame its neighbours have no say, not even where they are missing.
    return np.where(share > 1 - _SAME, after, np.where(share < _SAME, before, between))
