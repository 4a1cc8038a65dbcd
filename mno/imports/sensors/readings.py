"""The readings of a sensor log as one table in memory.

    from pathlib import Path
    from mno.imports.mapping import SensorRules
    from mno.imports.sensors.readings import read_readings

    readings = read_readings(Path("sensors.csv"), SensorRules(), {"temperature": "K"})
    hot = readings.value[readings.quantity == "temperature"].max()

A file has one row for each reading, with the columns `time`, `x` (and `y`, `z`), `quantity`,
`value`, and perhaps `unit`, `sensor`, `uncertainty`; or one row for each time and one column for
each sensor, which the mapping's `sensors.columns` describes. Times are seconds or ISO 8601 dates. A
reading without a position holds for all of the plant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mno.core.errors import InputError
from mno.imports.mapping import SensorRules
from mno.imports.sensors.parse import Parser

MAX_READINGS = 10_000_000
"""Of a table in memory: some 300 MB."""


@dataclass(frozen=True, eq=False)
class Readings:
    """Readings in the order of their times; those of one time in the order of the file.

    Attributes:
        time: Seconds, as the file has them, or since `epoch`; shape `(readings,)`, float64.
        value: In the unit of its quantity, shape `(readings,)`, float64; always finite.
        uncertainty: Standard uncertainty, in the same unit; NaN where there is none.
        series: Number of each reading's series, shape `(readings,)`, int32.
        series_sensor: Number of the sensor of each series, shape `(series,)`.
        series_place: Number of the place of each series; -1 where it has none.
        series_quantity: Number of the quantity of each series.
        sensors: Names of sensors; made of the place where the file has none.
        quantities: Names of quantities.
        places: Coordinates of distinct places, shape `(places, axes)`, float64, in the unit
            `SensorRules.position_units`.
        axes: Of the positions: `x`, `y`, `z`, those that the file has.
        units: Unit of each quantity.
        epoch: The date of time 0, the first reading's, as ISO 8601; None where times are seconds.
        duplicates: Readings of the same time, sensor, place and quantity as one before; kept.
        unreadable: Cells without a reading.
    """

    time: np.ndarray
    value: np.ndarray
    uncertainty: np.ndarray
    series: np.ndarray
    series_sensor: np.ndarray
    series_place: np.ndarray
    series_quantity: np.ndarray
    sensors: tuple[str, ...]
    quantities: tuple[str, ...]
    places: np.ndarray
    axes: tuple[str, ...]
    units: Mapping[str, str]
    epoch: str | None
    duplicates: int
    unreadable: int

    def __len__(self) -> int:
        return len(self.time)

    @property
    def sensor(self) -> np.ndarray:
        """Name of each reading's sensor, shape `(readings,)`, dtype object."""
        return np.array(self.sensors, dtype=object)[self.series_sensor[self.series]]

    @property
    def quantity(self) -> np.ndarray:
        """Name of each reading's quantity, shape `(readings,)`, dtype object."""
        return np.array(self.quantities, dtype=object)[self.series_quantity[self.series]]

    @property
    def position(self) -> np.ndarray:
        """Where each reading was taken, shape `(readings, axes)`; NaN where it has no place."""
        nowhere = np.full((1, len(self.axes)), np.nan)
        # Place -1 is the last row.
        return np.concatenate([self.places, nowhere])[self.series_place[self.series]]


def read_readings(
    path: Path, rules: SensorRules, units: Mapping[str, str] | None = None
) -> Readings:
    """Read a file of readings into memory.

    Args:
        path: The file.
        rules: Which columns are sensors, where there is one for each.
        units: Unit that a quantity is to have, by its name; the first one that is read, where it is
            not named here. A reading whose unit the file does not say has this unit, or none.

    Raises:
        InputError: The file is not one of readings, a cell is not what it should be, a unit does
            not fit, or there are more than `MAX_READINGS`.
    """
    parser = Parser(path, rules, units or {})
    parts, count = [], 0
    for part in parser.chunks():
        parts.append(part)
        count += len(part)
        if count > MAX_READINGS:
            raise InputError(
                f"{path} has more than {MAX_READINGS} readings; expected as many as fit into "
                "memory: cut the file into shorter periods"
            )
    rows = np.concatenate(parts)
    del parts
    if (np.diff(rows["time"]) < 0).any():
        rows = rows[np.argsort(rows["time"], kind="stable")]
    found = parser.catalogue
    sensor, place, quantity = np.array(list(found.series), dtype=np.int32).T
    epoch = parser.clock.epoch(float(rows["time"][0]))
    return Readings(
        time=rows["time"] - (rows["time"][0] if epoch else 0.0),
        value=np.ascontiguousarray(rows["value"]),
        uncertainty=np.ascontiguousarray(rows["uncertainty"]),
        series=np.ascontiguousarray(rows["series"]),
        series_sensor=sensor,
        series_place=place,
        series_quantity=quantity,
        sensors=tuple(found.sensors),
        quantities=tuple(found.quantities),
        places=np.array(list(found.places), dtype=np.float64).reshape(-1, len(parser.axes)),
        axes=parser.axes,
        units=dict(found.units),
        epoch=epoch,
        duplicates=count_duplicates(rows),
        unreadable=parser.unreadable,
    )


def count_duplicates(rows: np.ndarray) -> int:
    """Count readings of the same time and series as another one (all but one of each).

    Args:
        rows: dtype `readings_parse.ROW`.
    """
    order = np.lexsort((rows["series"], rows["time"]))
    time, series = rows["time"][order], rows["series"][order]
    return int(((np.diff(time) == 0) & (np.diff(series) == 0)).sum())
