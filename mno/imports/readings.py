"""The readings of sensors in a table of text, and as one table in memory.

A file has one row for each reading, with the columns `time`, `x` (and `y`, `z`), `quantity`,
`value`, and perhaps `unit`, `sensor`, `uncertainty`; or one row for each time and one column for
each sensor, which the mapping's `sensors.columns` describes, or which is called `QUANTITY.PLACE`,
as a row's quantity may be that has no sensor.
Times are seconds or ISO 8601 dates. A reading without a position holds for all of the plant.

Python's own csv reads the rows: pandas is faster, but names no line of a cell that is none, and
fills up rows that are too short.
"""

import csv
import math
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mno.core.clock import Clock
from mno.core.errors import InputError, first_line
from mno.imports.cage import MEMORY, call_for_arrays
from mno.imports.importer import SPACE
from mno.imports.mapping import Sensor, SensorRules, conversion

MAX_SERIES = 100_000  # sensors, places and quantities; more come of a column taken for another
NOWHERE = -1  # place of a reading that holds for all of the plant

_MEMORY = 3 * MEMORY  # for some 10,000,000 readings: as they are read, in order, and as columns
_MAX_NAME = 200
LARGEST = 3.4e38  # of a float32
MISSING = {"", "-", "?", "na", "n/a", "#n/a", "nan", "null", "none", "missing", "bad", "no data"}
NAMES = {
    "time": ("time", "timestamp", "datetime", "date", "t", "time_s", "seconds"),
    "x": ("x",), "y": ("y",), "z": ("z",),
    "quantity": ("quantity", "variable", "measurement", "field", "parameter"),
    "value": ("value", "reading", "val"), "unit": ("unit", "units", "uom"),
    "sensor": ("sensor", "sensor_id", "tag", "tagname", "channel", "name"),
    "uncertainty": ("uncertainty", "sigma", "standard_uncertainty"),
}  # fmt: skip


class _Series(NamedTuple):
    """Readings of one quantity by one sensor in one place and unit, and how they are converted."""

    number: int  # the same for every unit
    factor: float
    offset: float
    uncertainty: float  # of a reading that has none of its own, converted


def _counts(line: str) -> bool:
    return not line.isspace() and not line.lstrip().startswith("#")


def _first_of(lines: Iterator[str]) -> tuple[list[str], str]:
    """Return the header of a table, and what parts its cells."""
    first = next(lines, "")
    delimiter = max(",;\t", key=first.count)
    return [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])], delimiter


def sensor_columns(path: Path) -> list[str]:
    """Return the columns of a table with one for each sensor; none where rows are readings."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, _ = _first_of(filter(_counts, file))
    if {name.lower() for name in header}.intersection(NAMES["value"]):
        return []
    return [name for name in header if name and name.lower() not in NAMES["time"]]


_Reading = tuple[str, _Series, str, str]  # time, series, value, uncertainty, as they are written


class Log:
    """All readings of a table in UTF-8, in the order of its rows; values in their quantity's unit.

    Cells are parted by `,`, `;` or tab, whichever the header has most of, and may be quoted; unless
    it is `,`, a number may have a comma for its point. Blank lines, and lines that begin with `#`,
    are skipped; so is a byte order mark. The first time decides whether times are seconds or dates;
    dates are counted from it. Those with a zone may have different ones, since each is one moment;
    those without are taken as they stand, and both are not mixed. A quantity has the unit that is
    `wanted`, or else the first one that is read.

    Attributes are as those of `Readings`, and `numbers`, which series each reading is part of;
    `unreadable`, how many cells are empty or have a word for it such as NaN; `ignored` columns.

    Raises:
        InputError: There is no such file or no reading, or a cell is not what its column has.
    """

    def __init__(self, path: Path, rules: SensorRules, wanted: Mapping[str, str]) -> None:
        self.path, self._wanted, self._line = path, wanted, 0
        self.unreadable = 0
        self.units: dict[str, str] = {}
        self.sensors: dict[str, int] = {}
        self.quantities: dict[str, int] = {}
        self.places: dict[tuple[float, ...], int] = {}
        self.series: dict[tuple[int, int, int], int] = {}
        self.clock = Clock()
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                self._read(self._lines(file), rules)
        except UnicodeDecodeError:
            raise InputError(
                f"{path} is not UTF-8 text (after line {self._line}); save it as CSV in UTF-8"
            ) from None
        except OSError as error:
            raise InputError(
                f"{path} cannot be read: {error.strerror or error}; expected a CSV file of readings"
            ) from None
        except csv.Error as error:
            raise self._error(
                f"{first_line(error)}; expected quotes around whole cells: correct the row"
            ) from None

    def _lines(self, file: Iterable[str]) -> Iterator[str]:
        for self._line, line in enumerate(file, 1):
            if _counts(line):
                yield line

    def _read(self, lines: Iterator[str], rules: SensorRules) -> None:
        self._header, delimiter = _first_of(lines)
        self._comma = delimiter != ","
        if not rules.columns and not {"quantity", "value"} & {c.lower() for c in self._header}:
            named = {c: c.partition(".") for c in self._header if "." in c or c in self._wanted}
            columns = {c: Sensor(quantity=q, units="", place=p) for c, (q, _, p) in named.items()}
            rules = rules.model_copy(update={"columns": columns})
        self._check_header(rules)
        rows = self._rows(csv.reader(lines, delimiter=delimiter, strict=True))
        seconds = lru_cache(1)(self._seconds)  # of sensors that are read at once
        times, numbers, values, sigmas = array("d"), array("i"), array("d"), array("d")
        for time, of, value, sigma in (self._wide if rules.columns else self._long)(rows, rules):
            if (number := self._number(value, "value")) is None:
                self.unreadable += 1
                continue
            times.append(seconds(time))
            numbers.append(of.number)
            values.append(number * of.factor + of.offset)
            given = self._number(sigma, "uncertainty", 0.0) if sigma else None
            sigmas.append(of.uncertainty if given is None else given * abs(of.factor))
        if not times:
            raise InputError(
                f"{self.path} has no readings ({self.unreadable} cells without a value); expected "
                "rows with numbers below the header"
            )
        self.time, self.value, self.uncertainty = map(np.frombuffer, (times, values, sigmas))
        self.numbers = np.frombuffer(numbers, np.int32)

    def _check_header(self, rules: SensorRules) -> None:
        header, sensors = self._header, rules.columns
        names = [name.lower() for name in header]
        twice = sorted({name for name in names if name and names.count(name) > 1})
        if twice or not any(names):
            found = f"the columns {', '.join(twice)} twice" if twice else "no header"
            raise InputError(
                f"{self.path} has {found}; expected a first line that names each column, such as "
                "time,x,quantity,value,unit"
            )
        self._columns = {
            what: next((names.index(name) for name in known if name in names), -1)
            for what, known in NAMES.items()
        }
        needed = ("time",) if sensors else ("time", "quantity", "value")
        if lacking := [name for name in needed if self._columns[name] < 0]:
            raise InputError(
                f"{self.path} has no column {lacking[0]!r} (it has {', '.join(header)[:300]}); "
                "expected time,x,y,quantity,value,unit, or one column for each sensor and "
                "`sensors: {columns: …}` in a mapping file"
            )
        if missing := [name for name in sensors if name not in header]:
            raise InputError(
                f"{self.path}: the mapping file names column {missing[0]!r}; the file has "
                f"{', '.join(header)[:500]}"
            )
        used = {header[at] for at in self._columns.values() if at >= 0}
        self.axes = tuple(axis for axis in SPACE if self._columns[axis] >= 0)
        if sensors:
            used = {header[self._columns["time"]], *sensors}
            given = sensors.values()
            self.axes = tuple(a for a in SPACE if any(getattr(s, a) is not None for s in given))
        self.ignored = tuple(name for name in header if name and name not in used)

    def _rows(self, reader: Iterable[list[str]]) -> Iterator[list[str]]:
        width = len(self._header)
        for cells in reader:
            if len(cells) != width:
                raise self._error(
                    f"{len(cells)} cells; expected {width}, as in the header: complete the row, or "
                    "remove it"
                )
            yield cells

    def _long(self, rows: Iterable[list[str]], _: SensorRules) -> Iterator[_Reading]:
        known: dict[tuple[str, ...], _Series] = {}
        time, value, sigma = (self._columns[name] for name in ("time", "value", "uncertainty"))
        of = [self._columns[name] for name in ("sensor", "quantity", "unit", *self.axes)]
        for cells in rows:
            key = tuple([cells[at] if at >= 0 else "" for at in of])
            if (series := known.get(key)) is None:
                sensor, quantity, unit, *at = key
                given = zip(self.axes, at, strict=True)
                place = {axis: self._number(text, axis) for axis, text in given}
                series = self._found(f"line {self._line}", sensor, quantity, unit, place)
                known[key] = series
            yield cells[time], series, cells[value], cells[sigma] if sigma >= 0 else ""

    def _wide(self, rows: Iterable[list[str]], rules: SensorRules) -> Iterator[_Reading]:
        sensors = []
        for name, sensor in rules.columns.items():
            place = {axis: getattr(sensor, axis) for axis in self.axes}
            sigma = math.nan if sensor.uncertainty is None else sensor.uncertainty
            called, said = name if sensor.units else sensor.place, (sensor.quantity, sensor.units)
            of = self._found(f"column {name}", called, *said, place, sigma)
            sensors.append((self._header.index(name), of))
        for cells in rows:
            for at, series in sensors:
                yield cells[self._columns["time"]], series, cells[at], ""

    def _found(
        self, where: str, sensor: str, quantity: str, unit: str,
        place: Mapping[str, float | None], uncertainty: float = math.nan,
    ) -> _Series:  # fmt: skip
        """Return a series, a new one if there is none like it; `where` is for messages."""
        where = f"{self.path}, {where}"
        given = {axis: float(number) for axis, number in place.items() if number is not None}
        if given and len(given) < len(place):
            shown = ", ".join("" if n is None else f"{n:g}" for n in place.values())
            raise InputError(
                f"{where}: position {shown} is not complete; expected a number for each of "
                f"{', '.join(self.axes)}, or none where readings hold for all of the plant"
            )
        sensor, quantity, unit = (" ".join(text.split()) for text in (sensor, quantity, unit))
        head, _, at = quantity.partition(".")
        if at and not sensor and head in self._wanted:
            sensor, quantity = at, head
        name = sensor or " ".join(f"{axis}={at!r}" for axis, at in given.items()) or quantity
        if not quantity or max(len(name), len(quantity), len(unit)) > _MAX_NAME:
            raise InputError(
                f"{where}: quantity {quantity[:40]!r}; expected names of 1 to {_MAX_NAME} "
                "characters: name what is measured"
            )
        wanted = self._wanted.get(quantity, self._wanted.get(field_name(quantity)))
        unit = unit or wanted or "1"
        target = self.units.setdefault(quantity, wanted or unit)
        factor, offset = conversion(unit, target, f"{where}: {quantity}")
        key = (
            self.sensors.setdefault(name, len(self.sensors)),
            self.places.setdefault(tuple(given.values()), len(self.places)) if given else NOWHERE,
            self.quantities.setdefault(quantity, len(self.quantities)),
        )
        if (number := self.series.setdefault(key, len(self.series))) >= MAX_SERIES:
            raise InputError(
                f"{where}: more than {MAX_SERIES} sensors and places; expected sensors that stay "
                "where they are: is a column of readings named like one of positions?"
            )
        return _Series(number, factor, offset, uncertainty * abs(factor))

    def _number(self, text: str, column: str, least: float = -LARGEST) -> float | None:
        """Return a number, None where the cell is empty or has a word for a missing one."""
        try:
            number = float(text.replace(",", ".") if self._comma else text)
            if least <= number < LARGEST and "_" not in text:
                return number
        except ValueError:
            pass
        if text.strip().lower() in MISSING:
            return None
        kind = "a number" if least else "a number that is not negative"
        raise self._error(
            f"{text[:40]!r}; expected {kind} (or nothing, where there is none): correct the cell",
            f", {column}",
        )

    def _seconds(self, text: str) -> float:
        try:
            return self.clock.seconds(text.replace(",", ".") if self._comma else text)
        except ValueError as error:
            raise self._error(f"time {text[:40]!r}; {error}") from None

    def _error(self, text: str, column: str = "") -> InputError:
        return InputError(f"{self.path}, line {self._line}{column}: {text}")


def field_name(quantity: str) -> str:
    """Return the name that a quantity has as a field: letters, digits and underscores."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", quantity).strip("_")
    return name if name[:1].isalpha() else f"q_{name}".rstrip("_")


def posix_seconds(epoch: str | None) -> float:
    """Return the seconds of an epoch since 1970, taken as UTC where it has no zone; 0 for None."""
    if epoch is None:
        return 0.0
    date = datetime.fromisoformat(epoch)
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


@dataclass(frozen=True, eq=False)
class Readings:
    """Readings in the order of their times; those of one time in the order of the file."""

    time: np.ndarray  # seconds, as the file has them, or since `epoch`; (readings,), float64
    value: np.ndarray  # in the unit of its quantity, (readings,), float64; finite
    uncertainty: np.ndarray  # standard, in the same unit; NaN where there is none
    series: np.ndarray  # number of each reading's series, (readings,), int32
    series_sensor: np.ndarray  # number of the sensor of each series, (series,)
    series_place: np.ndarray  # of its place; `NOWHERE` where it has none
    series_quantity: np.ndarray
    sensors: tuple[str, ...]  # names; made of the place where the file has none
    quantities: tuple[str, ...]
    places: np.ndarray  # distinct ones, (places, axes), float64, in `SensorRules.position_units`
    axes: tuple[str, ...]  # of the positions: those of x, y, z that the file has
    units: Mapping[str, str]  # of each quantity
    epoch: str | None  # date of time 0, the first reading's, ISO 8601; None where times are seconds

    def __len__(self) -> int:
        return len(self.time)


def read_readings(
    path: Path, rules: SensorRules, units: Mapping[str, str] | None = None
) -> Readings:
    """Read a file into memory; see `Log`.

    `units` are those that quantities are to have, by name; the first one that is read, where one is
    not named there. A reading whose unit the file does not say has this unit, or none.
    """
    log = Log(path, rules, units or {})
    time, value, uncertainty, series = log.time, log.value, log.uncertainty, log.numbers
    if (np.diff(time) < 0).any():
        order = np.argsort(time, kind="stable")
        time, value, uncertainty, series = (a[order] for a in (time, value, uncertainty, series))
    sensor, place, quantity = np.array(list(log.series), dtype=np.int32).T
    epoch = log.clock.date(float(time[0]))
    return Readings(
        time=time - (time[0] if epoch else 0.0), value=value, uncertainty=uncertainty,
        series=series, series_sensor=sensor, series_place=place, series_quantity=quantity,
        sensors=tuple(log.sensors), quantities=tuple(log.quantities),
        places=np.array(list(log.places), dtype=np.float64).reshape(len(log.places), len(log.axes)),
        axes=log.axes, units=dict(log.units), epoch=epoch,
    )  # fmt: skip


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
