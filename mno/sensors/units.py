"""Units of readings, positions and times, converted to those of the prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis
from mno.imports.units import conversion

if TYPE_CHECKING:
    from mno.imports.sensors.readings import Readings


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
