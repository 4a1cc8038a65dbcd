"""Readings, and what model and solver say at their places and times, in the model's units."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis
from mno.imports.mapping import conversion
from mno.sensors.inputs import RunInputs
from mno.sensors.interpolation import Predicted, brackets

if TYPE_CHECKING:
    from mno.imports.readings import Readings


def scales_of(readings: Readings, outputs: Mapping[str, str]) -> np.ndarray:
    """Return what the values of each series are multiplied by, and what is added then.

    Args:
        readings: The readings.
        outputs: Units that they are to have, by quantity; others stay as they are.

    Returns:
        Shape `(series, 2)`.

    Raises:
        InputError: A unit does not fit.
    """
    by_quantity = [
        conversion(readings.units[name], outputs[name], f"sensor readings of {name}")
        if name in outputs
        else (1.0, 0.0)
        for name in readings.quantities
    ]
    return np.array(by_quantity)[readings.series_quantity]


def places_of(readings: Readings, axes: Sequence[Axis], position_units: str) -> np.ndarray:
    """Return the places of sensors in the order and the units of a prediction's axes.

    On an axis without a unit, positions stay as they are.

    Returns:
        Shape `(places + 1, axes)`; the last, which is also number -1, is nowhere (NaN).

    Raises:
        InputError: Positions have other axes, or a unit that does not fit.
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


def seconds_to(time_units: str) -> float:
    """Return how many of a prediction's units of time a second is; 1 where it has no unit."""
    return 1.0 if time_units == "1" else conversion("s", time_units, "time of the prediction")[0]


SAME = 1e-6  # of an interval: nearer than this, a time is that of the frame


class ReadingFilter:
    """Leaves out readings for one reason after the other; each counts for the first alone.

    Args:
        readings: The readings.

    Attributes:
        kept: Which are still to be compared, shape `(readings,)`.
        left_out: Number of those that are not, by the reason.
    """

    def __init__(self, readings: Readings) -> None:
        self._readings = readings
        self.kept = np.ones(len(readings), dtype=bool)
        self.left_out: dict[str, int] = {}

    def leave_out(self, reason: str, series: np.ndarray) -> None:
        """Leave out all readings of some series, bool of shape `(series,)`."""
        self.leave_out_rows(reason, series[self._readings.series])

    def leave_out_rows(self, reason: str, rows: np.ndarray) -> None:
        """Leave out some readings, bool of shape `(readings,)`."""
        count = int(np.count_nonzero(self.kept & rows))
        if count:
            self.left_out[reason] = count
        self.kept &= ~rows

    def leave_out_repeated(self) -> None:
        """Leave out readings of the time and the series of one before."""
        readings = self._readings
        order = np.lexsort((readings.series, readings.time))
        time, series = readings.time[order], readings.series[order]
        repeated = np.zeros(len(readings), dtype=bool)
        repeated[order[1:]] = (np.diff(time) == 0) & (np.diff(series) == 0)
        self.leave_out_rows("again of the same time and sensor", repeated)

    def leave_out_of_time(
        self, moving: np.ndarray, time: np.ndarray, times: np.ndarray, known_until: float
    ) -> None:
        """Leave out readings of the time of what is given, and after what is predicted.

        Args:
            moving: Which series are of fields over time, shape `(series,)`.
            time: When each reading was taken, in the unit of the prediction's times.
            times: When the frames are: the last one given, then those predicted.
            known_until: Up to when readings may be among what is given.
        """
        if not moving.any():
            return
        margin, moves = SAME * (times[1] - times[0]), moving[self._readings.series]
        early, late = time <= known_until + margin, time > times[-1] + margin
        self.leave_out_rows("from the time of the frames that are given", moves & early)
        self.leave_out_rows("after the last frame that is predicted", moves & late)

    def require_some(self) -> None:
        """Refuse to go on with no reading.

        Raises:
            InputError: None can be compared; the message counts the reasons.
        """
        if not self.kept.any():
            told = "; ".join(f"{count} {reason}" for reason, count in self.left_out.items())
            raise InputError(
                f"none of {len(self.kept)} readings can be compared ({told}); check positions, "
                "position_units and --start"
            )


def among(names: Sequence[str], chosen: Collection[str]) -> np.ndarray:
    """Return which names are among those chosen, bool of shape `(names,)`."""
    return np.array([name in chosen for name in names])


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
    names = [readings.quantities[quantity] for quantity in readings.series_quantity]
    measured = among(names, outputs)
    if not measured.any():
        raise InputError(
            f"the readings are of {', '.join(readings.quantities)}; the model predicts "
            f"{', '.join(outputs)}: rename quantities in a mapping file (--mapping), as in "
            f"`fields: {{{readings.quantities[0]}: {{name: {next(iter(outputs))}}}}}`"
        )
    factor, offset = scales_of(readings, outputs)[readings.series].T
    time = (readings.time - start) * seconds_to(given.time_units)
    places = places_of(readings, given.axes, position_units)[readings.series_place]
    stencil = given.stencil(places)
    curves = [prediction.at(stencil) for prediction in predictions]
    moving = among(names, [name for name, curve in curves[0].items() if len(curve) > 1])

    times = predictions[0].times
    chosen = ReadingFilter(readings)
    chosen.leave_out("of quantities that the model does not predict", ~measured)
    chosen.leave_out_repeated()
    chosen.leave_out("without a place", np.isnan(places[:, 0]))
    chosen.leave_out("outside the domain", ~stencil.inside)
    chosen.leave_out_of_time(moving, time, times, given.known_until)
    said = [_curves(fields, names, measured, times) for fields in curves]
    columns = [_in_time(times, curve, readings.series, time) for curve in said]
    chosen.leave_out_rows(
        "where a frame that is given lacks a value", np.isnan(np.sum(columns, axis=0))
    )
    chosen.require_some()
    kept = chosen.kept
    used, row_series = np.unique(readings.series[kept], return_inverse=True)
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
        of=row_series,
        time=time[kept],
        value=(readings.value * factor + offset)[kept],
        uncertainty=_positive((readings.uncertainty * factor)[kept]),
        model=columns[0][kept],
        solver=columns[1][kept] if columns[1:] else None,
        left_out=chosen.left_out,
    )


def _curves(
    fields: Mapping[str, np.ndarray], names: list[str], measured: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """Return what is said of each series, shape `(frames, series)`; NaN of what is not predicted.

    A field without time is the same in all frames.
    """
    curves = np.full((max(len(times), 1), len(names)), np.nan)
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
    return np.where(share > 1 - SAME, after, np.where(share < SAME, before, between))


def _positive(uncertainty: np.ndarray) -> np.ndarray:
    """Take an uncertainty of zero for none."""
    return np.where(uncertainty > 0, uncertainty, np.nan)
