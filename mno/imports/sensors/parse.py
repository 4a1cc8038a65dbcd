"""Reading a file of sensor readings row by row: one row each (long form) or one column each."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from mno.core.errors import InputError
from mno.imports.mapping import Sensor, SensorRules
from mno.imports.sensors.cells import Cells
from mno.imports.sensors.rows import Table
from mno.imports.sensors.series import MAX_SERIES, Catalogue, Series
from mno.imports.sensors.times import Clock

ROW = np.dtype(
    [("time", np.float64), ("series", np.int32), ("value", np.float64), ("uncertainty", np.float64)]
)
CHUNK = 500_000
AXES = ("x", "y", "z")
_NAMES = {
    "time": ("time", "timestamp", "datetime", "date", "t", "time_s", "seconds"),
    "x": ("x",),
    "y": ("y",),
    "z": ("z",),
    "quantity": ("quantity", "variable", "measurement", "field", "parameter"),
    "value": ("value", "reading", "val"),
    "unit": ("unit", "units", "uom"),
    "sensor": ("sensor", "sensor_id", "tag", "tagname", "channel", "name"),
    "uncertainty": ("uncertainty", "sigma", "standard_uncertainty"),
}

Reading = tuple[int, str, Series, str, str]
"""Line, time, series, value and uncertainty, as they are in the file."""


class Parser:
    """A file of readings, read once.

    Args:
        path: The file.
        rules: Which columns are sensors, where there is one for each.
        units: Units that quantities are to have.

    Attributes:
        axes: Those along which sensors have positions.
        catalogue: Sensors, places, quantities; complete after the last of `chunks`.
        clock: What times are counted from.
        unreadable: Number of cells without a reading: empty, or a word for it such as NaN.
        ignored: Columns that are not used.

    Raises:
        InputError: The file, or its header, is not one of readings.
    """

    def __init__(self, path: Path, rules: SensorRules, units: Mapping[str, str]) -> None:
        self._table = Table(path)
        self._path = path
        self._rules = rules
        self._cells = Cells(path, self._table.decimal_comma)
        self.catalogue = Catalogue(units)
        self.clock = Clock(path, self._table.decimal_comma)
        self.unreadable = 0
        names = [name.lower() for name in self._table.header]
        self._columns = {
            what: next((names.index(name) for name in known if name in names), -1)
            for what, known in _NAMES.items()
        }
        if rules.columns:
            self._needs("time")
            self.axes = tuple(
                a for a in AXES if any(getattr(s, a) is not None for s in rules.columns.values())
            )
            used = {self._table.header[self._columns["time"]], *rules.columns}
        else:
            self._needs("time", "quantity", "value")
            self.axes = tuple(axis for axis in AXES if self._columns[axis] >= 0)
            used = {self._table.header[at] for at in self._columns.values() if at >= 0}
        self.ignored = tuple(name for name in self._table.header if name and name not in used)

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield all readings in the order of the file, some at a time, dtype `ROW`.

        Values are in the unit of their quantity.

        Raises:
            InputError: A cell is not what its column should have, or there is no reading at all.
        """
        times, series, values, sigmas = array("d"), array("i"), array("d"), array("d")
        columns = (times, series, values, sigmas)
        found = False
        for line, time, of, value, sigma in self._wide() if self._rules.columns else self._long():
            number = self._cells.number(value, line, "value")
            if number is None:
                self.unreadable += 1
                continue
            times.append(self.clock.seconds(time, line))
            series.append(of.number)
            values.append(number * of.factor + of.offset)
            sigmas.append(
                self._cells.uncertainty(sigma, line) * abs(of.factor) if sigma else of.uncertainty
            )
            if len(times) == CHUNK:
                yield _rows(*columns)
                found = True
                for column in columns:
                    del column[:]
        if times:
            yield _rows(*columns)
        elif not found:
            raise InputError(
                f"{self._path} has no readings ({self.unreadable} cells without a value); expected "
                "rows with numbers below the header"
            )

    def _long(self) -> Iterator[Reading]:
        known: dict[tuple[str, ...], Series] = {}
        columns = self._columns
        time, value, sigma = (columns[name] for name in ("time", "value", "uncertainty"))
        of = [columns[name] for name in ("sensor", "quantity", "unit", *self.axes)]
        for line, cells in self._table.rows():
            key = tuple([cells[at] if at >= 0 else "" for at in of])
            series = known.get(key)
            if series is None:
                if len(known) > 2 * MAX_SERIES:
                    known.clear()
                series = known[key] = self._found(key, line)
            yield line, cells[time], series, cells[value], cells[sigma] if sigma >= 0 else ""

    def _found(self, key: tuple[str, ...], line: int) -> Series:
        sensor, quantity, unit, *at = (cell.strip() for cell in key)
        where = f"{self._path}, line {line}"
        numbers = [
            self._cells.number(text, line, axis) for axis, text in zip(self.axes, at, strict=True)
        ]
        place = [(axis, x) for axis, x in zip(self.axes, numbers, strict=True) if x is not None]
        if place and len(place) < len(at):
            raise InputError(
                f"{where}: position {', '.join(at)} is not complete; expected a number for each of "
                f"{', '.join(self.axes)}, or none where a reading holds for all of the plant"
            )
        return self.catalogue.add(sensor, tuple(place), quantity, unit, where)

    def _wide(self) -> Iterator[Reading]:
        header = self._table.header
        missing = [name for name in self._rules.columns if name not in header]
        if missing:
            raise InputError(
                f"{self._path}: the mapping file names column {missing[0]!r}; the file has "
                f"{', '.join(header)[:500]}"
            )
        time = self._columns["time"]
        sensors = [
            (header.index(name), self._column(name, sensor))
            for name, sensor in self._rules.columns.items()
        ]
        for line, cells in self._table.rows():
            for at, series in sensors:
                yield line, cells[time], series, cells[at], ""

    def _column(self, name: str, sensor: Sensor) -> Series:
        where = f"{self._path}, column {name}"
        at = [(axis, getattr(sensor, axis)) for axis in self.axes]
        given = [(axis, float(number)) for axis, number in at if number is not None]
        if given and len(given) < len(at):
            raise InputError(
                f"{where}: the mapping file gives it {', '.join(axis for axis, _ in given)}, other "
                f"sensors {', '.join(self.axes)}; expected all of them, or none"
            )
        if not all(math.isfinite(number) for _, number in given):
            raise InputError(f"{where}: the mapping file gives it a position that is not finite")
        uncertainty = math.nan if sensor.uncertainty is None else sensor.uncertainty
        return self.catalogue.add(
            name, tuple(given), sensor.quantity, sensor.units, where, uncertainty
        )

    def _needs(self, *columns: str) -> None:
        lacking = [name for name in columns if self._columns[name] < 0]
        if lacking:
            raise InputError(
                f"{self._path} has no column {lacking[0]!r} (it has "
                f"{', '.join(self._table.header)[:300]}); expected time,x,y,quantity,value,unit, or"
                " one column for each sensor and `sensors: {columns: …}` in a mapping file"
            )


def _rows(time: array, series: array, value: array, uncertainty: array) -> np.ndarray:
    rows = np.empty(len(time), dtype=ROW)
    rows["time"], rows["series"] = time, series
    rows["value"], rows["uncertainty"] = value, uncertainty
    return rows
