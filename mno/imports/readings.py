"""The readings of sensors in a table of text, and as one table in memory.

    from pathlib import Path
from typing import Any
    from mno.imports.mapping import SensorRules
    from mno.imports.readings import read_readings

    readings = read_readings(Path("sensors.csv"), SensorRules(), {"temperature": "K"})
    hot = readings.value[readings.quantity == "temperature"].max()

A file has one row for each reading, with the columns `time`, `x` (and `y`, `z`), `quantity`,
`value`, and perhaps `unit`, `sensor`, `uncertainty`; or one row for each time and one column for
each sensor, which the mapping's `sensors.columns` describes. Times are seconds or ISO 8601 dates. A
reading without a position holds for all of the plant.

Python's own csv reads the rows: pandas is faster, but names no line of a cell that is none, and
fills up rows that are too short.
"""

from __future__ import annotations

import csv
import math
import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from mno.core.errors import InputError, first_line
from mno.imports.cage import MEMORY, call_for_arrays
from mno.imports.importer import SPACE
from mno.imports.mapping import Sensor, SensorRules, check_unit, conversion

MAX_LINE = 1_000_000
"""Characters; a longer line is not one of readings, and must not be held in memory."""

MAX_SERIES = 100_000
"""Sensors, places and quantities, all together; more come of a column taken for another."""

MAX_READINGS = 10_000_000
"""Of a table in memory: some 300 MB."""

ROW = np.dtype(
    [("time", np.float64), ("series", np.int32), ("value", np.float64), ("uncertainty", np.float64)]
)
CHUNK = 500_000
NOWHERE = -1
"""Place of a reading that holds for all of the plant."""

_MEMORY = 3 * MEMORY  # for as many readings: as they are read, in order, and as columns
_MAX_NAME = 200
_LARGEST = 3.4e38  # of a float32
_FARTHEST = 1e12  # seconds; some 30,000 years
_MISSING = {"", "-", "?", "na", "n/a", "#n/a", "nan", "null", "none", "missing", "bad", "no data"}
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


class Table:
    """A text file of cells: a header, and rows of as many cells.

    Cells are parted by `,`, `;` or tab, whichever the header has most of, and may be quoted. Blank
    lines, and lines that begin with `#`, are skipped; so is a byte order mark.

    Args:
        path: The file, UTF-8.

    Attributes:
        header: Names of the columns, without the spaces around them.
        decimal_comma: Whether a number may have a comma for its point, as the delimiter is another.

    Raises:
        InputError: There is no such file, or no header in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._line = 0
        try:
            self._file = path.open(encoding="utf-8-sig", newline="")
        except OSError as error:
            raise InputError(
                f"{path} cannot be read: {error.strerror or error}; expected a CSV file of readings"
            ) from None
        try:
            self._lines = self._read_lines()
            first = next(self._lines, "")
            delimiter = max(",;\t", key=first.count)
            self.decimal_comma = delimiter != ","
            cells = next(csv.reader([first], delimiter=delimiter), [])
            self.header = tuple(cell.strip() for cell in cells)
            named = [name.lower() for name in self.header if name]
            twice = sorted({name for name in named if named.count(name) > 1})
            if not named or twice:
                found = f"the columns {', '.join(twice)} twice" if twice else "no header"
                raise InputError(
                    f"{path} has {found}; expected a first line that names each column, such as "
                    "time,x,quantity,value,unit"
                )
        except BaseException:
            self._file.close()
            raise
        self._cells = csv.reader(self._lines, delimiter=delimiter, strict=True)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the number of each row's line, and its cells; the file is closed at the end.

        Raises:
            InputError: A row has more or fewer cells than the header, or is no text.
        """
        width = len(self.header)
        with self._file:
            try:
                for cells in self._cells:
                    if len(cells) != width:
                        raise InputError(
                            f"{self.path}, line {self._line}: {len(cells)} cells; expected {width}"
                            ", as in the header: complete the row, or remove it"
                        )
                    yield self._line, cells
            except csv.Error as error:
                raise InputError(
                    f"{self.path}, line {self._line}: {first_line(error)}; expected quotes around "
                    "whole cells: correct the row"
                ) from None

    def number(self, text: str, line: int, column: str) -> float | None:
        """Return a number, None where the cell is empty or has a word for a missing one.

        Raises:
            InputError: It is neither.
        """
        if self.decimal_comma and "," in text:
            text = text.replace(",", ".")
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if -_LARGEST < number < _LARGEST and "_" not in text:
            return number
        if text.strip().lower() in _MISSING:
            return None
        raise InputError(
            f"{self.path}, line {line}, {column}: {text[:40]!r}; expected a number (or nothing, "
            "where there is none): correct the cell"
        )

    def uncertainty(self, text: str, line: int) -> float:
        """Return a standard uncertainty, NaN where there is none.

        Raises:
            InputError: It is no number, or negative.
        """
        number = self.number(text, line, "uncertainty")
        if number is not None and number < 0:
            raise InputError(
                f"{self.path}, line {line}, uncertainty: {text[:40]!r}; expected a number that is "
                "not negative: correct the cell"
            )
        return math.nan if number is None else number

    def _read_lines(self) -> Iterator[str]:
        while True:
            try:
                line = self._file.readline(MAX_LINE + 1)
            except UnicodeDecodeError:
                raise InputError(
                    f"{self.path} is not UTF-8 text (after line {self._line}); save it as CSV in "
                    "UTF-8"
                ) from None
            if not line:
                return
            self._line += 1
            if len(line) > MAX_LINE or "\0" in line:
                what = "NUL bytes" if "\0" in line else f"more than {MAX_LINE} characters"
                raise InputError(
                    f"{self.path}, line {self._line}: {what}; expected a text file of readings: "
                    "save it as CSV in UTF-8"
                )
            if not line.isspace() and not line.lstrip().startswith("#"):
                yield line


class Clock:
    """Turns the times of one file into seconds; its first time decides what they are.

    Dates are counted from the first one of the file. Those with a zone may have different ones,
    since each is one moment; those without are taken as they stand, and both are not mixed.

    Args:
        path: The file, for messages.
        decimal_comma: Whether seconds may be written with a comma.
    """

    def __init__(self, path: Path, decimal_comma: bool) -> None:
        self._path = path
        self._comma = decimal_comma
        self._first: datetime | None = None
        self._are_numbers: bool | None = None
        self._last: tuple[str | None, float] = (None, 0.0)

    def seconds(self, text: str, line: int) -> float:
        """Return a time in seconds.

        Args:
            text: As it is in the file.
            line: Its number, for messages.

        Raises:
            InputError: It is no time, or not one like those before.
        """
        if text == self._last[0]:
            return self._last[1]
        try:
            number = float(text.strip().replace(",", ".") if self._comma else text.strip())
        except ValueError:
            number = None
        if self._are_numbers is None:
            self._are_numbers = number is not None
        if not self._are_numbers:
            number = self._date(text.strip(), line)
        elif number is None:
            raise self._error(text, line, "expected seconds, as in the rows before: correct it")
        if not abs(number) < _FARTHEST:
            raise self._error(text, line, f"expected seconds below {_FARTHEST:g}: correct it")
        self._last = (text, number)
        return number

    def epoch(self, seconds: float) -> str | None:
        """Return the date of a time as ISO 8601, None where times are no dates."""
        if self._first is None:
            return None
        return (self._first + timedelta(seconds=seconds)).isoformat()

    def _date(self, text: str, line: int) -> float:
        try:
            date = datetime.fromisoformat(text)
        except ValueError:
            raise self._error(
                text,
                line,
                "expected seconds, or a date such as 2026-03-01T12:00:00Z: write all times so",
            ) from None
        if self._first is None:
            self._first = date
        if (date.tzinfo is None) != (self._first.tzinfo is None):
            has = "no zone" if date.tzinfo is None else "a zone"
            raise self._error(
                text, line, f"it has {has}, unlike those before: give all of them one, or none"
            )
        return (date - self._first).total_seconds()

    def _error(self, text: str, line: int, rest: str) -> InputError:
        return InputError(f"{self._path}, line {line}: time {text[:40]!r}; {rest}")


def posix_seconds(epoch: str | None) -> float:
    """Return the seconds of an epoch since 1970, taken as UTC where it has no zone; 0 for None."""
    if epoch is None:
        return 0.0
    date = datetime.fromisoformat(epoch)
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


@dataclass(frozen=True)
class Series:
    """The readings of one quantity by one sensor in one place and unit.

    Attributes:
        number: Of the series, the same for every unit.
        factor: What readings are multiplied by.
        offset: What is added to them then.
        uncertainty: Standard uncertainty of a reading that has none of its own, converted.
    """

    number: int
    factor: float
    offset: float
    uncertainty: float


@dataclass
class Catalogue:
    """All that was found in a file so far; grows as it is read.

    Args:
        wanted: Units that quantities are to have; the first one that is read, for the others.

    Attributes:
        units: Unit of each quantity.
        sensors: Names of sensors.
        quantities: Names of quantities.
        places: Coordinates.
        series: Numbers of sensor, place (or `NOWHERE`) and quantity of each series.
    """

    wanted: Mapping[str, str]
    units: dict[str, str] = field(default_factory=dict)
    sensors: dict[str, int] = field(default_factory=dict)
    quantities: dict[str, int] = field(default_factory=dict)
    places: dict[tuple[float, ...], int] = field(default_factory=dict)
    series: dict[tuple[int, int, int], int] = field(default_factory=dict)

    def add(
        self,
        sensor: str,
        place: tuple[tuple[str, float], ...],
        quantity: str,
        unit: str,
        where: str,
        uncertainty: float = math.nan,
    ) -> Series:
        """Return a series, a new one if there is none like it.

        Args:
            sensor: Its name; made of the place where it is empty.
            place: Axes and coordinates; empty for one that holds for all of the plant.
            quantity: What is measured.
            unit: Of the readings; empty where the file does not say.
            where: File and line, for messages.
            uncertainty: Standard uncertainty of a reading, in its unit.

        Raises:
            InputError: The unit does not fit, a name is none, or there are too many series.
        """
        sensor, quantity, unit = (" ".join(text.split()) for text in (sensor, quantity, unit))
        name = sensor or " ".join(f"{axis}={at!r}" for axis, at in place) or quantity
        if not quantity or max(len(name), len(quantity), len(unit)) > _MAX_NAME:
            raise InputError(
                f"{where}: quantity {quantity[:40]!r}; expected names of 1 to {_MAX_NAME} "
                "characters: name what is measured"
            )
        wanted = self.wanted.get(quantity, self.wanted.get(field_name(quantity)))
        unit = unit or wanted or "1"
        target = self.units.setdefault(quantity, wanted or unit)
        check_unit(unit, f"{where}: {quantity}")
        factor, offset = conversion(unit, target, f"{where}: {quantity}")
        at = tuple(coordinate for _, coordinate in place)
        key = (
            self.sensors.setdefault(name, len(self.sensors)),
            self.places.setdefault(at, len(self.places)) if place else NOWHERE,
            self.quantities.setdefault(quantity, len(self.quantities)),
        )
        number = self.series.setdefault(key, len(self.series))
        if number >= MAX_SERIES:
            raise InputError(
                f"{where}: more than {MAX_SERIES} sensors and places; expected sensors that stay "
                "where they are: is a column of readings named like one of positions?"
            )
        return Series(number, factor, offset, uncertainty * abs(factor))


def field_name(quantity: str) -> str:
    """Return the name that a quantity has as a field: letters, digits and underscores."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", quantity).strip("_")
    return name if name[:1].isalpha() else f"q_{name}".rstrip("_")


Reading = tuple[int, str, Series, str, str]
"""Line, time, series, value and uncertainty, as they are in the file."""


class Parser:
    """A file of readings, read once, row by row: one row each (long form) or one column each.

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
        self.catalogue = Catalogue(units)
        self.clock = Clock(path, self._table.decimal_comma)
        self.unreadable = 0
        header = self._table.header
        names = [name.lower() for name in header]
        self._columns = {
            what: next((names.index(name) for name in known if name in names), -1)
            for what, known in _NAMES.items()
        }
        if rules.columns:
            self._needs("time")
            sensors = rules.columns.values()
            self.axes = tuple(a for a in SPACE if any(getattr(s, a) is not None for s in sensors))
            used = {header[self._columns["time"]], *rules.columns}
        else:
            self._needs("time", "quantity", "value")
            self.axes = tuple(axis for axis in SPACE if self._columns[axis] >= 0)
            used = {header[at] for at in self._columns.values() if at >= 0}
        self.ignored = tuple(name for name in header if name and name not in used)

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield all readings in the order of the file, some at a time, dtype `ROW`.

        Values are in the unit of their quantity.

        Raises:
            InputError: A cell is not what its column should have, or there is no reading at all.
        """
        columns = {"time": array("d"), "series": array("i"), "value": array("d")}
        columns["uncertainty"] = array("d")
        times, series, values, sigmas = columns.values()
        table, found = self._table, False
        for line, time, of, value, sigma in self._wide() if self._rules.columns else self._long():
            number = table.number(value, line, "value")
            if number is None:
                self.unreadable += 1
                continue
            times.append(self.clock.seconds(time, line))
            series.append(of.number)
            values.append(number * of.factor + of.offset)
            sigmas.append(
                table.uncertainty(sigma, line) * abs(of.factor) if sigma else of.uncertainty
            )
            if len(times) == CHUNK:
                yield _rows(columns)
                found = True
        if times:
            yield _rows(columns)
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
        given = zip(self.axes, at, strict=True)
        numbers = [(axis, self._table.number(text, line, axis)) for axis, text in given]
        place = tuple((axis, x) for axis, x in numbers if x is not None)
        if place and len(place) < len(at):
            raise InputError(
                f"{where}: position {', '.join(at)} is not complete; expected a number for each of "
                f"{', '.join(self.axes)}, or none where a reading holds for all of the plant"
            )
        return self.catalogue.add(sensor, place, quantity, unit, where)

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


def _rows(columns: Mapping[str, array]) -> np.ndarray:
    """Return what is in some columns as rows, and empty them."""
    rows = np.empty(len(columns["time"]), dtype=ROW)
    for name, column in columns.items():
        rows[name] = column
        del column[:]
    return rows


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


def caged_readings(path: Path, rules: SensorRules, units: Mapping[str, str]) -> Readings:
    """Call `read_readings` in a cage."""
    arguments = {"path": str(path), "rules": rules.model_dump_json(), "units": dict(units)}
    said, arrays = call_for_arrays(_save_readings, arguments, [path], _MEMORY)
    lists = {name: tuple(said[name]) for name in ("sensors", "quantities", "axes")}
    return Readings(**{**said, **lists, **arrays})


def _save_readings(
    path: str, rules: str, units: dict[str, str], target: str, progress: object
) -> dict[str, Any]:
    found = vars(read_readings(Path(path), SensorRules.model_validate_json(rules), units))
    arrays = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
    np.savez(target, **arrays)  # type: ignore[arg-type]
    return {name: value for name, value in found.items() if name not in arrays}


def count_duplicates(rows: np.ndarray) -> int:
    """Count readings of the same time and series as another one (all but one of each).

    Args:
        rows: dtype `ROW`.
    """
    order = np.lexsort((rows["series"], rows["time"]))
    time, series = rows["time"][order], rows["series"][order]
    return int(((np.diff(time) == 0) & (np.diff(series) == 0)).sum())
